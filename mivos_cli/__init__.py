"""The command line of mivos: options in, calls of `pipelines` and `stores`, results out."""

__version__ = "0.1.0"
