"""Every extension point: what a plugin may be, and all that it is given.

A plugin is a class named by an entry point of the group ``ingest.path_processors``,
``ingest.tile_processors`` or ``ingest.finishers``. It declares its parameters as a pydantic model; a job
whose parameters do not fit is refused when it is created. A plugin belongs to one process, and all its
methods are called from one thread, so it may keep what it opened or decoded last.
"""

from __future__ import annotations

import abc
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from ingest.errors import ItemError, SourceUnreadable
from ingest.items import FileItem, Grid, Item, Tile


class Params(BaseModel):
    """Base of every processor's parameters: unknown ones are refused.

    Give each field a ``description``: the docs and ``ingest plugins NAME`` are made from it. A field of
    type :data:`ingest.config.ConfigPath` takes relative paths from the folder of the config file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


ParamsT = TypeVar("ParamsT", bound=Params)


class Slots(Protocol):
    """Limits on how much is done at once, by name, such as connections to a host."""

    def take(self, name: str, at_once: int) -> AbstractContextManager[None]:
        """Wait until one of ``at_once`` slots of this name is free, and hold it within the context.

        Whoever takes a slot holds no other of the same name, or two may wait for each other.

        Raises:
            Stopped: the work was asked to stop while it waited.
        """


class LocalSlots:
    """Slots of this process alone, for where there is no job."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, name: str, at_once: int) -> Iterator[None]:
        """See :meth:`Slots.take`."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken[name] < at_once)
            self._taken[name] += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken[name] -= 1
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class JobContext:
    """What a processor may know of the job it works for.

    Attributes:
        job_id: the job's ID.
        job_name: the job's name, from its config.
        date: the UTC day on which the job was created, as ``2026-01-31``.
        grid: the job's tiles, or None for a job over files.
        scratch_dir: a folder on this machine for passing files.
        created_s: when the job was created (Unix); 0 where there is no job yet.
        config: the whole job config as JSON, for adapters of other systems' plugins.
        slots: limits over all nodes of the job. Outside a job they hold for this process alone.
        check: raises :class:`ingest.errors.Stopped` when the work is to stop. To be called in what takes seconds.
        waiting: a context to wait in for what is no doing of the item, such as a server that asks for a pause: that is
            not counted in the item's time. Slots are waited for in it anyway.
        is_preview: nothing will be stored. What is looked at must be left as it is.
    """

    job_id: str
    job_name: str
    date: str
    grid: Grid | None
    scratch_dir: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    slots: Slots = field(default_factory=LocalSlots)
    check: Callable[[], None] = lambda: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    created_s: int = 0
    is_preview: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The data behind an item, ready to be read on this machine.

    Attributes:
        item: the item.
        path: a local file, to be read only. It may be gone after the uploads have been stored.
        origin: pixel (x, y) of the section at which the file's upper left pixel lies; tiles only.
        facts: what the path processor found out about the source. They go into the manifest with each upload.
        previous, following: open the file before and after it, as the path processor's ``neighbours`` are. None
            where there is none, or the tile processor does not say that it ``uses_neighbours``.
        beside: lists the files of its folder, itself too, by name, in their order; each value opens one. It raises
            ItemError where that cannot be listed. None where the tile processor does not say that it ``looks_beside``.
    """

    item: Item
    path: Path
    origin: tuple[int, int] = (0, 0)
    facts: Mapping[str, str] = field(default_factory=dict)
    previous: Callable[[], AbstractContextManager[Path]] | None = None
    following: Callable[[], AbstractContextManager[Path]] | None = None
    beside: Callable[[], Mapping[str, Callable[[], AbstractContextManager[Path]]]] | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to store.

    Attributes:
        body: the bytes, or a local file to stream (which must not change until it is stored).
        content_type: its media type, or None to go by the suffix of its key.
        fields: fields for the key template beside those of the item, such as ``{"suffix": ".png"}``. An item
            with several uploads needs a field that tells them apart.
        metadata: further facts for the manifest, such as ``{"blank": "missing section"}``.
        temporary: the body is a file that was made for this upload; it is deleted when the item has come to an end.
    """

    body: bytes | Path
    content_type: str | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    temporary: bool = False


class PathProcessor(abc.ABC, Generic[ParamsT]):
    """Lists a job's items and says where the data behind one lies.

    For a job over files override :meth:`paths` and :meth:`path`; for a job over tiles :meth:`path`.

    Attributes:
        left_out: what the latest :meth:`paths` passed over, counted by kind, such as ``{"hidden": 3}``. The
            summary of ``ingest create`` shows it, so that nothing is left behind without a word.
        key_fields: fields that it brings for the key template, beside those of the item, and what each stands for.
    """

    Params: ClassVar[type[Params]] = Params
    key_fields: ClassVar[Mapping[str, str]] = {}

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

    def fields(self, item: Item) -> Mapping[str, str | int]:
        """The values of ``key_fields`` for an item; one named like a field of the item wins over it. Default: {}.

        A pure function of the item, the parameters and the job: it is asked without reading any data.

        Raises:
            KeyInvalid: there is no such value for this item.
        """
        return {}

    def open(self, path: str) -> AbstractContextManager[Path]:
        """A readable local file for what :meth:`path` named; leaving the context cleans up after it.

        May be repeated. The default takes the path for a local file.

        Raises:
            ItemError: the data is not there, or cannot be read.
        """
        return nullcontext(Path(path))

    def facts(self, path: str) -> Mapping[str, str]:
        """What was found out about the source at ``path``, for the manifest; asked while it is open. Default: {}."""
        return {}

    def neighbours(self, item: FileItem) -> tuple[FileItem | None, FileItem | None]:
        """The files before and after this one, of those that continue one another. Default: none.

        As a rule these are those of its folder, in the order of :meth:`paths`. Each must be its neighbour's neighbour.

        Asked only for a tile processor that ``uses_neighbours``.

        Raises:
            ItemError: the folder cannot be listed.
        """
        return (None, None)

    def beside(self, item: FileItem) -> Sequence[FileItem]:
        """All files in this one's folder that :meth:`paths` lists, itself too, in their order. Default: none.

        Asked only for a tile processor that ``looks_beside``.

        Raises:
            ItemError: the folder cannot be listed.
        """
        return ()

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
        uses_neighbours: it reads ``source.previous`` and ``source.following``.
        looks_beside: it reads ``source.beside``.
        default_key: the key template where the config has none; None for the job's own default.
    """

    Params: ClassVar[type[Params]] = Params
    key_fields: ClassVar[Mapping[str, str]] = {}
    uses_neighbours: ClassVar[bool] = False
    looks_beside: ClassVar[bool] = False
    default_key: ClassVar[str | None] = None

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


