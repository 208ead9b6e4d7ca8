"""The version of the package, which runs and exports note."""

__version__ = "0.2.0"
