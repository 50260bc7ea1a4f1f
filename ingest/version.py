"""The version of Ingest, and of what it writes into Redis."""

__version__ = "0.1.0"

LEDGER_FORMAT = 1
"""Raised when a job in Redis changes so that an older node would misread it."""
