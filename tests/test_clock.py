from __future__ import annotations

import time

import pytest

from ingest.clock import clock_trouble
from ingest.ledger import Ledger


@pytest.mark.parametrize(
    ("off_s", "said"),
    [
        (0, ""),
        (200, ""),
        (-200, ""),
        (1200, "20 minutes ahead of that of Redis"),
        (-5 * 3600, "5.0 hours behind that of Redis"),
        (-20_000 * 86_400, "20000 days behind that of Redis"),
    ],
)
def test_a_clock_is_compared_with_that_of_redis(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, off_s: float, said: str
) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + off_s)
    trouble = clock_trouble(Ledger(redis_url, "j1"))
    assert said in trouble
    assert bool(said) == bool(trouble)
