"""Whether this machine's clock is right. A Raspberry Pi has none of its own, and is wrong until it has a network."""

from __future__ import annotations

import time

from ingest.ledger import Ledger

OFF_BY_S = 300
"""S3 refuses what was signed over 15 minutes ago, or before its time."""


def clock_trouble(ledger: Ledger) -> str:
    """What is wrong with this machine's clock, by that of Redis, and how to mend it; or "".

    Raises:
        RedisError: it cannot be asked.
    """
    off_s = time.time() - ledger.now_s()
    if abs(off_s) < OFF_BY_S:
        return ""
    which = "ahead of" if off_s > 0 else "behind"
    return (
        f"this machine's clock is {_span(abs(off_s))} {which} that of Redis; S3 may refuse what it signs: "
        "set it (`timedatectl set-ntp true` where there is a network)"
    )


def _span(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86_400:.0f} days"
