"""Finding out what a store honours, by trying it: S3-compatible servers differ, and few say so.

Everything is written below ``.ingest/probe-<random>`` and deleted again.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import obstore

from ingest.digests import md5_of
from ingest.errors import (
    ConfigError,
    ItemError,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from ingest.stores.base import Capabilities, Checksum, ObjectMeta, Store, probe_key
from ingest.stores.parts import list_parts
from ingest.stores.retry import where_answered_later
from ingest.stores.vendor_errors import BOTO_ERRORS, OBSTORE_ERRORS, from_boto, from_obstore

if TYPE_CHECKING:
    from ingest.stores.objects import ObjectStore
    from ingest.stores.s3 import S3Store


def probe_objects(store: ObjectStore, wanted: str) -> Capabilities:
    """Capabilities of a store that is not S3. Leaves it to the caller that the store goes by them.

    Args:
        wanted: ``destination.checksum``.

    Raises:
        ConfigError: the wanted checksum does not work here.
        StoreError: as :meth:`Store.probe`.
    """
    never = lambda key: False  # noqa: E731
    return _probe(store, wanted, sha256=never, resumable=never, unsigned_body=lambda key, checksum: False)


def probe_s3(store: S3Store, wanted: str) -> Capabilities:
    """Capabilities of an S3 store; as :func:`probe_objects`."""
    return _probe(
        store,
        wanted,
        sha256=lambda key: _refuses_wrong_sha256(store, key),
        resumable=lambda key: _lists_parts(store, key),
        unsigned_body=lambda key, checksum: _may_be_unsigned(store, checksum) and _takes_unsigned(store, key),
    )


@where_answered_later
def _probe(
    store: ObjectStore,
    wanted: str,
    *,
    sha256: Callable[[str], bool],
    resumable: Callable[[str], bool],
    unsigned_body: Callable[[str, Checksum], bool],
) -> Capabilities:
    folder = probe_key()
    body = secrets.token_bytes(1000)
    meta = ObjectMeta(hashlib.sha256(body).hexdigest(), "application/x-ingest-probe", {"probe": "a+b/c=d"})
    keys = [f"{folder}/{name}" for name in ("plain", "absent", "sha256", "parts", "unsigned", "class")]
    trusting = Capabilities(if_absent=True, checksum=Checksum.NONE, metadata=False, resumable=False)
    store.go_by(trusting)
    try:
        has_sha256 = wanted in ("auto", "sha256") and sha256(keys[2])
        if has_sha256:  # a bucket with object lock takes nothing without a checksum
            trusting = replace(trusting, checksum=Checksum.SHA256)
            store.go_by(trusting)
        metadata, md5, probed_at_s = _answers(store, keys[0], body, meta)
        if_absent = _keeps_existing(store, keys[1], body, meta)
        checksum = _choose(store, wanted, sha256=has_sha256, md5=md5)
        found = replace(trusting, if_absent=if_absent, checksum=checksum, metadata=metadata)
        found = replace(found, md5_etags=md5, probed_at_s=probed_at_s)
        found = replace(found, resumable=resumable(keys[3]), unsigned_body=unsigned_body(keys[4], checksum))
        store.try_storage_class(keys[5])
    except BaseException:
        with suppress(StoreError):
            store.delete(keys)
        raise
    store.delete(keys)
    if store.stat(keys[0]) is not None:
        raise StoreRefused(
            f"{store.place}: a deleted object is still there", hint="the credentials must allow to delete"
        )
    return found


def _answers(store: ObjectStore, key: str, body: bytes, meta: ObjectMeta) -> tuple[bool, bool, float | None]:
    """Whether metadata comes back, whether the ETag is the MD5, and when the store says that it was put.

    Fails where reading or listing does.
    """
    etag = (store.put(key, body, meta).etag or "").strip('"')
    found = store.stat(key)
    if found is None or store.read_bytes(key) != body:
        raise StoreError(
            f"{store.place}: what was just stored cannot be read", hint="is a cache or a gateway between?"
        )
    listed = {entry.key: entry for entry in store.list(key)}
    if key not in listed:
        raise StoreError(
            f"{store.place}: what was just stored is not listed", hint="is a cache or a gateway between?"
        )
    metadata = found.sha256 == meta.sha256 and found.metadata == dict(meta.metadata)
    return metadata, etag == md5_of(body) == listed[key].etag, listed[key].modified_s


def _keeps_existing(store: ObjectStore, key: str, body: bytes, meta: ObjectMeta) -> bool:
    """Whether a second conditional write is refused, and a first one is not."""
    try:
        store.put(key, body, meta, if_absent=True)
    except (StoreUnreachable, StoreRefused):
        raise
    except StoreError:
        return False
    try:
        store.put(key, body[::-1], meta, if_absent=True)
    except ObjectExists:
        return store.read_bytes(key) == body
    except (StoreUnreachable, StoreRefused):
        raise
    except StoreError:
        return False
    return False


def _choose(store: Store, wanted: str, *, sha256: bool, md5: bool) -> Checksum:
    """The checksum that is wanted, if it works; for ``auto`` the strongest that does."""
    if wanted in ("read_back", "none"):
        return Checksum(wanted)
    if sha256:
        return Checksum.SHA256
    if wanted == "sha256":
        raise _does_not_work(store, "it takes an object, or a part of one, whose SHA-256 header is wrong")
    if md5:
        return Checksum.MD5
    if wanted == "md5":
        raise _does_not_work(store, "its ETag is not the MD5 of what is stored")
    return Checksum.READ_BACK


def _does_not_work(store: Store, why: str) -> ConfigError:
    return ConfigError(
        f"does not work at {store.url}: {why}", place="destination.checksum", hint="`auto` finds what works"
    )


def _refuses_wrong_sha256(store: S3Store, key: str) -> bool:
    """Whether the server takes an object whose SHA-256 header is right, and refuses an object and a part where it is
    wrong: some that check objects do not look at parts."""
    return _takes(store, key, b"probe") and not _takes(store, key, b"other") and not _takes_part(store, key)


def _takes(store: S3Store, key: str, hashed: bytes) -> bool:
    try:
        store.clients.boto.put_object(**store.named(key), Body=b"probe", ChecksumSHA256=_header(hashed))
    except BOTO_ERRORS as error:
        _raise_unless_an_answer(from_boto(error, store.place, key))
        return False
    return True


def _takes_part(store: S3Store, key: str) -> bool:
    """Whether the server takes a part whose SHA-256 header is that of other bytes."""
    boto, named = store.clients.boto, store.named(key)
    upload_id = None
    try:
        upload_id = boto.create_multipart_upload(**named, ChecksumAlgorithm="SHA256")["UploadId"]
        boto.upload_part(
            **named, UploadId=upload_id, PartNumber=1, Body=b"probe", ChecksumSHA256=_header(b"other")
        )
    except BOTO_ERRORS as error:
        _raise_unless_an_answer(from_boto(error, store.place, key))
        return False
    finally:
        if upload_id is not None:
            with suppress(StoreError):
                store.abort_upload(key, upload_id)
    return True


def _header(hashed: bytes) -> str:
    return b64encode(hashlib.sha256(hashed).digest()).decode()


def _raise_unless_an_answer(error: StoreError | ItemError) -> None:
    """A server that cannot be reached, or that refuses altogether, has not answered what was asked."""
    if isinstance(error, StoreUnreachable | StoreRefused):
        raise error from None


def _may_be_unsigned(store: S3Store, checksum: Checksum) -> bool:
    """Whether nothing is lost without it: TLS protects the body, or the config trusts the connection."""
    if checksum is Checksum.SHA256:
        return False
    return store.clients.is_encrypted or checksum is Checksum.NONE


def _takes_unsigned(store: S3Store, key: str) -> bool:
    """Whether the server takes a body whose hash is not signed. A bucket's policy may refuse it."""
    client = store.clients.obstore(sha256=False, unsigned_body=True)
    try:
        obstore.put(client, key, b"probe", use_multipart=False)
    except OBSTORE_ERRORS as error:
        ours = from_obstore(error, store.place, key)
        if isinstance(ours, StoreUnreachable):
            raise ours from None
        return False
    return True


def _lists_parts(store: S3Store, key: str) -> bool:
    """Whether a multipart upload's parts are listed with size and MD5, and it can be aborted."""
    boto, named = store.clients.boto, store.named(key)
    upload_id = None
    try:
        upload_id = boto.create_multipart_upload(**named)["UploadId"]
        body = b"probe"
        boto.upload_part(**named, UploadId=upload_id, PartNumber=1, Body=body)
        found = [part for part in list_parts(store, key, upload_id) if part.holds(body)]
        store.abort_upload(key, upload_id)
        with suppress(ObjectMissing):
            return len(found) == 1 and not [*list_parts(store, key, upload_id)]
        return len(found) == 1
    except (*BOTO_ERRORS, StoreError) as error:
        ours = error if isinstance(error, StoreError) else from_boto(error, store.place, key)
        if upload_id is not None:
            with suppress(StoreError):
                store.abort_upload(key, upload_id)
        _raise_unless_an_answer(ours)
        return False
