"""Devices that are reached over SSH: whom to trust, how to log in, and how to read their files quickly."""
