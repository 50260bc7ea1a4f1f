"""Whether a card may be reused: every file on it has two verified copies, in the store and in the backup folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from ingest import manifest
from ingest.card_reading import Reading
from ingest.digests import hashed, pieces_of
from ingest.errors import ItemError, ObjectMissing, Stopped
from ingest.items import FileItem, as_utf8
from ingest.job import Job
from ingest.manifest_parts import as_path, as_text, as_time
from ingest.markers import object_key
from ingest.stores.base import Checksum, ObjectInfo, Store
from ingest.stores.local import is_object
from ingest.verify import listed

READERS = 8
ROWS_AT_ONCE = 1000
PROBLEMS_HELD = 20
NO_FILES = frozenset(("system", "symbolic link", "special file"))
"""What may be left out and yet every file is copied. What a link that leaves the card leads to is not."""


@dataclass(slots=True)
class CardCheck:
    """What was found out about a card.

    Attributes:
        files, size_bytes: what lies on it now.
        has_backup: there is to be a backup copy of each file.
        problem_count, problems: files whose copies are not proven, and the first of them, each with its reason.
        left_out: files that nobody wanted copied, by kind.
    """

    files: int = 0
    size_bytes: int = 0
    has_backup: bool = True
    problem_count: int = 0
    problems: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def is_safe(self) -> bool:
        """Whether every file has two verified copies."""
        return bool(self.files and self.has_backup and not self.problem_count and not self.left_out)

    @property
    def reasons(self) -> list[str]:
        """Why it is not safe to reuse the card."""
        reasons = [] if self.has_backup else ["there is no backup copy: give --backup DIR, on another disk"]
        reasons += [f"left out: {count} {kind}" for kind, count in sorted(self.left_out.items())]
        reasons += self.problems
        if self.problem_count > len(self.problems):
            reasons.append(f"and {self.problem_count - len(self.problems):,} more files")
        return reasons if self.files or reasons else ["there are no files on it"]

    def note(self, item: str, problem: str) -> None:
        """Note a file whose copies are not proven."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_HELD:
            self.problems.append(f"{item}: {problem}")


def check_card(
    job: Job,
    *,
    has_backup: bool,
    read_back: bool = False,
    looked_at: Callable[[FileItem], None] = lambda file: None,
) -> CardCheck:
    """Look at a card, its backup copies and what the store has of it, when its job has ended. Reads only.

    The card is listed anew: a file that is new, or was written since it was listed, has no proven copy. Each backup
    copy is read and hashed, and so is the file on the card, which may be another card by now with the same names, sizes
    and times; no copy may be the file on the card itself. The store must vouch for an object: by an
    ETag that is the MD5 of those same bytes; or, where this job stored it, by the checksum that it confirmed then and
    the ETag that it still has; else it is read back.

    Args:
        read_back: read every object back and hash it.
        looked_at: called with each file that was copied, when its copies have been looked at.

    Raises:
        ObjectMissing: the job has no manifest.
        StoreError, SourceUnreadable: the destination, or the card, cannot be read.
    """
    found = CardCheck(has_backup=has_backup)
    on_card = {_identity(item): item for item in _listing(job, found)}
    found.files = len(on_card)
    found.size_bytes = sum(item.size_bytes or 0 for item in on_card.values())
    copied = set()
    rows = manifest.read_manifest(job.store, job.job_id, job.settings.scratch)
    with _readers() as (readers, check):
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            copies = [
                _Copies(row, item, job, check)
                for row in chunk
                if (item := on_card.get(_identity_in(row))) is not None
            ]
            listing = listed(job.bucket, {one.key for one in copies})
            prove = partial(_problem, job.bucket, listing, has_backup=has_backup, read_back=read_back)
            for one, problem in zip(copies, readers.map(prove, copies), strict=True):
                copied.add(_identity(one.item))
                looked_at(one.item)
                if problem:
                    found.note(one.row["item"], problem)
    for name, _ in sorted(on_card.keys() - copied):
        found.note(name, "has no copy: it failed, or is new on the card")
    return found


@contextmanager
def _readers() -> Iterator[tuple[ThreadPoolExecutor, Callable[[], None]]]:
    """Threads, and what they call for each piece that they read: interrupted, they do not read on to a file's end."""
    interrupted = Event()

    def check() -> None:
        if interrupted.is_set():
            raise Stopped("the check of the card was interrupted")

    with ThreadPoolExecutor(READERS, "card") as readers:
        try:
            yield readers, check
        except BaseException:
            interrupted.set()
            raise


def _identity(item: FileItem) -> tuple[str, str]:
    """What tells a file from all others in a manifest: a name that is not UTF-8 is written there as another may be."""
    return as_text(item.path), as_utf8(item.path)


