"""Commands: `nice-tf NAME --help`. One per file, each thin."""
