"""The ASC Media Hash List history that a folder has already: its chain, and what its generations list."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from ingest.errors import IngestError
from ingest.processors import Results

FOLDER = "ascmhl/"
CHAIN = f"{FOLDER}ascmhl_chain.xml"
_SPACE = "{urn:ASC:MHL:DIRECTORY:v2.0}"
_LISTS = "{urn:ASC:MHL:v2.0}"


@dataclass(frozen=True, slots=True)
class Generation:
    """A line of a chain: a hash list's number, its file's name, and the C4 ID of that file."""

    number: int
    name: str
    c4: str


def read_chain(folder: str, results: Results) -> list[Generation]:
    """The generations of a folder; none where it has no history.

    Raises:
        IngestError: there is a chain that cannot be read.
    """
    key = folder + CHAIN
    if key not in {found for found, _ in results.stored(key)}:
        return []
    with results.open(key) as path:
        try:
            found = ElementTree.parse(path).iter(f"{_SPACE}hashlist")  # noqa: S314 - expat limits growth itself
            return [
                Generation(
                    int(entry.attrib["sequencenr"]),
                    entry.findtext(f"{_SPACE}path", ""),
                    entry.findtext(f"{_SPACE}c4", ""),
                )
                for entry in found
            ]
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            raise IngestError(f"{key!r} is no chain of hash lists: {error!r}") from error


def chain_text(generations: list[Generation]) -> bytes:
    """A chain as a file."""
    lines = "".join(
        f'  <hashlist sequencenr="{one.number}">\n'
        f"    <path>{escape(one.name)}</path>\n    <c4>{escape(one.c4)}</c4>\n  </hashlist>\n"
        for one in generations
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<ascmhldirectory xmlns="urn:ASC:MHL:DIRECTORY:v2.0">\n'
    return f"{head}{lines}</ascmhldirectory>\n".encode()


class KnownHashes:
    """What earlier generations of a folder list, in a database in the scratch folder. To be used as a context."""

    def __init__(self, folder: str, generations: list[Generation], results: Results, scratch: Path) -> None:
        path = scratch / "history.sqlite"
        path.unlink(missing_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
            "CREATE TABLE known (path TEXT PRIMARY KEY, c4 TEXT) WITHOUT ROWID;"
        )
        self._database.execute("BEGIN")
        for generation in generations:
            with results.open(f"{folder}{FOLDER}{generation.name}") as file:
                rows = _hashes(file)
                self._database.executemany("INSERT OR IGNORE INTO known VALUES (?, ?)", rows)

    def __enter__(self) -> KnownHashes:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def has(self, path: str) -> bool:
        """Whether a generation lists this path."""
        return self._found(path) is not None

    def action(self, path: str, c4: str) -> str:
        """What a new generation says of a hash: it is the first, it was ``verified``, or it has ``failed``.

        A first one in another format than C4 cannot be compared.
        """
        found = self._found(path)
        return "original" if not found else "verified" if found == c4 else "failed"

    def _found(self, path: str) -> str | None:
        with closing(self._database.execute("SELECT c4 FROM known WHERE path = ?", [path])) as found:
            row = found.fetchone()
        return None if row is None else row[0]


def _hashes(file: Path) -> Iterator[tuple[str, str]]:
    """Path and C4 ID ("" where it has another hash) of each file in a hash list."""
    try:
        for _, element in ElementTree.iterparse(file):  # noqa: S314 - expat limits growth itself
            if element.tag == f"{_LISTS}hash":
                yield element.findtext(f"{_LISTS}path", ""), element.findtext(f"{_LISTS}c4", "")
                element.clear()
    except ElementTree.ParseError as error:
        raise IngestError(f"an earlier hash list cannot be read: {error}") from error
