"""A server that says for how long it wants to be left alone is."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest

from ingest.stores.retry import RetryingStore
from ingest.stores.vendor_errors import retry_after_s
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import keys, probed, put
from tests.stores.proxy import Request, Response, error, proxied

LEFT_ALONE_S = 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "100000"}, 300),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:09 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "Wed, 21 Oct 2015 07:28:09 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:09 GMT"}, 0),
    ],
)
def test_what_an_answer_asks_for(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(headers) == seconds


def test_a_busy_server_is_left_alone_by_all_threads(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused_s: list[float] = []
    came_s: list[float] = []

    def busy(request: Request, forward: Callable[[Request], Response]) -> Response:
        came_s.append(time.monotonic())
        if len(refused_s) < 4:
            refused_s.append(time.monotonic())
            answer = error(503, "SlowDown")
            return replace(answer, headers=[*answer.headers, ("Retry-After", str(LEFT_ALONE_S))])
        return forward(request)

    with proxied(rclone_s3) as (server, proxy):
        destination = s3_destination(server, monkeypatch)
        store = RetryingStore(probed(destination), 10, first_wait_s=0.01)
        proxy.handle = busy

        put(store, "first", b"1")
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(put, store, f"then-{number}", b"2") for number in range(4)]:
                done.result()

        # the first refusal came through obstore, which does not tell its headers; the others are heeded
        gaps_s = [later - earlier for earlier, later in pairwise(came_s[:5])]
        assert all(gap_s >= LEFT_ALONE_S for gap_s in gaps_s[1:]), gaps_s
        assert keys(store) == ["first", "then-0", "then-1", "then-2", "then-3"]
        store.close()
