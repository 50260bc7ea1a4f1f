"""What is worth a line in a log: what is tried again every few seconds may be in the way for weeks, and fill a disk."""

from __future__ import annotations

import math
import time

SAY_AGAIN_S = 600.0
SENTENCES_KNOWN = 100


class News:
    """Knows what has been said lately. May be used from any thread."""

    def __init__(self) -> None:
        self._said_s: dict[str, float] = {}

    def is_new(self, what: str) -> bool:
        """Whether this was not said within the last ten minutes. If so it counts as said."""
        now_s = time.monotonic()
        if now_s - self._said_s.get(what, -math.inf) < SAY_AGAIN_S:
            return False
        if len(self._said_s) >= SENTENCES_KNOWN:
            self._said_s.clear()
        self._said_s[what] = now_s
        return True
