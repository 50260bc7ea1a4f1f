"""The files below a folder of a device: listed, read, hashed there or here, and removed one at a time."""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from ingest.errors import SourceAway, SourceChanged, SourceUnreadable
from ingest.items import FileItem
from ingest.ssh.connection import Connection, quoted
from ingest.ssh.sftp import Entry, Sftp, Sink

LEFT_OUT = "lost+found"
MOST_SIZE_BYTES = 2**63 - 1
"""A file that is said to be larger has no size: no file system has such files, and no database such numbers."""

DEEPEST = 200
_SHA256 = re.compile(rb"\\?([0-9a-f]{64})\s")
T = TypeVar("T")
_Segments = list[bytes]


class RemoteFiles:
    """The files below ``root``. Belongs to one thread.

    Paths are POSIX paths below the root; surrogate escapes stand for bytes that are not UTF-8. A session that broke is
    replaced with the next call.

    Args:
        connect: makes a connection, or gives one that lives.
        root: an absolute path on the device.

    Raises:
        SourceAway: the device is out of reach; from every method.
    """

    def __init__(self, connect: Callable[[], Connection], root: str) -> None:
        self._connect = connect
        self.root = root.rstrip("/")
        self._sftp: Sftp | None = None
        self._can_hash: bool | None = None

    def list(self, after: str | None = None, left_out: Counter[str] | None = None) -> Iterator[FileItem]:
        """The files, depth first, each folder's entries in the order of their names' bytes.

        Links and special files are left out and counted, and ``lost+found`` in the root.

        Args:
            after: only files that come after this one.
            left_out: what is left out is counted in it, by kind.

        Raises:
            SourceUnreadable, SourceMissing: a folder cannot be listed.
        """
        yield from self._below(
            "", None if after is None else _segments(after), Counter() if left_out is None else left_out
        )

    def _below(self, prefix: str, after: _Segments | None, left_out: Counter[str]) -> Iterator[FileItem]:
        if prefix.count("/") > DEEPEST:
            raise SourceUnreadable(f"{prefix[:60]!r}… on the device leads more than {DEEPEST} folders deep")
        folder = self._path(prefix.rstrip("/"))
        entries = self._do(lambda sftp: sftp.listdir(folder))
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = prefix + os.fsdecode(entry.name)
            segments = _segments(path)
            if after is not None and segments < after[: len(segments)]:
                continue
            kind = _kind_left_out(path, entry)
            if kind is not None:
                left_out[kind] += 1
            elif entry.is_folder:
                yield from self._below(path + "/", after, left_out)
            elif segments != after:
                yield _item(path, entry)

    def files_in(self, folder: str) -> Sequence[FileItem]:
        """The files that lie in a folder itself (a path, or "" for the root), in order.

        Raises:
            SourceUnreadable, SourceMissing: it cannot be listed.
        """
        prefix = folder + "/" if folder else ""
        entries = self._do(lambda sftp: sftp.listdir(self._path(folder)))
        files = [entry for entry in entries if stat.S_ISREG(entry.mode)]
        return [
            _item(prefix + os.fsdecode(entry.name), entry)
            for entry in sorted(files, key=lambda entry: entry.name)
        ]

    def look(self, path: str) -> FileItem:
        """A file as it is now.

        Raises:
            SourceMissing, SourceUnreadable: it is not there, is no regular file, or has no size.
        """
        entry = self._do(lambda sftp: sftp.lstat(self._path(path)))
        if not stat.S_ISREG(entry.mode):
            raise SourceUnreadable(f"{path!r} is no regular file any more")
        item = _item(path, entry)
        if item.size_bytes is None:
            raise SourceUnreadable(
                f"{path!r} has no size that a file may have: the device says {entry.size_bytes} bytes",
                hint="is its disk damaged?",
            )
        return item

    def read(self, path: str, sink: Sink, *, size_bytes: int, offset: int = 0) -> None:
        """Give a file of ``size_bytes``, from an offset on, to ``sink``, in order and in pieces.

        Raises:
            SourceChanged: it is shorter, or longer: then the sink has got one byte of what is more.
            SourceMissing, SourceUnreadable: it cannot be read.
        """
        given_bytes = self._do(lambda sftp: sftp.read(self._path(path), offset, size_bytes + 1, sink))
        if offset + given_bytes != size_bytes:
            now = "more" if offset + given_bytes > size_bytes else f"{offset + given_bytes}"
            raise SourceChanged(
                f"{path!r} had {size_bytes} bytes when it was listed and has {now} now",
                hint="retry when nothing writes to it any more",
            )

    def sha256(self, path: str) -> str:
        """The SHA-256 of a file as it is on the device now, in hexadecimal.

        It is taken by ``sha256sum`` on the device, or here of what is read from it, where the device has none.

        Raises:
            SourceMissing, SourceUnreadable, SourceChanged: it cannot be read, or changed meanwhile.
        """
        return (self.sha256_there(path) if self.can_hash() else None) or self.sha256_here(path)

    def can_hash(self) -> bool:
        """Whether the device has ``sha256sum``; asked once."""
        if self._can_hash is None:
            self._can_hash = self._connect().run(b"sha256sum < /dev/null").status == 0
        return self._can_hash

    def sha256_there(self, path: str) -> str | None:
        """As the device's ``sha256sum`` has it; None where that fails. May be called from any thread."""
        output = self._connect().run(b"sha256sum < " + quoted(self._path(path)), within_s=math.inf)
        found = _SHA256.match(output.stdout)
        return found[1].decode() if found is not None and output.status == 0 else None

    def sha256_here(self, path: str) -> str:
        """Of what is read from the device.

        Raises:
            SourceMissing, SourceUnreadable, SourceChanged: as :meth:`sha256`.
        """
        sha256 = hashlib.sha256()
        self.read(path, sha256.update, size_bytes=self.look(path).size_bytes or 0)
        return sha256.hexdigest()

    def remove(self, path: str) -> None:
        """Delete a file.

        Raises:
            SourceMissing, SourceUnreadable: it is not there, or may not be deleted.
        """
        self._do(lambda sftp: sftp.remove(self._path(path)))

    def close(self) -> None:
        """Let go of the session; the connection stays."""
        sftp, self._sftp = self._sftp, None
        if sftp is not None:
            with suppress(SourceAway):
                sftp.close()

    def _path(self, path: str) -> bytes:
        return os.fsencode(f"{self.root}/{path}" if path else self.root or "/")

    def _do(self, call: Callable[[Sftp], T]) -> T:
        if self._sftp is None:
            self._sftp = Sftp(self._connect())
        try:
            return call(self._sftp)
        except BaseException:
            self.close()
            raise


def _item(path: str, entry: Entry) -> FileItem:
    mtime_ns = None if entry.mtime_s is None else entry.mtime_s * 1_000_000_000
    size_bytes = (
        entry.size_bytes if entry.size_bytes is not None and entry.size_bytes <= MOST_SIZE_BYTES else None
    )
    return FileItem(path, size_bytes, mtime_ns)


def _kind_left_out(path: str, entry: Entry) -> str | None:
    if path == LEFT_OUT and entry.is_folder:
        return "system"
    if stat.S_ISLNK(entry.mode):
        return "symbolic link"
    return None if entry.is_folder or stat.S_ISREG(entry.mode) else "special file"


def _segments(path: str) -> list[bytes]:
    return os.fsencode(path).split(b"/")
