"""Patterns as in .gitignore, which choose among what a path processor lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pathspec import GitIgnoreSpec
from pydantic import AfterValidator

Choice = Callable[[str, bool], str | None]
"""From a path and whether it is a folder to the kind under which it is left out, or None to take it."""

INCLUDE = "Patterns as in .gitignore (`*.wav`, `/2024/**`, `audio/`): only files that fit one are taken."
EXCLUDE = "Patterns as in .gitignore: files and folders that fit are left out; `!` takes them back."


def _checked(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith("#"):
            raise ValueError(f"{pattern!r} is no pattern, and would fit nothing")
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            raise ValueError(f"{pattern!r} is no pattern: {error}") from None
    return patterns


Patterns = Annotated[tuple[str, ...], AfterValidator(_checked)]


def choice_of(include: Sequence[str], exclude: Sequence[str]) -> Choice:
    """What takes what fits ``include`` (all, where it is empty) and does not fit ``exclude``."""
    wanted = GitIgnoreSpec.from_lines(include) if include else None
    unwanted = GitIgnoreSpec.from_lines(exclude) if exclude else None

    def choice(path: str, is_folder: bool) -> str | None:
        if unwanted is not None and unwanted.match_file(path + "/" if is_folder else path):
            return "excluded"
        if wanted is not None and not is_folder and not wanted.match_file(path):
            return "not included"
        return None

    return choice
