"""A store that takes other objects and not this one fails the item; one in trouble is waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.errors import KeyConflict, KeyInvalid
from ingest.workers.patience import PatientStore
from ingest.workers.watch import Watch
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import MIB, keys, large_file, meta_of, probed, put
from tests.stores.proxy import Request, Response, error, proxied


class Paused(Exception):
    """The store is waited for."""


def patient(destination: Destination) -> PatientStore:
    """A store that is probed; a wait for it raises."""

    def pause(reason: str, for_all: bool) -> None:
        raise Paused(reason)

    return PatientStore(probed(destination), Watch(), pause, lambda: None)


def test_a_key_that_a_server_never_takes_is_its_items_fault(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto_server answers 404 to every key with a newline."""
    store = patient(s3_destination(moto_s3, monkeypatch))
    with pytest.raises(KeyInvalid, match=r"404 \(key 'new\\nline'\), though it takes other objects"):
        put(store, "new\nline")
    put(store, "plain")
    assert keys(store) == ["plain"]
    assert keys(store, ".ingest/") == []


def test_a_large_file_under_such_a_key_fails_too(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = patient(s3_destination(moto_s3, monkeypatch))
    path, body = large_file(tmp_path, 6 * MIB)
    with pytest.raises(KeyInvalid, match="though it takes other objects"):
        store.put_file("new\nline", path, meta_of(body))


@pytest.mark.parametrize(("there", "key"), [("run/x", "run/x/y"), ("run", "run/x/y")])
def test_an_object_where_a_server_needs_a_folder_is_a_conflict(
    rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, there: str, key: str
) -> None:
    """rclone keeps objects as files, and answers 500 for ever."""
    store = patient(s3_destination(rclone_s3, monkeypatch))
    put(store, there, b"of others")
    with pytest.raises(KeyConflict, match=f"it holds '{there}', and cannot keep an object and a folder"):
        put(store, key)
    assert store.read_bytes(there) == b"of others"


def test_an_object_whose_name_is_a_folder_is_a_conflict(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(moto_s3) as (server, proxy):
        store = patient(s3_destination(server, monkeypatch))
        put(store, "run/x/y/z", b"of others")
        proxy.handle = answering(error(500, "InternalError"), times=1000, part="run/x")
        with pytest.raises(KeyConflict, match="it holds 'run/x/y/z', and cannot keep an object and a folder"):
            put(store, "run/x")


def answering(answer: Response, *, times: int, part: str) -> Callable[..., Response]:
    """A server that gives this answer to some puts whose path has this part in it."""
    left = [answer] * times

    def handle(request: Request, forward: Callable[[Request], Response]) -> Response:
        is_one = request.method == "PUT" and part in request.path and left
        return left.pop() if is_one else forward(request)

    return handle


@pytest.mark.parametrize(
    "answer", [error(500, "InternalError"), error(400, "Odd"), error(404, ""), error(503, "SlowDown")]
)
def test_a_server_that_takes_nothing_is_waited_for(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, answer: Response
) -> None:
    with proxied(moto_s3) as (server, proxy):
        store = patient(s3_destination(server, monkeypatch))
        proxy.handle = answering(answer, times=1000, part="/")
        with pytest.raises(Paused):
            put(store, "run/x")


def test_a_500_for_one_key_alone_is_waited_for(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is nearly full takes the small object of a trial, and no larger one."""
    with proxied(moto_s3) as (server, proxy):
        store = patient(s3_destination(server, monkeypatch))
        proxy.handle = answering(error(500, "InternalError"), times=1000, part="/x")
        with pytest.raises(Paused, match="500 InternalError"):
            put(store, "run/x")


def test_an_odd_answer_that_does_not_come_again_fails_nothing(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(moto_s3) as (server, proxy):
        store = patient(s3_destination(server, monkeypatch))
        proxy.handle = answering(error(404, ""), times=1, part="/x")
        put(store, "run/x")
        assert keys(store) == ["run/x"]
