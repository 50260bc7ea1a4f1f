"""The adapter through which a Boss ingest-client plugin works unchanged.

A Boss plugin is a class with ``setup(parameters)`` and ``process(...)``
(https://github.com/jhuapl-boss/ingest-client). ``parameters`` are the processor's own, with the config's
``ingest_job`` section beside them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PosixPath
from typing import Any

from ingest.errors import ConfigError, IngestError, SourceUnreadable
from ingest.items import Item, Tile
from ingest.processors import JobContext, Params, PathProcessor, Source, TileProcessor, Upload

# Where Boss's own tile processors are told the format of what they return.
_SUFFIX_KEYS = ("upload_format", "extension", "filetype")


def is_boss_class(cls: Any) -> bool:
    """Whether this is a class of the Boss kind: ``setup`` and ``process``, and none of ours."""
    return (
        isinstance(cls, type)
        and not issubclass(cls, PathProcessor | TileProcessor)
        and callable(getattr(cls, "setup", None))
        and callable(getattr(cls, "process", None))
    )


def _set_up(cls: type[Any], params: Mapping[str, Any], context: JobContext) -> Any:
    processor = cls()
    try:
        processor.setup({**params, "ingest_job": dict(context.config["ingest_job"])})
    except Exception as error:
        raise ConfigError(f"{cls.__name__}.setup refused its parameters: {error!r}") from error
    return processor


def _indices(item: Item) -> tuple[int, int, int, int]:
    if not isinstance(item, Tile):
        raise SourceUnreadable("a Boss plugin serves jobs of type 'tiles' only")
    return item.x, item.y, item.z, item.t


class _AsGiven(PosixPath):
    """A path that knows what a plugin said: as a path, ``s3://bucket`` has one slash.

    Attributes:
        given: what the plugin returned: text, a Path, or whatever its tile processor understands.
    """

    given: Any


class BossPathProcessor(PathProcessor[Params]):
    """A Boss path processor behind our interface."""

    def __init__(self, cls: type[Any], params: Mapping[str, Any], context: JobContext) -> None:
        super().__init__(Params(), context)
        self._processor = _set_up(cls, params, context)
        self._last: tuple[str, Any] = "", ""

    def path(self, item: Item) -> str:
        indices = _indices(item)
        try:
            given = self._processor.process(*indices)
            self._last = "" if given is None else str(given), given
            return self._last[0]
        except IngestError:
            raise
        except Exception as error:
            name = type(self._processor).__name__
            raise SourceUnreadable(f"{name} has no path for this tile: {error!r}") from error

    def open(self, path: str) -> AbstractContextManager[Path]:
        """Whatever the plugin named, as it named it: its tile processor alone knows what that is."""
        opened = _AsGiven(path)
        text, given = self._last
        opened.given = given if text == path else path
        return nullcontext(opened)


class BossTileProcessor(TileProcessor[Params]):
    """A Boss tile processor behind our interface; what it returns is stored as it is."""

    def __init__(self, cls: type[Any], params: Mapping[str, Any], context: JobContext) -> None:
        super().__init__(Params(), context)
        self._processor = _set_up(cls, params, context)
        suffix = next((params[key] for key in _SUFFIX_KEYS if params.get(key)), "")
        self._suffix = f".{str(suffix).lstrip('.')}" if suffix else ""

    def suffix(self, item: Item) -> str | None:
        return self._suffix

    def uploads(self, source: Source) -> Iterator[Upload]:
        indices = _indices(source.item)
        path = source.path.given if isinstance(source.path, _AsGiven) else str(source.path)
        try:
            body = _tile_of(self._processor.process(path, *indices))
        except Exception as error:
            name = type(self._processor).__name__
            reason = error.what if isinstance(error, IngestError) else repr(error)
            raise SourceUnreadable(f"{name} could not make this tile: {reason}") from error
        yield Upload(body)


def _tile_of(handle: Any) -> bytes:
    body = _bytes_of(handle)
    if not body:
        raise SourceUnreadable("it returned a handle on no bytes; a tile has some")
    return body


def _bytes_of(handle: Any) -> bytes:
    """All bytes of what a Boss plugin returned: in-memory images come with their position at the end."""
    if isinstance(handle, io.BytesIO):
        return handle.getvalue()
    if isinstance(handle, bytes | bytearray):
        return bytes(handle)
    if isinstance(handle, str | Path):
        return Path(handle).read_bytes()
    if not callable(getattr(handle, "read", None)):
        raise SourceUnreadable(f"it returned {type(handle).__name__}; expected a handle on bytes")
    try:
        handle.seek(0)
        data = handle.read()
    finally:
        if callable(getattr(handle, "close", None)):
            handle.close()
    if not isinstance(data, bytes):
        raise SourceUnreadable(f"its handle is on {type(data).__name__}; expected one on bytes")
    return data
