"""PiCaS: the pilot-job framework with a token pool."""

__version__ = "2.0.0.dev0"
