"""The contract that every store keeps: :class:`ingest.stores.base.Store`, tried on each of them."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from ingest.config import Destination
from ingest.errors import (
    ChecksumMismatch,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    SourceChanged,
    SourceMissing,
    Stopped,
    StoreError,
)
from ingest.stores.base import Capabilities, Checksum, ObjectMeta, Store, Transfer
from ingest.stores.objects import ObjectStore
from tests.stores.conftest import KINDS, OpenStore
from tests.stores.helpers import MIB, UPLOAD, Records, keys, large_file, meta_of, put

KEYS = [
    "plain.txt",
    "with spaces and  two",
    "deep/er/and/deeper/still.bin",
    "grüße/日本語/😀.png",
    "cafe\u0301",
    "+%&#?=;:@,$!*'()[]{}|<>^`~\"\\",
    "100%25 %2F sure",
    "a=b&c=d",
    "trailing.",
    "..dots..",
    "nbsp\u00a0and\u3000wide",
    "x" * 255,
]
"""Keys that users have."""
ODD_KEYS = ["new\nline", "tab\tand\x01control", "\x7fdelete/c1\x85"]
"""Keys that file names can make, which moto_server answers with 404."""


@pytest.mark.parametrize("key", [*KEYS, *ODD_KEYS])
def test_any_key_is_stored_read_listed_and_deleted(store: Store, kind: str, key: str) -> None:
    if kind in ("moto", "obstore") and key in ODD_KEYS:
        pytest.skip("moto_server has no control characters in keys")
    body = key.encode()
    stored = store.put(key, body, meta_of(body, content_type="text/plain"))
    assert (stored.key, stored.size_bytes) == (key, len(body))
    assert store.read_bytes(key) == body
    found = store.stat(key)
    assert found is not None
    assert (found.key, found.size_bytes, found.sha256) == (key, len(body), hashlib.sha256(body).hexdigest())
    assert keys(store) == [key]
    assert keys(store, key) == [key]
    assert keys(store, after=key) == []
    store.delete([key])
    assert store.stat(key) is None
    assert keys(store) == []


def test_a_key_that_is_too_long_is_the_items_fault(store: Store, kind: str, tmp_path: Path) -> None:
    """The 1,024 bytes are those of the whole key, with the destination's prefix."""
    if kind == "file":
        pytest.skip("a folder's own limits are another matter")
    path, body = large_file(tmp_path, 6 * MIB)
    longest = "/".join(["x" * 200] * 5) + "/" + "y" * 4
    put(store, longest)
    for key in (longest + "y", longest + "\x01", "/".join(["é" * 100] * 6)):
        with pytest.raises(KeyInvalid, match="with 'a prefix/below/' before it"):
            put(store, key)
        with pytest.raises(KeyInvalid):
            store.put_file(key, path, meta_of(body), transfer=Transfer(records=Records()))
        with pytest.raises(KeyInvalid):
            store.check_key(key)
    assert keys(store) == [longest]


def test_a_key_with_a_control_character_is_refused_where_it_cannot_be_named(store: Store, kind: str) -> None:
    for key in ODD_KEYS:
        if kind == "obstore":
            with pytest.raises(KeyInvalid, match="control character"):
                put(store, key)
        else:
            store.check_key(key)


@pytest.mark.parametrize("size_bytes", [0, 1, 65_537, 3 * MIB + 1])
def test_bodies_of_any_size_come_back(store: Store, size_bytes: int) -> None:
    body = hashlib.shake_128(b"x").digest(size_bytes)
    put(store, "sized", body)
    pieces = list(store.read("sized"))
    assert b"".join(pieces) == body
    assert all(len(piece) <= 8 * MIB for piece in pieces)
    found = store.stat("sized")
    assert found is not None
    assert found.size_bytes == size_bytes


def test_metadata_comes_back_where_capabilities_say_so(store: Store) -> None:
    put_meta = ObjectMeta(hashlib.sha256(b"1").hexdigest(), "image/png", {"job": "j 1", "source": "a/b c"})
    store.put("m", b"1", put_meta)
    found = store.stat("m")
    assert found is not None
    assert found.metadata == (dict(put_meta.metadata) if store.capabilities.metadata else {})


def test_a_put_replaces(store: Store) -> None:
    put(store, "k", b"old and long")
    put(store, "k", b"new")
    assert store.read_bytes("k") == b"new"


