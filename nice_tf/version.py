"""The version of the package, which runs and exports note."""

__version__ = "0.1.0"
