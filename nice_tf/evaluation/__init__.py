"""The likelihood that is reported."""
