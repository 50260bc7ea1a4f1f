"""What the files in a folder of a whale tag say of the recordings in it."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.errors import ItemError
from ingest.plugins import tag_format, tag_quality
from ingest.plugins.tag_format import TagFile, TagFiles, time_ns
from ingest.plugins.tag_quality import StatusLog

log = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".raw", ".flac")

Opener = Callable[[], AbstractContextManager[Path]]


@dataclass(frozen=True, slots=True)
class TagFolder:
    """A folder's own description.

    Attributes:
        tag_files: what the capture program wrote of its settings.
        log: its log, or None where there is none.
        starts_ns: when its recordings were begun, in order.
    """

    tag_files: TagFiles = field(default_factory=TagFiles)
    log: StatusLog | None = None
    starts_ns: Sequence[int] = ()

    def flags(self, name: str) -> list[str] | None:
        """The quality flags of a recording by its name; None where nothing is known."""
        start_ns = time_ns(name)
        if self.log is None or start_ns is None:
            return None
        after = bisect.bisect_right(self.starts_ns, start_ns)
        return self.log.flags(start_ns, self.starts_ns[after] if after < len(self.starts_ns) else None)


def folder_of(files: Mapping[str, Opener]) -> TagFolder:
    """What these files, by their names, say. One that cannot be read says nothing, and fails no recording by itself.

    Raises:
        SourceAway: the tag is out of reach.
    """
    starts = (time_ns(name) for name in files if Path(name).suffix.lower() in AUDIO_SUFFIXES)
    return TagFolder(
        TagFiles(tuple(_tag_file(name, files) for name in sorted(filter(tag_format.is_tag_file, files)))),
        _log(files),
        sorted(start for start in starts if start is not None),
    )


def _tag_file(name: str, files: Mapping[str, Opener]) -> TagFile:
    body = _read(name, files, tag_format.LARGEST_BYTES)
    return tag_format.read_tag_file(name, body) if isinstance(body, bytes) else TagFile(name, {}, body)


def _log(files: Mapping[str, Opener]) -> StatusLog | None:
    if tag_quality.STATUS_LOG not in files:
        return None
    body = _read(tag_quality.STATUS_LOG, files, tag_quality.LARGEST_BYTES + 1)
    if not isinstance(body, bytes):
        log.warning("no recording beside it gets quality flags of %s: %s", tag_quality.STATUS_LOG, body)
        return StatusLog((), garbled=True)
    found = tag_quality.read_status_log(body[: tag_quality.LARGEST_BYTES].decode(errors="replace"))
    return StatusLog(found.rows, garbled=True) if len(body) > tag_quality.LARGEST_BYTES else found


def _read(name: str, files: Mapping[str, Opener], most_bytes: int) -> bytes | str:
    """The beginning of a file, or why it cannot be read. While the backup disk is full the opener waits."""
    try:
        with files[name]() as path, path.open("rb") as file:
            return file.read(most_bytes)
    except ItemError as error:
        return error.what
    except OSError as error:
        return str(error.strerror or error)
