"""Names of files and folders that operating systems make or hide."""

from __future__ import annotations

LOST_AND_FOUND = "lost+found"
"""Where a repair of a disk puts the files whose names it lost."""
SYSTEM_NAMES = frozenset(
    {
        ".ds_store",
        ".fseventsd",
        ".spotlight-v100",
        ".temporaryitems",
        ".trashes",
        "$recycle.bin",
        "@eadir",
        "desktop.ini",
        "ehthumbs.db",
        LOST_AND_FOUND,
        "recycler",
        "system volume information",
        "thumbs.db",
    }
)
"""Names, in lower case, that operating systems leave on cards and drives."""


def hidden_kind(name: str) -> str | None:
    """``system`` or ``hidden`` for a name that operating systems make or hide, else None."""
    if name.startswith("._") or name.lower() in SYSTEM_NAMES:
        return "system"
    return "hidden" if name.startswith(".") else None
