"""What of a job's objects is not its own to delete: others have written it since, or rely on it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ingest.digests import hashed
from ingest.handle import JobHandle
from ingest.manifest_parts import ManifestDamaged
from ingest.manifest_reading import tables_so_far
from ingest.stores.base import INTERNAL

log = logging.getLogger(__name__)

READERS = 16

Object = tuple[str, str]
"""Key and SHA-256."""


class Others:
    """The other jobs below a job's destination, by what their manifests say when this is made.

    Raises:
        ManifestDamaged: one of them is truncated or garbled, so that nobody can tell.
    """

    def __init__(self, job: JobHandle) -> None:
        self._job = job
        self._whose = _objects_of_others(job)

    def leave(self, objects: Sequence[Object]) -> list[Object]:
        """Those of the objects, which the job stored, that are its own alone still; says why the others stay."""
        relied_on = [pair for pair in objects if _digest(*pair) in self._whose]
        free = [pair for pair in objects if _digest(*pair) not in self._whose]
        with ThreadPoolExecutor(READERS, "own") as readers:
            is_own = [*readers.map(self._is_own, free)]
        own = [pair for pair, still in zip(free, is_own, strict=True) if still]
        if relied_on:
            users = ", ".join(sorted({self._whose[_digest(*pair)] for pair in relied_on}))
            why = f"they are in the manifests of other jobs ({users})"
            log.warning("%d objects that job %s stored stay: %s", len(relied_on), self._job.job_id, why)
        if len(own) < len(free):
            stay = len(free) - len(own)
            log.warning(
                "%d objects that job %s stored stay: they were written again since", stay, self._job.job_id
            )
        return own

    def _is_own(self, pair: Object) -> bool:
        """Whether nobody has written an object since; where the store does not say who did, its bytes tell."""
        key, sha256 = pair
        store = self._job.store
        info = store.stat(key)
        if info is None:
            return True
        if self._job.record.capabilities.metadata:
            return info.job_id == self._job.job_id
        return (info.sha256 or hashed(store.read(key))[0]) == sha256


def _objects_of_others(job: JobHandle) -> Mapping[bytes, str]:
    """The objects that other jobs have in their manifests, as digests, and a job of each."""
    whose: dict[bytes, str] = {}
    others = {info.key.split("/")[1] for info in job.store.list(INTERNAL)} - {job.job_id}
    for other in sorted(others):
        try:
            for table in tables_so_far(job.store, other, job.settings.scratch):
                rows = zip(table["key"].to_pylist(), table["sha256"].to_pylist(), strict=True)
                whose.update((_digest(str(key), str(sha256)), other) for key, sha256 in rows)
        except ManifestDamaged as error:
            hint = "it may name what this job stored: move it away, or cancel without --delete-uploaded"
            raise ManifestDamaged(error.what, hint=hint) from error
    return whose


def _digest(key: str, sha256: str) -> bytes:
    return hashlib.blake2b(f"{sha256} {key}".encode(), digest_size=8).digest()
