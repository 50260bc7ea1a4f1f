"""Places in a listing: where the keys that are looked for begin, so that little else is listed."""

from __future__ import annotations

import os
from collections.abc import Sequence


def common_folder(keys: Sequence[str]) -> str:
    """The folder that all sorted keys lie in, with its slash, or ""."""
    common = os.path.commonprefix([keys[0], keys[-1]]) if keys else ""  # noqa: RUF071 - by character is meant
    return common[: common.rfind("/") + 1]


def just_before(key: str) -> str:
    """A name that sorts before a key with little between them, its last character lowered or cut; "" is the begin."""
    head, last = key[:-1], key[-1]
    return head + chr(ord(last) - 1) if "1" <= last <= "~" else head.rstrip("./")
