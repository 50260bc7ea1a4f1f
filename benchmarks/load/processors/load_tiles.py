"""Processors that cost next to nothing: a tile has no source, and becomes a few bytes of its own."""

from __future__ import annotations

from collections.abc import Iterator

from ingest.items import Item
from ingest.processors import Params, PathProcessor, Source, TileProcessor, Upload


class Nowhere(PathProcessor[Params]):
    """Tiles whose data lies nowhere."""

    def path(self, item: Item) -> str:
        """Always the same."""
        return "/dev/null"


class FewBytes(TileProcessor[Params]):
    """A tile's name, as its image."""

    def suffix(self, item: Item) -> str:
        """That of PNG."""
        return ".png"

    def uploads(self, source: Source) -> Iterator[Upload]:
        """One."""
        yield Upload(source.item.name.encode(), "image/png")