@dataclass(frozen=True, slots=True)
class Addition:
    """An object that a finisher stores beside the data.

    Attributes:
        key: relative to the destination, and checked like every key. It must not be a data object's.
        body: the bytes, or a local file, which is read before the next addition is asked for.
        content_type: its media type.
    """

    key: str
    body: bytes | Path
    content_type: str


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the manifest: an object that was stored, or was there already (``status`` is ``skipped``).

    Times are in nanoseconds since 1970 UTC. ``size_bytes`` and ``mtime_ns`` are the source's, where it says.
    """

    item: str
    source: str
    size_bytes: int | None
    mtime_ns: int | None
    key: str
    stored_bytes: int
    sha256: str
    etag: str | None
    content_type: str
    status: str
    metadata: Mapping[str, str]


class Results(Protocol):
    """All that a job stored, as a finisher sees it.

    Attributes:
        failed_items: how many items failed, and so are not among the rows.
    """

    failed_items: int

    def rows(self) -> Iterator[Result]:
        """Every row, in the manifest's order and in bounded memory. May be asked again."""

    def object_key(self, row: Result) -> str | None:
        """The key of the object that has the row's bytes: its own, or, where it is a duplicate, another object's.

        None where that object lies in the bucket, but not below the destination.
        """

    def stored(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and size of every object below the destination whose key begins with ``prefix``, in order of the keys'
        bytes. Objects of other jobs, and of other programs, are among them.
        """

    def sha256(self, key: str) -> str:
        """SHA-256 of a stored object, hexadecimal: as recorded with it, else by reading it.

        Raises:
            StoreError, IngestError: as :meth:`open`.
        """

    def open(self, key: str) -> AbstractContextManager[Path]:
        """A local copy of a stored object; leaving the context deletes it.

        Raises:
            StoreError: the store is away; the job is completed when it is back.
            IngestError: the object is gone.
        """


class Finisher(abc.ABC, Generic[ParamsT]):
    """Makes objects of a finished job's results: an index, a summary, what another program reads.

    It runs when all items have come to an end, also where some have failed. What it raises leaves the job
    ``completing``, with the reason; when that is mended, the job is completed by the next node that joins.

    Attributes:
        knows_duplicates: it asks :meth:`Results.object_key` where a row's object lies. One that does not is refused in
            a job whose destination has ``dedupe``, as some rows have no object under their own key there.
        digests: further hashes that every row's metadata is to have, by their names in ``upload.digests``.
    """

    Params: ClassVar[type[Params]] = Params
    knows_duplicates: ClassVar[bool] = False
    digests: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: ParamsT, context: JobContext) -> None:
        self.params = params
        self.context = context

    def check(self) -> None:
        """Look whether the job's kind suits this finisher. Called at create and at join.

        Raises:
            ConfigError: it does not, and why.
        """

    @abc.abstractmethod
    def additions(self, results: Results) -> Iterator[Addition]:
        """The objects to store beside the data. What an earlier run put there is overwritten.

        May be repeated, after a failure anywhere, and must then yield the same bytes for the same results.
        """
