"""CSV and Parquet files: read as one table, and their columns found out."""