def test_a_put_if_absent_leaves_what_is_there(store: Store) -> None:
    if not store.capabilities.if_absent:
        pytest.skip("this server ignores If-None-Match, and its probe found that out")
    put(store, "k", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        put(store, "k", b"second", if_absent=True)
    assert store.read_bytes("k") == b"first"


def test_what_is_not_there_is_none_or_missing_and_may_be_deleted(store: Store) -> None:
    assert store.stat("nothing/here") is None
    with pytest.raises(ObjectMissing):
        store.read_bytes("nothing/here")
    store.delete(["nothing/here", "nor here"])
    store.delete([])
    store.abort_upload("nothing/here", "")
    store.abort_upload("nothing/here", "no-such-upload")
    assert keys(store) == []


def test_repeating_stat_read_and_delete_changes_nothing(store: Store) -> None:
    put(store, "k", b"1")
    assert store.stat("k") == store.stat("k")
    assert store.read_bytes("k") == store.read_bytes("k") == b"1"
    store.delete(["k"])
    store.delete(["k"])
    assert store.stat("k") is None


NAMES = [
    "a/b",
    "a-b",
    "a.b/c",
    "a",
    "B",
    "a/c/d",
    "ab/x",
    "é",
    "z",
    "\uffee",
    "\U0001f600",
    "a b",
    "a/b-c",
    "a0",
]


def listed_names(kind: str) -> list[str]:
    """Names of the list tests: a folder has no room for both ``a`` and ``a/b``."""
    return [name for name in NAMES if kind in ("moto", "obstore") or name != "a"]


def test_lists_are_in_the_order_of_bytes(store: Store, kind: str) -> None:
    names = listed_names(kind)
    for name in names:
        put(store, name, name.encode())
    in_order = sorted(names, key=str.encode)
    assert keys(store) == in_order
    for place, after in enumerate(in_order):
        assert keys(store, after=after) == in_order[place + 1 :]
    assert keys(store, after="a/b!") == [name for name in in_order if name.encode() > b"a/b!"]
    for prefix in ("a", "a/", "a/b", "a-", "\U0001f600", "nothing", "a/c/d", "a/c/d/"):
        assert keys(store, prefix) == [name for name in in_order if name.startswith(prefix)]
        assert keys(store, prefix, after="a/b") == [
            name for name in in_order if name.startswith(prefix) and name.encode() > b"a/b"
        ]
    assert [found.size_bytes for found in store.list()] == [len(name.encode()) for name in in_order]


def test_manifests_are_listed_only_where_asked_for(store: Store) -> None:
    for key in (".ingest/job/part", ".ingestion", "x"):
        put(store, key)
    assert keys(store) == [".ingestion", "x"]
    assert keys(store, ".ingest") == [".ingestion"]
    assert keys(store, ".ingest/") == [".ingest/job/part"]


def test_a_long_list_has_every_key_once(store: Store, kind: str) -> None:
    names = [f"f/{number:04}" for number in range(203 if kind == "file" else 1203)]  # S3 lists 1,000 a page
    if isinstance(store, ObjectStore):
        store.go_by(
            dataclasses.replace(store.capabilities, checksum=Checksum.NONE)
        )  # 1,203 need not be read back
    for name in names:
        put(store, name, b"")
    assert keys(store) == names
    assert keys(store, "f/", after=names[-4]) == names[-3:]
    store.delete(names)
    assert keys(store) == []


@pytest.mark.parametrize("folder", ["", "f/", "g ü/"])
def test_the_first_listed_are_those_of_the_listing(store: Store, kind: str, folder: str) -> None:
    names = [f"{folder}{name}" for name in ("1", "2{", '3"', "4%20", "5", "é")]
    for name in (*names, "z"):
        put(store, name, name.encode())
    store.put(".ingest/part", b"", meta_of(b""))
    for after in (None, *names):
        listed = [*store.list(folder, after=after)]
        assert store.first_listed(folder, after, 3) == listed[:3]
        assert store.first_listed(folder, after, 100) == listed
    assert (kind == "file") == (store.first_listed(folder, None, 1)[0].modified_s is None)


def test_a_probe_leaves_nothing_and_finds_the_same_again(store: Store, kind: str) -> None:
    found = store.capabilities
    assert (
        found
        == {
            "file": Capabilities(
                if_absent=True, checksum=Checksum.READ_BACK, metadata=False, resumable=False
            ),
            "rclone": Capabilities(False, Checksum.MD5, metadata=True, resumable=True, md5_etags=True),
            "moto": Capabilities(True, Checksum.MD5, metadata=True, resumable=True, md5_etags=True),
            "obstore": Capabilities(True, Checksum.MD5, metadata=True, resumable=False, md5_etags=True),
        }[kind]
    )
    assert store.probe() == found
    assert (found.probed_at_s is None) == (kind == "file")
    assert keys(store, ".ingest/") == []
    assert Capabilities.from_dict(found.to_dict()) == found


def test_a_store_opened_with_capabilities_goes_the_same_way(
    store: Store, destination: Destination, open_this: OpenStore
) -> None:
    other = open_this(destination, UPLOAD, store.capabilities)
    assert other.capabilities == store.capabilities
    put(other, "k", b"1")
    assert store.read_bytes("k") == b"1"
    other.close()


@pytest.mark.parametrize("checksum", ["read_back", "none"])
def test_a_forced_checksum_is_used(destination: Destination, open_this: OpenStore, checksum: str) -> None:
    store = open_this(destination.model_copy(update={"checksum": checksum}), UPLOAD)
    assert store.probe().checksum == checksum
    put(store, "k", b"1")
    assert store.read_bytes("k") == b"1"
    store.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"], indirect=True)
def test_a_wrong_hash_is_refused_when_read_back(destination: Destination, open_this: OpenStore) -> None:
    store = open_this(destination.model_copy(update={"checksum": "read_back"}), UPLOAD)
    store.probe()
    with pytest.raises(ChecksumMismatch):
        store.put("k", b"these bytes", meta_of(b"those bytes"))
    assert store.stat("k") is None
    store.close()


@pytest.mark.parametrize("size_bytes", [0, 1000, 5 * MIB, 12 * MIB + 7])
def test_a_file_is_stored_whole(store: Store, tmp_path: Path, size_bytes: int) -> None:
    path, body = large_file(tmp_path, size_bytes)
    sent: list[int] = []
    records = Records()
    meta = meta_of(body, content_type="video/mp4")
    stored = store.put_file("f/large", path, meta, transfer=Transfer(records=records, sent=sent.append))
    assert stored.size_bytes == sum(sent) == size_bytes
    assert store.read_bytes("f/large") == body
    found = store.stat("f/large")
    assert found is not None
    assert (found.size_bytes, found.sha256) == (size_bytes, meta.sha256)
    assert records.ids == {}
    assert keys(store) == ["f/large"]


@pytest.mark.parametrize("size_bytes", [1000, 12 * MIB])
def test_a_file_that_changed_is_not_stored(store: Store, tmp_path: Path, size_bytes: int) -> None:
    path, body = large_file(tmp_path, size_bytes)
    records = Records()
    for changed in (body[:-1] + b"!", body + b"more", body[:-1]):
        path.write_bytes(changed)
        with pytest.raises(SourceChanged):
            store.put_file("f", path, meta_of(body), transfer=Transfer(records=records))
    assert store.stat("f") is None
    assert records.ids == {}


def test_a_file_that_is_gone_is_the_items_fault(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        store.put_file("f", tmp_path / "gone", meta_of(b""))


def test_a_file_put_if_absent_leaves_what_is_there(store: Store, tmp_path: Path) -> None:
    if not store.capabilities.if_absent:
        pytest.skip("this server ignores If-None-Match, and its probe found that out")
    path, body = large_file(tmp_path, 6 * MIB)
    put(store, "f", b"first")
    with pytest.raises(ObjectExists):
        store.put_file("f", path, meta_of(body), if_absent=True, transfer=Transfer(records=Records()))
    assert store.read_bytes("f") == b"first"


@pytest.mark.parametrize("size_bytes", [1000, 12 * MIB])
def test_a_file_is_interrupted_and_goes_on(store: Store, tmp_path: Path, size_bytes: int) -> None:
    path, body = large_file(tmp_path, size_bytes)
    calls: list[None] = []

    def stop_at_second() -> None:
        calls.append(None)
        if len(calls) > size_bytes // (8 * MIB):
            raise Stopped("asked to stop")

    records = Records()
    with pytest.raises(Stopped):
        store.put_file("f", path, meta_of(body), transfer=Transfer(records=records, check=stop_at_second))
    assert store.stat("f") is None
    assert keys(store) == []
    store.put_file("f", path, meta_of(body), transfer=Transfer(records=records))
    assert store.read_bytes("f") == body
    assert records.ids == {}


def test_errors_are_ours_and_name_the_place(store: Store, destination: Destination) -> None:
    with pytest.raises(StoreError) as caught:
        store.read_bytes("nothing")
    assert destination.url in caught.value.what


def test_values_are_frozen(store: Store) -> None:
    stored = store.put("k", b"1", meta_of(b"1"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        stored.key = "other"  # type: ignore[misc]
