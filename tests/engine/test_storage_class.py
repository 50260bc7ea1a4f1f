"""Data in a class that cannot be read at once, such as S3's archives."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import StoreError
from ingest.stores.open import open_store
from ingest.verify import verify
from tests.s3_servers import S3Server, s3_destination
from tests.stores.helpers import MIB, UPLOAD
from tests.whole_jobs import done

FILES = {"a": b"1", "b": b"1", "large": bytes(6 * MIB)}


def test_data_is_archived_and_what_is_read_again_is_not(
    tmp_path: Path, redis_url: str, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial object was archived at once, and could not be read: no such job could be made."""
    destination = s3_destination(moto_s3, monkeypatch, prefix="p", storage_class="GLACIER", dedupe="sha256")
    job = done(tmp_path, FILES, destination.model_dump(exclude_none=True))

    client = moto_s3.client()
    listed = client.list_objects_v2(Bucket=destination.url.split("/")[2])["Contents"]
    client.close()
    archived = {found["Key"] for found in listed if found["StorageClass"] == "GLACIER"}
    assert len(archived) == 2
    assert archived < {f"p/{name}" for name in FILES}
    assert len(listed) == 2 + 2 + 3  # two markers and three manifests
    assert not [finding for finding in verify(job, deep=False) if finding.problem]
    assert all("archived" in finding.problem for finding in verify(job, deep=True))

    again = done(tmp_path, FILES, destination.model_dump(exclude_none=True))
    assert again.status().counts.skipped == len(FILES)


def test_a_class_that_the_store_does_not_know_is_told_at_once(
    moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_destination(moto_s3, monkeypatch, storage_class="NO_SUCH"), UPLOAD)
    with pytest.raises(StoreError, match=r"InvalidStorageClass.*\n.*destination\.storage_class"):
        store.probe()
    store.close()
