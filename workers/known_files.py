"""What this machine knows of files that it read before, so that those that did not change need not be read again.

A file is taken to hold what it held then where its path, inode, size, and times of modification and of change are
the same to the nanosecond, as git's index and Borg's files cache do. Only the system sets the time of change.
What is known counts only where the store has an object with the very ETag that those bytes got.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import SourceMissing, SourceUnreadable
from ingest.stores.source import source_error

log = logging.getLogger(__name__)

FILE_NAME = "known-files.sqlite"
MOST_BYTES = 1 << 30
"""Of some ten million files. When it has grown larger, all is forgotten."""
AT_REST_NS = 120_000_000_000
"""A file that was written to so lately may be written to again without another time. What a program has mapped into
memory, as for large arrays, gets none until the system has brought its last change to the disk: half a minute on Linux,
longer where a laptop spares its disk."""
COARSE_NS = 10_000_000
"""FAT and exFAT keep times in hundredths of a second at best, and number files anew each time they are mounted."""
WAIT_FOR_OTHERS_S = 10.0
_FACTS = struct.Struct("<Qqqq")
_PROOF_BYTES = 4


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file's bytes: their SHA-256, the ETag that a store gave them, and further digests."""

    sha256: str
    etag: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file is known again by: 16 bytes that stand for all of it, its size, and its time of change (Unix)."""

    path: str
    name: bytes
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """The state of the file at ``path`` now.

        Raises:
            SourceMissing, SourceUnreadable: it cannot be looked at.
        """
        try:
            found = os.stat(path)  # noqa: PTH116 - quicker than Path's own
        except OSError as error:
            raise source_error(error, Path(path)) from None
        facts = _FACTS.pack(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        name = hashlib.blake2b(facts + os.fsencode(path), digest_size=16).digest()
        return cls(path, name, found.st_size, found.st_ctime_ns)

    @property
    def is_fine(self) -> bool:
        """Whether its disk keeps fine times."""
        return bool(self.changed_ns % COARSE_NS)

    @property
    def is_telling(self) -> bool:
        """Whether other bytes would show from now on: its times are fine, and it has been at rest for a while."""
        return self.is_fine and time.time_ns() - self.changed_ns > AT_REST_NS


class KnownFiles:
    """A machine's record of the files that it read. One for each process, and for one thread of it.

    It may be lost without harm. Where it cannot be used, that is said once, and files are read.

    Args:
        folder: where its file lies; shared by all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._new: list[tuple[bytes, bytes, str, str, bytes]] = []
        self._database: sqlite3.Connection | None = None
        self._open()

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._database = _opened(self._path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                log.warning("%s is garbled (%s), and is begun anew", self._path, error)
                self._path.unlink(missing_ok=True)
                self._database = _opened(self._path)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def find(self, state: FileState) -> Known | None:
        """What is known of a file in this state; None where nothing is.

        Its file stays locked for more such questions, which makes them three times as quick, until one is not answered
        or what was noted is saved. Others can read meanwhile.
        """
        if self._database is None or not state.is_fine:
            return None
        try:
            if not self._database.in_transaction:
                self._database.execute("BEGIN")
            query = "SELECT sha256, etag, digests, proof FROM files WHERE state = ?"
            row = self._database.execute(query, (state.name,)).fetchone()
            if row is None or row[3] != proof_of(state.name, *row[:3]):
                self._database.commit()
                return None
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return Known(row[0].hex(), row[1], json.loads(row[2]) if row[2] else {})

    def note(self, state: FileState, known: Known) -> None:
        """What a file turned out to be that was in this state before it was read."""
        if self._database is None or not state.is_telling:
            return
        try:
            if FileState.of(state.path) != state:
                return
        except (SourceMissing, SourceUnreadable):
            return
        facts = (
            bytes.fromhex(known.sha256),
            known.etag,
            json.dumps(dict(known.digests)) if known.digests else "",
        )
        self._new.append((state.name, *facts, proof_of(state.name, *facts)))

    def save(self) -> None:
        """Keep what was noted."""
        new, self._new = self._new, []
        if self._database is None:
            return
        try:
            self._database.commit()
            if new:
                with self._database:
                    self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", new)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Let go of its file."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _give_up(self, error: Exception) -> None:
        log.warning("%s cannot be used (%s): files are read", self._path, error)
        self.close()


def _opened(path: Path) -> sqlite3.Connection:
    """The database, with its one table. Nothing is synced: what the power takes is found out by its proof."""
    database = sqlite3.connect(path, timeout=WAIT_FOR_OTHERS_S)
    try:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = TRUNCATE")
        database.execute(
            "CREATE TABLE IF NOT EXISTS files (state BLOB PRIMARY KEY, sha256 BLOB NOT NULL, etag TEXT NOT NULL,"
            " digests TEXT NOT NULL, proof BLOB NOT NULL) WITHOUT ROWID"
        )
        if path.stat().st_size > MOST_BYTES:
            database.execute("DELETE FROM files")
            database.commit()
            database.execute("VACUUM")
    except BaseException:
        database.close()
        raise
    return database


def proof_of(state: bytes, sha256: bytes, etag: str, digests: str) -> bytes:
    """What shows that a row is as it was written."""
    return hashlib.blake2b(
        b"\0".join((state, sha256, etag.encode(), digests.encode())), digest_size=_PROOF_BYTES
    ).digest()
