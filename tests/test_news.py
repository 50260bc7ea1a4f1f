from __future__ import annotations

import pytest

from ingest import news
from ingest.news import SAY_AGAIN_S, News


def test_the_same_is_news_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 5.0
    monkeypatch.setattr("ingest.news.time.monotonic", lambda: now_s)
    said = News()
    assert [said.is_new(what) for what in ("a", "a", "b", "a")] == [True, False, True, False]

    now_s += SAY_AGAIN_S
    assert [said.is_new("a"), said.is_new("a")] == [True, False]


def test_what_never_is_the_same_takes_no_memory() -> None:
    said = News()
    assert all(said.is_new(f"key {number}") for number in range(10_000))
    assert len(said._said_s) <= news.SENTENCES_KNOWN
