"""How long a screen waits while Redis is away."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ingest.cli.screens import Screen
from ingest.errors import RedisError


@dataclass(slots=True)
class Patience:
    """Waits for Redis as nodes do, for ``INGEST_REDIS_PATIENCE_S``."""

    patience_s: float
    _lost_s: float | None = None

    def rest(self) -> None:
        """Redis answers."""
        self._lost_s = None

    def bear(self, error: RedisError, screen: Screen) -> None:
        """Redis does not answer: say so.

        Raises:
            RedisError: this one, where it has been away for too long.
        """
        self._lost_s = self._lost_s or time.monotonic()
        waited_s = time.monotonic() - self._lost_s
        if waited_s > self.patience_s:
            raise error
        screen.trouble(f"{error.what}; waiting, {waited_s:.0f} s so far")
