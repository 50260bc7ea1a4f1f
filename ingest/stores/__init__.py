"""Stores: where uploads go. :func:`open_store` makes the one that a destination names."""
