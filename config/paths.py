"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path


def from_home(path: Path) -> Path:
    """The path, where it begins with ``~`` from that user's home folder.

    Raises:
        ValueError: there is no such user, or this one has no home.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            f"{str(path)!r} begins with the home folder of a user whom this machine does not know"
        ) from None
