"""The version: the package's metadata, `gvsl --version` and `gvsl.__version__` take it from here."""

__version__ = "0.1.0"
