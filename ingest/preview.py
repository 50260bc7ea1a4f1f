"""Looking ahead: what a job would store, before anything is stored."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingest.config import JobConfig, Settings
from ingest.config.key_template import FILE_FIELDS, TILE_FIELDS
from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable, source_trouble
from ingest.handle import make_context
from ingest.items import FileItem, Grid, Item, Tile
from ingest.naming import KeyMaker
from ingest.plugin_loader import load_processors

PREVIEW_ID = "JOB-ID"
SHOWN = 5
NOTHING = "the source holds nothing that the path processor lists"


@dataclass(frozen=True, slots=True)
class Plan:
    """An item, where its data lies, and its key; or why it would fail: because another has its key, or not.

    Attributes:
        is_twin: another item has its key.
    """

    item: Item
    source: str = ""
    key: str = ""
    problem: str = ""
    is_twin: bool = False


@dataclass(slots=True)
class Preview:
    """What was seen of a source.

    Attributes:
        items: how many items there are, or were seen in the time given.
        size_bytes: their bytes, where the source says.
        is_whole: whether all were seen.
        first: the first items, with their keys.
        problems: how many would fail, and the first of those; and the first that has another's key.
        left_out: what the path processor leaves out, by kind.
    """

    items: int = 0
    size_bytes: int = 0
    is_whole: bool = True
    first: list[Plan] = field(default_factory=list)
    problems: int = 0
    first_problem: Plan | None = None
    first_twin: Plan | None = None
    left_out: Counter[str] = field(default_factory=Counter)


def counted(kinds: Mapping[str, int]) -> str:
    """What a path processor left out, in words: ``3 hidden, 1 link``."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


class Previewer:
    """Lists a job's items with their keys, reading no data; a tile's file, where it is a local one, is looked for."""

    def __init__(self, config: JobConfig, settings: Settings) -> None:
        self._context = make_context(config, PREVIEW_ID, int(time.time()), settings, is_preview=True)
        self._processors = load_processors(config, self._context, settings)
        self._keys = KeyMaker(
            config.key_template, self._context, self._processors.tile, self._processors.path
        )
        # What an upload's own fields will be is not known before its data is read: they are shown by name.
        later = [*self._processors.tile.key_fields.keys() - self._processors.path.key_fields.keys()]
        self._upload_fields = {name: f"{{{name}}}" for name in later}
        # ... and whether two items have one key is known only where no such field is in it.
        template = config.key_template
        theirs = set(self._processors.tile.key_fields) - {*FILE_FIELDS, *TILE_FIELDS}
        self._remember_keys = not template.keeps_paths_apart() and not template.field_names & theirs
        self._looked_for_last = "", ""

    @property
    def grid(self) -> Grid | None:
        """The job's tiles, or None."""
        return self._context.grid

    def plans(self) -> Iterator[Plan]:
        """Every item, in order.

        Raises:
            ConfigError: the source cannot be listed.
        """
        seen: dict[str, str] = {}
        items: Iterator[Item] = self.grid.tiles() if self.grid else self._processors.files()
        try:
            for item in items:
                yield self._plan(item, seen)
        except ItemError as error:
            raise source_trouble(error) from None

    def _plan(self, item: Item, seen: dict[str, str]) -> Plan:
        if isinstance(item, FileItem) and item.flaw:
            return Plan(item, problem=item.flaw)
        try:
            source, key = self._processors.path.path(item), self._keys.key(item, self._upload_fields)
        except ItemError as error:
            return Plan(item, problem=error.what)
        if isinstance(item, Tile) and (problem := self._missing(source, item)):
            return Plan(item, source, key, problem)
        if self._remember_keys and isinstance(item, FileItem):
            twin = seen.setdefault(key, item.name)
            if twin != item.name:
                return Plan(item, source, key, f"{twin!r} has the key {key!r} too", is_twin=True)
        return Plan(item, source, key)

    def _missing(self, source: str, tile: Tile) -> str:
        """What becomes of a tile whose local file is not there; "" where it is, or may be missing."""
        if source == self._looked_for_last[0]:
            return self._looked_for_last[1]
        problem = ""
        missing = _look_for(source)
        if missing is not None:
            try:
                next(iter(self._processors.tile.without_source(tile, missing)), None)
            except ItemError as error:
                problem = error.what
        self._looked_for_last = source, problem
        return problem

    def nothing_listed(self) -> ConfigError:
        """What to raise where there is no item."""
        said = counted(self._processors.path.left_out)
        return ConfigError(NOTHING, place="path_processor.params", hint=f"left out: {said}" if said else None)

    def preview(self, within_s: float) -> Preview:
        """A look at as many items as can be listed within ``within_s`` seconds; all tiles are known at once."""
        result = Preview()
        stop_s = time.monotonic() + within_s
        for plan in self.plans():
            if plan.problem:
                result.problems += 1
                result.first_problem = result.first_problem or plan
                result.first_twin = result.first_twin or (plan if plan.is_twin else None)
            elif len(result.first) < SHOWN:
                result.first.append(plan)
            result.items += 1
            result.size_bytes += (plan.item.size_bytes or 0) if isinstance(plan.item, FileItem) else 0
            if self.grid and len(result.first) == SHOWN:
                break
            if time.monotonic() > stop_s:
                result.is_whole = self.grid is not None
                break
        if self.grid:
            result.items = len(self.grid)
        result.left_out = Counter(self._processors.path.left_out)
        return result

    def close(self) -> None:
        """Let go of the processors."""
        self._processors.close()


def _look_for(source: str) -> ItemError | None:
    """Why a local file cannot be looked at; None where it can, or the source is none."""
    try:
        if Path(source).is_absolute():
            Path(source).stat()
    except (FileNotFoundError, NotADirectoryError):
        return SourceMissing(f"there is no file {source!r}")
    except (OSError, ValueError) as error:
        return SourceUnreadable(f"{source!r} cannot be read: {getattr(error, 'strerror', error)}")
    return None
