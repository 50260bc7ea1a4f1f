"""A duty that one node at a time does for the job, and that another takes over when it dies."""

from __future__ import annotations

from ingest.ledger import Ledger, scripts
from ingest.redis_client import redis_errors

DUTY_TTL_S = 10.0


class Duty:
    """The coordinator's duty of a job. Held while it is renewed, at least every third of its time to live."""

    def __init__(self, ledger: Ledger, holder: str, ttl_s: float = DUTY_TTL_S) -> None:
        self._ledger = ledger
        self._holder = holder
        self._ttl_ms = int(ttl_s * 1000)
        self._hold = ledger.client.register_script(scripts.HOLD)
        self._let_go = ledger.client.register_script(scripts.LET_GO)

    def hold(self) -> bool:
        """Take or renew the duty. False where another node has it."""
        with redis_errors(self._ledger.url):
            return bool(self._hold(keys=[self._ledger.key("coordinator")], args=[self._holder, self._ttl_ms]))

    def let_go(self) -> None:
        """Give the duty up at once, if it is ours."""
        with redis_errors(self._ledger.url):
            self._let_go(keys=[self._ledger.key("coordinator")], args=[self._holder])
