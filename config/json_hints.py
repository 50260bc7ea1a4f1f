"""What was probably meant where a config is no JSON."""

from __future__ import annotations

_COMMENT = 'JSON has no comments, but a key that begins with // is one: "// why": "..."'
_QUOTES = 'text stands in straight double quotes: "like this"'
_WORDS = "JSON writes true, false and null"
_REMEDIES = (
    (("//", "/*", "#"), _COMMENT),
    (("'", "‘", "’", "“", "”", "„", "«"), _QUOTES),
    (("True", "False", "None"), _WORDS),
    (("\\",), "a backslash in text is written twice"),
)
"""By what stands where it was not expected."""


def json_hint(text: str, position: int) -> str | None:
    """What to do about ``text`` that is JSON only up to the character at ``position``."""
    before, after = text[:position].rstrip(), text[position:].lstrip()
    if before[-1:] == "," and after[:1] in tuple(",]}"):
        return "is there a comma too many before it?"
    for begins, remedy in _REMEDIES:
        if after.startswith(begins):
            return remedy
    if not after:
        return "it ends too early: is a bracket not closed?"
    return None if before else "a config is JSON, and begins with {"
