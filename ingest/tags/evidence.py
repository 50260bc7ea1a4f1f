"""What a finished offload says of a tag's files: its manifest, read from the destination, and nothing else.

Redis may be gone, and its job with it; the record of offloads on this machine says where to look.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ingest import manifest, offloads
from ingest.config import Destination, Settings, UploadConfig
from ingest.errors import BucketMissing, ConfigError, ObjectMissing
from ingest.items import as_utf8
from ingest.ledger import State
from ingest.manifest_parts import ManifestDamaged, as_path
from ingest.markers import object_key
from ingest.ssh.tag import ROOT
from ingest.stores.base import Store
from ingest.stores.open import open_bucket, open_store
from ingest.stores.retry import RetryingStore

RETRIES = 5
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Row:
    """What a manifest says of one file of a tag.

    Attributes:
        path: below the tag's folder of data.
        size_bytes, mtime_ns: the file's, when it was listed.
        source_sha256: the file's, in hexadecimal; "" where the manifest does not say.
        key: of the object, from the bucket's root.
        stored_bytes, sha256: the object's.
        conversion: how it was made of the file.
        backup: where the backup copy lies; "" where the manifest does not say.
    """

    path: str
    size_bytes: int | None
    mtime_ns: int | None
    source_sha256: str
    key: str
    stored_bytes: int
    sha256: str
    conversion: str
    backup: str


@dataclass(slots=True)
class Offload:
    """A job that offloaded a tag.

    Attributes:
        trouble: why it proves nothing; "" where it may.
        rows: what it says of each file, by its path on the tag.
        twice: the paths of which it says several things.
        bucket: where the objects are.
        capture_service: what recorded on the tag; None where there is none.
    """

    job_id: str
    trouble: str = ""
    rows: dict[str, Row] = field(default_factory=dict)
    twice: frozenset[str] = frozenset()
    bucket: Store | None = None
    capture_service: str | None = None


def offloads_of(device: str, root: str, settings: Settings) -> list[Offload]:
    """What the offloads of a tag say, the latest first.

    Args:
        root: the folder on the tag whose files are asked about.

    Raises:
        ConfigError: this machine has no record of any.
        StoreError: a destination is out of reach, or refuses.
    """
    records = offloads.read(settings, device)
    if not records:
        raise ConfigError(
            f"this machine has no record of an offload of {device}",
            hint=f"run it on the machine that offloaded the tag, or `ingest tags offload {device}` first",
        )
    return [_offload(device, root, record, settings) for record in reversed(records)]


def _offload(device: str, root: str, record: Mapping[str, Any], settings: Settings) -> Offload:
    job_id = str(record.get("job_id"))
    if not _JOB_ID.fullmatch(job_id) or record.get("device") != device:
        return Offload(job_id, f"the record of the offload {job_id} is not one of {device}")
    try:
        destination = Destination.model_validate(record.get("destination"))
    except ValidationError:
        return Offload(job_id, f"the record of the offload {job_id} names no destination")
    upload = UploadConfig()
    store = RetryingStore(open_store(destination, upload), RETRIES)
    try:
        summary = _summary(store, job_id)
        params = _checked(summary, job_id, device, root, destination)
        rows, twice = _rows(store, job_id, device, destination.prefix, settings, summary)
    except _ProvesNothing as error:
        return Offload(job_id, str(error))
    except ManifestDamaged as error:
        return Offload(job_id, error.what)
    except BucketMissing as error:
        return Offload(
            job_id,
            f"the destination of job {job_id} is gone ({error.what}): bring it back, or offload the tag again",
        )
    bucket = RetryingStore(open_bucket(destination, upload), RETRIES)
    return Offload(job_id, "", rows, twice, bucket, params.get("capture_service", ""))


class _ProvesNothing(Exception):
    """Why."""


def _summary(store: Store, job_id: str) -> Mapping[str, Any]:
    key = f"{manifest.folder(job_id)}job.json"
    try:
        summary = json.loads(store.read_bytes(key))
    except ObjectMissing:
        raise _ProvesNothing(f"job {job_id} has not finished: {store.url} has no {key}") from None
    except ValueError:
        raise _ProvesNothing(f"{key} at {store.url} is garbled") from None
    if not isinstance(summary, dict):
        raise _ProvesNothing(f"{key} at {store.url} is garbled")
    return summary


def _checked(
    summary: Mapping[str, Any], job_id: str, device: str, root: str, destination: Destination
) -> Mapping[str, Any]:
    """The parameters of the path processor of a job that is finished, and is this one."""
    if summary.get("job_id") != job_id:
        raise _ProvesNothing(f"what lies there as job {job_id} is of job {summary.get('job_id')}")
    if summary.get("state") != State.COMPLETE:
        raise _ProvesNothing(
            f"job {job_id} is {summary.get('state')}, not complete (`ingest failures -j {job_id}`)"
        )
    config = summary.get("config")
    config = config if isinstance(config, dict) else {}
    if (config.get("destination") or {}).get("url") != destination.url:
        raise _ProvesNothing(f"job {job_id} went to another destination than its record says")
    params = (config.get("path_processor") or {}).get("params") or {}
    if device not in (params.get("tags") or {}):
        raise _ProvesNothing(f"job {job_id} did not offload {device}")
    taken = str(params.get("root_dir", ROOT)).rstrip("/")
    if taken != root.rstrip("/"):
        raise _ProvesNothing(f"job {job_id} offloaded {taken}/ of {device}, not {root.rstrip('/')}/")
    return dict(params)


def _rows(
    store: Store,
    job_id: str,
    device: str,
    prefix: str,
    settings: Settings,
    summary: Mapping[str, Any],
) -> tuple[dict[str, Row], frozenset[str]]:
    try:
        found = [*manifest.read_manifest(store, job_id, settings.scratch)]
    except ObjectMissing:
        raise _ProvesNothing(f"job {job_id} has no manifest at {store.url}") from None
    stored = sum(row["status"] == "stored" for row in found)  # the others were there already
    if summary.get("objects") != stored:
        raise _ProvesNothing(
            f"the manifest of job {job_id} has {stored} objects; the job stored {summary.get('objects')}"
        )
    rows = [row for one in found if (row := _row(one, device, prefix)) is not None]
    counts = Counter(row.path for row in rows)
    return {row.path: row for row in rows}, frozenset(path for path, count in counts.items() if count > 1)


def _row(row: Mapping[str, Any], device: str, prefix: str) -> Row | None:
    metadata = dict(row["metadata"] or ())
    said, begin = metadata.get("source_path", ""), f"{device}/"
    if metadata.get("device") != device or not row["item"].startswith(begin):
        return None
    item, backup = row["item"].removeprefix(begin), metadata.get("backup", "")
    if item != said:
        item, backup = as_path(item), as_path(backup)  # its name is not UTF-8
        if as_utf8(item) != said:
            return None
    return Row(
        item,
        row["size_bytes"],
        row["mtime"],
        metadata.get("source_sha256", ""),
        object_key(row["key"], metadata, prefix),
        row["stored_bytes"],
        row["sha256"],
        metadata.get("conversion", "as_is"),
        backup,
    )
