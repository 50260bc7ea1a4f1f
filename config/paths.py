"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo


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


def from_config_folder(path: Path, info: ValidationInfo) -> Path:
    """The path as every node will read it: absolute, and without ``..`` as a person reads that."""
    if "\0" in str(path):
        raise ValueError("has a NUL character; no path has")
    base_dir = (info.context or {}).get("base_dir")
    path = from_home(path)
    if base_dir is None or path.is_absolute():
        return path
    return Path(os.path.normpath((Path(base_dir) / path).absolute()))


def _not_empty(path: object) -> object:
    """No path is taken for the config's own folder: a shell's variable that is not set says nothing."""
    if path == "":
        raise ValueError("is empty; expected a path (`.` is the folder of the config)")
    return path


ConfigPath = Annotated[Path, AfterValidator(from_config_folder), BeforeValidator(_not_empty)]
"""A path in a config. A relative one is taken from the folder of the config file."""
