"""A job's objects by the folders that a finisher writes evidence into, in bounded memory."""

from __future__ import annotations

import sqlite3
import string
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated

from pydantic import AfterValidator

from ingest.errors import ConfigError, IngestError
from ingest.processors import JobContext, Result, Results

FolderTemplate = Annotated[str, AfterValidator(lambda folder: folder.strip("/"))]
"""A finisher's parameter: the begin of the job's key template that names folders, without slashes around it."""
_VARIES = {"path", "parent"}
_TABLES = """
CREATE TABLE objects (key TEXT PRIMARY KEY, folder TEXT, sha256 TEXT, size_bytes INTEGER, mtime_ns INTEGER, c4 TEXT)
    WITHOUT ROWID;
CREATE TABLE duplicates (folder TEXT, path TEXT, sha256 TEXT, duplicate_of TEXT, PRIMARY KEY (folder, path))
    WITHOUT ROWID;
CREATE TABLE folders (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def check_folder(who: str, folder: str, below: str, context: JobContext) -> None:
    """Refuse a parameter ``folder`` that is not the begin of the job's key template.

    Args:
        who: the finisher's name.
        folder: its parameter: a key template without a slash at its ends; "" is the destination itself.
        below: what must follow in the key template, such as ``data/``.
        context: the job.

    Raises:
        ConfigError: keys do not lie there, or the folder is not one of some constant number of names.
    """
    template = str(context.config["destination"]["key"] or "{path}")
    begin = f"{folder}/{below}" if folder else below
    fields = {name for _, name, _, _ in string.Formatter().parse(folder) if name}
    if fields & _VARIES:
        raise ConfigError(
            f"{who}: the folder {folder!r} has {{{min(fields & _VARIES)}}}, and so is another for each file",
            place="finishers",
        )
    if not template.startswith(begin):
        raise ConfigError(
            f"{who}: keys must begin with {begin!r}, and destination.key is {template!r}",
            place="finishers",
            hint=f"set destination.key to something like '{begin}{{path}}', or the finisher's `folder`",
        )


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that lies in a folder.

    Attributes:
        key: its key.
        size_bytes: its size.
        sha256: its SHA-256; None where it is not this job's.
        mtime_ns: when its source was changed, as far as is known (1970 UTC).
        c4: its C4 ID; None where it is not known.
    """

    key: str
    size_bytes: int
    sha256: str | None = None
    mtime_ns: int | None = None
    c4: str | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A file that has no object of its own: its path in the folder, its SHA-256, and the key, from the bucket's root,
    of the object that has its bytes."""

    path: str
    sha256: str
    duplicate_of: str


class StoredFolders:
    """A job's rows by their folders, in a database in the scratch folder. To be used as a context.

    Args:
        results: the job's.
        folder: the parameter that says how many names a folder has.
        scratch_dir: where the database is kept.
    """

    def __init__(self, results: Results, folder: str, scratch_dir: Path) -> None:
        self._results = results
        self._depth = len(folder.split("/")) if folder else 0
        scratch_dir.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(prefix="folders-", dir=scratch_dir)
        self.scratch = Path(self._scratch.name)
        self._database = sqlite3.connect(self.scratch / "rows.sqlite", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        self._database.execute("BEGIN")
        for row in results.rows():
            self._take(row)

    def __enter__(self) -> StoredFolders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        self._scratch.cleanup()

    def _folder_of(self, key: str) -> str:
        """The folder of a key, with a slash at its end; "" for the destination itself."""
        return "".join(f"{name}/" for name in key.split("/")[: self._depth])

    def _take(self, row: Result) -> None:
        folder, key = self._folder_of(row.key), self._results.object_key(row)
        self._database.execute("INSERT OR IGNORE INTO folders VALUES (?)", [folder])
        if key != row.key:
            path, duplicate_of = row.key.removeprefix(folder), row.metadata["duplicate_of"]
            facts = [folder, path, row.sha256, duplicate_of]
            self._database.execute("INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?, ?)", facts)
        if key is not None and self._folder_of(key) == folder:
            verb = "INSERT OR REPLACE" if key == row.key else "INSERT OR IGNORE"
            values = [key, folder, row.sha256, row.stored_bytes, row.mtime_ns, row.metadata.get("c4")]
            self._database.execute(f"{verb} INTO objects VALUES (?, ?, ?, ?, ?, ?)", values)

    def __iter__(self) -> Iterator[str]:
        """Every folder that an item's key lies in, in order, with a slash at its end; "" for the destination itself."""
        with closing(self._database.execute("SELECT name FROM folders ORDER BY name")) as found:
            yield from [name for (name,) in found]

    def objects(self, folder: str, below: str = "") -> Iterator[StoredObject]:
        """What lies in a folder now, as the store lists it: this job's objects, and others that are there.

        Raises:
            IngestError: one of this job's is gone, or has another size.
        """
        prefix, ours = folder + below, 0
        for key, size_bytes in self._results.stored(prefix):
            query = "SELECT sha256, size_bytes, mtime_ns, c4 FROM objects WHERE key = ?"
            known = self._database.execute(query, [key]).fetchone()
            if known is None:
                yield StoredObject(key, size_bytes)
                continue
            sha256, stored_bytes, mtime_ns, c4 = known
            if size_bytes != stored_bytes:
                raise IngestError(f"{key!r} has {size_bytes} bytes; {stored_bytes} were stored")
            ours += 1
            yield StoredObject(key, size_bytes, sha256, mtime_ns, c4)
        query = "SELECT count(*) FROM objects WHERE folder = ? AND substr(key, 1, ?) = ?"
        (expected,) = self._database.execute(query, [folder, len(prefix), prefix]).fetchone()
        if ours != expected:
            raise IngestError(f"{expected - ours} objects of the manifest are not in {prefix!r} any more")

    def duplicates(self, folder: str) -> Iterator[Duplicate]:
        """The files of a folder that have no object of their own, in order."""
        query = "SELECT path, sha256, duplicate_of FROM duplicates WHERE folder = ? ORDER BY path"
        for facts in self._database.execute(query, [folder]):
            yield Duplicate(*facts)
