"""The behavioural suite that every store passes."""
