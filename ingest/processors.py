"""Every extension point: what a plugin may be, and all that it is given.

A plugin is a class named by an entry point of the group ``ingest.path_processors`` or
``ingest.tile_processors``. It declares its parameters as a pydantic model; a job whose parameters do
not fit is refused when it is created. A processor belongs to one process, and all its methods are
called from one thread, so it may keep what it opened or decoded last.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from ingest.errors import ItemError, SourceUnreadable
from ingest.items import FileItem, Grid, Item, Tile


class Params(BaseModel):
    """Base of every processor's parameters: unknown ones are refused.

    Give each field a ``description``: the docs and ``ingest plugins NAME`` are made from it. A field of
    type :data:`ingest.config.job.ConfigPath` takes relative paths from the folder of the config file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


ParamsT = TypeVar("ParamsT", bound=Params)


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a processor may know of the job it works for.

    Attributes:
        job_id: the job's ID.
        job_name: the job's name, from its config.
        date: the UTC day on which the job was created, as ``2026-01-31``.
        grid: the job's tiles, or None for a job over files.
        scratch_dir: a folder on this machine for passing files.
        config: the whole job config as JSON, for adapters of other systems' plugins.
    """

    job_id: str
    job_name: str
    date: str
    grid: Grid | None
    scratch_dir: Path
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """The data behind an item, ready to be read on this machine.

    Attributes:
        item: the item.
        path: a local file, to be read only. It may be gone after the uploads have been stored.
        origin: pixel (x, y) of the section at which the file's upper left pixel lies; tiles only.
    """

    item: Item
    path: Path
    origin: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to store.

    Attributes:
        body: the bytes, or a local file to stream (which must not change until it is stored).
        content_type: its media type, or None to go by the suffix of its key.
        fields: fields for the key template beside those of the item, such as ``{"suffix": ".png"}``. An item
            with several uploads needs a field that tells them apart.
        metadata: further facts for the manifest, such as ``{"blank": "missing section"}``.
    """

    body: bytes | Path
    content_type: str | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


class PathProcessor(abc.ABC, Generic[ParamsT]):
    """Lists a job's items and says where the data behind one lies.

    For a job over files override :meth:`paths` and :meth:`path`; for a job over tiles :meth:`path`.

    Attributes:
        left_out: what the latest :meth:`paths` passed over, counted by kind, such as ``{"hidden": 3}``. The
            summary of ``ingest create`` shows it, so that nothing is left behind without a word.
    """

    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: ParamsT, context: JobContext) -> None:
        self.params = params
        self.context = context
        self.left_out: Counter[str] = Counter()

    def check(self) -> None:
        """Look whether the source can be read from this machine. Called at create and at join.

        Raises:
            ConfigError: it cannot, and why. The default finds nothing to check.
        """

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        """The files of the job, in an order that is the same each time.

        What cannot be listed raises, and is never passed over: a listing that ends has listed all.

        Args:
            after: a path listed earlier; only what comes strictly after it in that order is wanted. It may
                have vanished from the source since.

        Raises:
            SourceUnreadable: a part of the source cannot be listed; the sentence says which.
        """
        raise SourceUnreadable(f"{type(self).__name__} lists no files; it serves jobs of type 'tiles'")

    @abc.abstractmethod
    def path(self, item: Item) -> str:
        """Where the data behind this item lies: a path or URL that :meth:`open` understands.

        Reads no data. A ``FileItem``'s path comes from :meth:`paths`, but is checked again, so that none
        leads out of the root, by a link neither.

        Raises:
            ItemError: there can be no data for this item.
        """

    def open(self, path: str) -> AbstractContextManager[Path]:
        """A readable local file for what :meth:`path` named; leaving the context cleans up after it.

        May be repeated. The default takes the path for a local file.

        Raises:
            ItemError: the data is not there, or cannot be read.
        """
        return nullcontext(Path(path))

    def origin(self, tile: Tile) -> tuple[int, int]:
        """Pixel (x, y) of the section where the file's upper left pixel lies. Default: the section's own."""
        return (0, 0)

    def close(self) -> None:
        """Let go of connections and files. Called once, after the last call of anything else."""


class TileProcessor(abc.ABC, Generic[ParamsT]):
    """Turns the data behind an item into uploads.

    Attributes:
        key_fields: fields that its uploads bring for the key template, beside those of the item, and what
            each stands for.
    """

    Params: ClassVar[type[Params]] = Params
    key_fields: ClassVar[Mapping[str, str]] = {}

    def __init__(self, params: ParamsT, context: JobContext) -> None:
        self.params = params
        self.context = context

    def check(self) -> None:
        """Look whether the job's kind suits this processor. Called at create.

        Raises:
            ConfigError: it does not, and why.
        """

    def suffix(self, item: Item) -> str | None:
        """The suffix of what will be stored for this item, with its dot; None for the source's own.

        A pure function of the item and the parameters: it is asked without reading any data.
        """
        return None

    @abc.abstractmethod
    def uploads(self, source: Source) -> Iterator[Upload]:
        """The objects to store for this item, in order, holding as few bytes as possible.

        May be repeated, and must then yield the same bytes. Yielding nothing counts the item as skipped.

        Raises:
            ItemError: the data is corrupt, truncated or of an unknown format; the sentence says which.
        """

    def without_source(self, item: Item, error: ItemError) -> Iterator[Upload]:
        """The objects to store for an item whose source could not be opened, such as a blank tile.

        Raises:
            ItemError: ``error`` itself, which is the default: the item has failed.
        """
        raise error

    def close(self) -> None:
        """Let go of what is held. Called once, after the last call of anything else."""
