"""Commands: `nice-tf NAME --help`. One a file, each thin."""
