"""The sources of a batch's items: what a tile processor is given of them, and the wait while all of them are away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ingest.errors import IngestError, RedisError, SourceAway, SourceMissing, SourceUnreadable, Stopped
from ingest.items import FileItem, Item, Tile
from ingest.news import News
from ingest.plugin_loader import Processors
from ingest.processors import Source
from ingest.workers.hands import ProcessorTime
from ingest.workers.patience import GIVE_BACK_AFTER_S
from ingest.workers.watch import Watch

log = logging.getLogger(__name__)

WAIT_S = 5.0
Opener = Callable[[], AbstractContextManager[Path]]


class Sources:
    """What a job's path processor has, as its tile processor wants it."""

    def __init__(self, processors: Processors, watch: Watch, processor_time: ProcessorTime) -> None:
        self._processors = processors
        self._watch = watch
        self._clock = processor_time
        self._news = News()

    def source(self, item: Item, name: str, path: Path) -> Source:
        """An item with its file, and with what its processor may ask for beside it.

        Args:
            name: what the path processor calls the file.
            path: where it was opened.
        """
        processor = self._processors.path
        origin = processor.origin(item) if isinstance(item, Tile) else (0, 0)
        previous, following = self._neighbours(item)
        return Source(item, path, origin, processor.facts(name), previous, following, self._lister(item))

    def _neighbours(self, item: Item) -> tuple[Opener | None, Opener | None]:
        """What opens the file before an item, and the one after it, where its processor wants them."""
        if not self._processors.tile.uses_neighbours or not isinstance(item, FileItem):
            return None, None
        before, after = self._processors.path.neighbours(item)
        return partial(self._open, before) if before else None, partial(self._open, after) if after else None

    def _lister(self, item: Item) -> Callable[[], Mapping[str, Opener]] | None:
        """What lists the files beside an item, where its processor wants them."""
        if not self._processors.tile.looks_beside or not isinstance(item, FileItem):
            return None

        def files() -> Mapping[str, Opener]:
            there = self._processors.path.beside(item)
            return {other.path.rpartition("/")[2]: partial(self._open, other) for other in there}

        return files

    @contextmanager
    def _open(self, item: Item) -> Iterator[Path]:
        """A neighbour's file. While the whole source is away it is waited for, or what is made would depend on it."""
        processor = self._processors.path
        with ExitStack() as opened:
            while True:
                try:
                    path = opened.enter_context(processor.open(processor.path(item)))
                    break
                except (SourceMissing, SourceUnreadable):
                    if not self.waited():
                        raise
            yield path

    def waited(self) -> bool:
        """Wait while the whole source is away (unmounted, say). False where it is there: only the item is missing.

        None of the time that its item has taken so far counts then: what was done is lost with the source.

        Raises:
            SourceAway: it is not back soon. It may be away from this machine alone: others are to have the batch.
        """
        waited, began_s = False, time.monotonic()
        with self._clock.paused():
            while (trouble := self._trouble()) is not None:
                waited = True
                if self._news.is_new(trouble):
                    log.warning("waiting for the source: %s", trouble)
                self._watch.take(f"waiting for the source: {trouble}")
                if time.monotonic() - began_s >= GIVE_BACK_AFTER_S:
                    raise SourceAway(
                        trouble, hint="other nodes may have it; here it is looked for again and again"
                    )
                self._watch.sleep(WAIT_S)
            if waited:
                self._clock.begin_anew()
        return waited

    def _trouble(self) -> str | None:
        """Why the whole source is away, or None where it is there. Its check passed when this process joined."""
        try:
            self._processors.path.check()
        except (Stopped, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            return error.what if isinstance(error, IngestError) else repr(error)
        return None
