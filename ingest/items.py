"""Items: the smallest pieces of work, and the grid that numbers a job's tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingest.config import TilesJob


@dataclass(frozen=True, slots=True)
class FileItem:
    """A file, by its path below its path processor's root.

    Attributes:
        path: POSIX path relative to the root. Bytes that are not UTF-8 are surrogate escapes.
        size_bytes: its size when it was listed, or None where the source does not say.
        mtime_ns: its modification time when listed, in nanoseconds since 1970 UTC, or None.
        flaw: why it cannot be stored, where that was seen when it was listed; it becomes a failed item.
    """

    path: str
    size_bytes: int | None = None
    mtime_ns: int | None = None
    flaw: str = ""

    @property
    def name(self) -> str:
        """What people and the manifest call this item."""
        return self.path

    def fields(self) -> dict[str, str | int]:
        """The fields that a key template may use for it."""
        parent, _, name = self.path.rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        if not stem:
            stem, dot, suffix = name, "", ""
        return {
            "path": self.path,
            "parent": parent + "/" if parent else "",
            "name": name,
            "stem": stem,
            "suffix": dot + suffix,
        }

    def encode(self) -> list[Any]:
        """As JSON, for the ledger."""
        fields = [self.path, self.size_bytes, self.mtime_ns]
        return [*fields, self.flaw] if self.flaw else fields


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile, by its indices on the job's grid: pixels divided by the tile's size, as in Boss."""

    x: int
    y: int
    z: int
    t: int = 0

    @property
    def name(self) -> str:
        """What people and the manifest call this item."""
        return f"x{self.x} y{self.y} z{self.z} t{self.t}"

    def fields(self) -> dict[str, str | int]:
        """The fields that a key template may use for it."""
        return {"x": self.x, "y": self.y, "z": self.z, "t": self.t}

    def encode(self) -> list[Any]:
        """As JSON, for the ledger."""
        return [self.x, self.y, self.z, self.t]


Item = FileItem | Tile


def decode_item(fields: list[Any]) -> Item:
    """The item that ``encode`` made these fields of."""
    return FileItem(*fields) if isinstance(fields[0], str) else Tile(*fields)


def as_utf8(name: str) -> str:
    """A name as a key can hold it: where it is not UTF-8, ``%`` and two digits stand for each byte that is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        escaped = name.replace("%", "%25")
        return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in escaped)
    return name


def item_id(item: Item) -> str:
    """A short, stable name for an item within its job: 16 hexadecimal digits of BLAKE2b of its name."""
    return hashlib.blake2b(item.name.encode(errors="surrogateescape"), digest_size=8).hexdigest()


class Grid:
    """A job's tiles, numbered so that the tiles of one section are neighbours: x fastest, then y, z, t.

    Indices are global, as in Boss: tile ``x`` covers pixels ``[x * tile_size.x, (x + 1) * tile_size.x)``.
    A last tile that reaches past the extent's end is a whole tile, padded.
    """

    def __init__(self, job: TilesJob) -> None:
        self.extent = job.extent
        self.tile_size = job.tile_size
        self.resolution = job.resolution
        self._first: dict[str, int] = {}
        self._count: dict[str, int] = {}
        for axis in "xyzt":
            self._first[axis] = getattr(job.extent, axis)[0] // getattr(job.tile_size, axis)
            self._count[axis] = job.tile_count(axis)

    def __len__(self) -> int:
        count = self._count
        return count["x"] * count["y"] * count["z"] * count["t"]

    def tile(self, number: int) -> Tile:
        """The tile with this number, from 0 to ``len(grid) - 1``.

        Raises:
            IndexError: there is no such tile.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"tile {number} of a grid of {len(self)}")
        first, count = self._first, self._count
        number, x = divmod(number, count["x"])
        number, y = divmod(number, count["y"])
        t, z = divmod(number, count["z"])
        return Tile(first["x"] + x, first["y"] + y, first["z"] + z, first["t"] + t)

    def tiles(self, start: int = 0, stop: int | None = None) -> Iterator[Tile]:
        """The tiles with numbers ``start`` to ``stop``, in order."""
        for number in range(start, len(self) if stop is None else min(stop, len(self))):
            yield self.tile(number)

    def __contains__(self, tile: object) -> bool:
        return isinstance(tile, Tile) and all(
            0 <= getattr(tile, axis) - self._first[axis] < self._count[axis] for axis in "xyzt"
        )
