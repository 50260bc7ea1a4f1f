"""Whole jobs, with real commands, a real Redis and a real S3 server."""
