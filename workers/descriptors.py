"""Whether a process can still open files and connections. What a plugin or a library leaks adds up over weeks."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from ingest.errors import ProcessSpent

SPARE = 8
"""An upload or a manifest part needs some at once; others may have let go of theirs since."""


def spent() -> ProcessSpent | None:
    """What is wrong with this process where it has next to no file descriptors left, or None.

    To be asked where something has failed: what it was told by may not say that this was why.
    """
    with ExitStack() as opened:
        try:
            for _ in range(SPARE):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return ProcessSpent(
                    "a process has no file descriptors left, and is ended: something in it leaks them"
                )
    return None
