"""Names of files and folders that operating systems make or hide."""

from __future__ import annotations

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
        "lost+found",
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
