"""Erasing from a tag what is proven stored, a file at a time. The only module that deletes from a source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ingest import offloads
from ingest.config import Settings
from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.ssh.tag import CAPTURE_SERVICE, Tag
from ingest.tags.evidence import Offload, offloads_of
from ingest.tags.proof import Left, Proof, Prover

RECORDS = ("activating", "active", "reloading", "deactivating")


@dataclass(frozen=True, slots=True)
class Erased:
    """A file that is gone from the tag."""

    proof: Proof


class Cleaning:
    """The erasing of one tag's files. Belongs to one thread.

    Args:
        tag: the tag.
        settings: of the machine that offloaded it.
    """

    def __init__(self, tag: Tag, settings: Settings) -> None:
        self._tag = tag
        self._settings = settings
        self._prover: Prover | None = None
        self._service: str | None = None

    def findings(self) -> Iterator[Proof | Left]:
        """For each file on the tag, as it is listed now, the proof that it may be erased, or why it stays.

        Reads only; may be repeated.

        Raises:
            ConfigError: this machine knows of no offload of this tag, or its scratch folder cannot be written.
            SourceUnreadable: the tag still records, or does not say whether it does.
            SourceAway: the tag is out of reach, or cannot be trusted.
            StoreError: a destination is out of reach.
        """
        try:
            yield from self._findings()
        except OSError as error:  # of tags, stores and backups they are our own by now
            raise ConfigError(
                f"the scratch folder {self._settings.scratch} cannot be used: {error.strerror or error}",
                hint="make room there, or set INGEST_SCRATCH_DIR to a folder with room for the largest object",
            ) from error

    def _findings(self) -> Iterator[Proof | Left]:
        found = offloads_of(self._tag.name, self._tag.files.root, self._settings)
        self._service = _service_of(found)
        self._ensure_silent()
        self._prover = Prover(self._tag.files, found, self._settings.scratch)
        for file in [*self._tag.files.list()]:
            yield self._prover.proof(file)

    def _ensure_silent(self) -> None:
        """Refuse a tag that records: what it writes to is not stored, also where it has a file open that is erased."""
        if self._service is None:
            return
        state = self._tag.capture_state(self._service)
        if state in RECORDS:
            raise SourceUnreadable(
                f"the capture service {self._service!r} of {self._tag.name} is {state}: it may write to any file",
                hint=f"offload the tag again, or log in and run `sudo systemctl stop {self._service}`",
            )

    def erase(self, proof: Proof) -> Erased | Left:
        """Look once more, and erase exactly this file. It is logged before and after.

        Raises:
            SourceUnreadable: the tag records again, as after a restart, or does not say whether it does.
            SourceAway, StoreError: the tag, or the destination, is out of reach. The file may be gone or not, where
                the log says ``erasing`` last.
        """
        assert self._prover is not None
        if reason := self._prover.unchanged(proof):
            return Left(proof.file, reason)
        self._ensure_silent()
        self._log("erasing", proof)
        try:
            self._tag.files.remove(proof.file.path)
        except ItemError as error:
            self._log("kept", proof)
            return Left(proof.file, error.what)
        done = self._gone(proof)
        self._log("erased" if isinstance(done, Erased) else "kept", proof)
        return done

    def _gone(self, proof: Proof) -> Erased | Left:
        try:
            self._tag.files.look(proof.file.path)
        except SourceMissing:
            return Erased(proof)
        return Left(proof.file, "the tag said that it is deleted, and still has it")

    def _log(self, event: Literal["erasing", "erased", "kept"], proof: Proof) -> None:
        record: dict[str, Any] = {
            "event": event,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "device": self._tag.name,
            "path": proof.file.path,
            "size_bytes": proof.file.size_bytes,
            "sha256": proof.sha256,
            "job_id": proof.job_id,
            "key": proof.row.key,
            "destination": proof.bucket.url,
            "conversion": proof.row.conversion,
            "backup": str(proof.backup),
        }
        offloads.log_cleaned(self._settings, record)


def _service_of(found: list[Offload]) -> str | None:
    """What records on a tag, by its last offload; None where nothing does."""
    service = next((one.capture_service for one in found if not one.trouble), "")
    return CAPTURE_SERVICE if service == "" else service