def _identity_in(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["item"], dict(row["metadata"] or ()).get("source_path", row["item"])


def _listing(job: Job, found: CardCheck) -> Iterator[FileItem]:
    processors = job.processors()
    try:
        yield from processors.files()
        left_out = processors.path.left_out
        found.left_out = {kind: count for kind, count in left_out.items() if kind not in NO_FILES}
    finally:
        processors.close()


class _Copies:
    """A row of the manifest, the file as it lies on the card now and where, and the key of its object in the bucket.

    ``check`` raises to interrupt the reading.
    """

    def __init__(self, row: Mapping[str, Any], item: FileItem, job: Job, check: Callable[[], None]) -> None:
        self.row = row
        self.check = check
        self.item = item
        self.source = Path(job.config.path_processor.params["root_dir"], item.path)
        self.facts = dict(row["metadata"] or ())
        self.key = object_key(row["key"], self.facts, job.config.destination.prefix)

    @property
    def backup(self) -> Path:
        """Where the backup copy lies that the manifest names: with a name that is not UTF-8, or one that looks so."""
        plain = self.facts.get("backup", "")
        escaped = as_path(plain)
        first, second = (
            (plain, escaped) if self.facts.get("source_path") == self.row["item"] else (escaped, plain)
        )
        return Path(first) if Path(first).exists() else Path(second)


def _problem(
    store: Store, listing: Mapping[str, ObjectInfo], copies: _Copies, *, has_backup: bool, read_back: bool
) -> str:
    """What is wrong with the copies of a file; "" where nothing is."""
    row, item = copies.row, copies.item
    if (item.size_bytes, as_time(item.mtime_ns)) != (row["size_bytes"], row["mtime"]):
        return "was written on the card since it was copied"
    md5 = None
    if has_backup:
        problem, md5 = _problem_with_backup(copies, store)
        if problem := problem or _problem_on_card(copies):
            return problem
    if is_object(copies.source, store, copies.key):
        return f"the object {copies.key!r} is the file on the card itself: give --to another folder"
    info = listing.get(copies.key)
    if info is not None and not read_back and _vouches(store, row, info, md5):
        return ""
    return _problem_read_back(store, copies)


def _vouches(store: Store, row: Mapping[str, Any], info: ObjectInfo, md5: str | None) -> bool:
    """Whether the store itself says that an object has the bytes."""
    capabilities = store.capabilities
    if info.etag is None or info.size_bytes != row["stored_bytes"]:
        return False
    if capabilities.md5_etags and info.etag == md5:
        return True
    is_confirmed = row["status"] == "stored" and capabilities.checksum is not Checksum.NONE
    return is_confirmed and info.etag == row["etag"]


def _problem_read_back(store: Store, copies: _Copies) -> str:
    row, key = copies.row, copies.key
    try:
        found = hashed(store.read(key), copies.check)
    except ObjectMissing:
        return f"the object {key!r} is missing at the destination"
    return "" if found == (row["sha256"], row["stored_bytes"]) else f"the object {key!r} has other bytes"


def _problem_with_backup(copies: _Copies, store: Store) -> tuple[str, str]:
    """What is wrong with the backup copy of a file ("" where nothing is), and its MD5."""
    row, path = copies.row, copies.backup
    if copies.facts.get("source_sha256") != row["sha256"] or row["stored_bytes"] != copies.item.size_bytes:
        return "what is stored is not what was on the card", ""
    shown = f"the backup copy {str(path)!r}"
    try:
        sha256, md5 = _digests_of(path, copies.check)
        is_source = path.samefile(copies.source)
    except OSError as error:
        return f"{shown} cannot be read: {error.strerror}", ""
    if sha256 != row["sha256"]:
        return f"{shown} has other bytes", md5
    for is_one, what in (
        (is_source, "file on the card"),
        (is_object(path, store, copies.key), "stored object"),
    ):
        if is_one:
            return f"{shown} is the {what} itself: give --backup another folder", md5
    return "", md5


def _problem_on_card(copies: _Copies) -> str:
    try:
        sha256 = Reading(copies.source, copies.check).sha256()
    except ItemError as error:
        return error.what
    if sha256 == copies.row["sha256"]:
        return ""
    return "has other bytes on the card than were copied: was it written to, or is it another card?"


def _digests_of(path: Path, check: Callable[[], None]) -> tuple[str, str]:
    """The SHA-256 and the MD5 of a file. ``check`` raises to interrupt; it is called for each piece."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for piece in pieces_of(path):
        sha256.update(piece)
        md5.update(piece)
        check()
    return sha256.hexdigest(), md5.hexdigest()
