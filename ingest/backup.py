"""Backup copies of what lies on a tag or a card: fetched once, checked, put in place whole, and never overwritten."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from ingest.digests import hashed_on_disk
from ingest.errors import NO_SPACE, ConfigError, KeyConflict, KeyInvalid, SourceChanged, SourceUnreadable
from ingest.part_files import give_name, locked_part, make_folders, sync_folder

PART_SUFFIX = ".ingest-part"
"""Unfinished copies are named by a dot, the file's name and this. A later try goes on from them."""

LITTLE_BYTES = 1 << 20
_LONGEST_NAME_BYTES = 255

Fetch = Callable[[BinaryIO, int], str | None]
"""Appends the source's bytes from an offset on to a file that stands there, in order. It may give the SHA-256 of the
whole source, if it knows it. Faults of the source are ItemErrors."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A verified copy. ``was_there`` says that nothing had to be fetched."""

    path: Path
    sha256: str
    size_bytes: int
    was_there: bool


class BackupFolder:
    """The copies below ``root``. Several processes, and several threads, may use one folder at once.

    Args:
        root: the folder; :meth:`check` makes it where only it is missing.
        check: raises to interrupt; called in what takes seconds.
    """

    def __init__(self, root: Path, check: Callable[[], None] = lambda: None) -> None:
        self.root = root.absolute()
        self._interrupt = check
        self._short_bytes = 0
        self._identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Look whether the folder is there and writable, and has room for what did not fit in before.

        Raises:
            ConfigError: it is not, or has not, and why.
        """
        try:
            if self._identity is None and self.root.parent.is_dir():
                self.root.mkdir(exist_ok=True)
            info = self.root.stat()
        except OSError as error:
            hint = "is its drive mounted? Only the last folder of the path is made"
            raise ConfigError(
                f"the backup folder {self.root} is not there: {error.strerror}", hint=hint
            ) from None
        if self._identity not in (None, (info.st_dev, info.st_ino)):
            raise ConfigError(
                f"the backup folder {self.root} is another one now", hint="is its drive mounted?"
            )
        if not stat.S_ISDIR(info.st_mode) or not os.access(self.root, os.W_OK | os.X_OK):
            raise ConfigError(f"the backup folder {self.root} may not be written to")
        self._identity = info.st_dev, info.st_ino
        self._check_room()

    def _check_room(self) -> None:
        wanted_bytes = max(self._short_bytes, LITTLE_BYTES)
        free_bytes = shutil.disk_usage(self.root).free
        if free_bytes < wanted_bytes or (self._short_bytes and not self._can_allocate(wanted_bytes)):
            raise ConfigError(
                _no_room(self.root, wanted_bytes, free_bytes), hint="make room; it then goes on"
            )
        self._short_bytes = 0

    def _can_allocate(self, size_bytes: int) -> bool:
        """Whether so much can be had: a quota is not seen in what a disk has left."""
        if not hasattr(os, "posix_fallocate"):
            return True
        probe = self.root / f".{os.getpid()}{PART_SUFFIX}"
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError as error:
            return error.errno not in NO_SPACE
        finally:
            os.close(descriptor)
            probe.unlink()
        return True

    def path_of(self, name: str) -> Path:
        """Where the copy of ``name``, a POSIX path below the root, lies; surrogate escapes stand for other bytes.

        Raises:
            KeyInvalid: it is no path below the root, or is named like an unfinished copy.
        """
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise KeyInvalid(f"{name!r} is no path below the backup folder {self.root}")
        if parts[-1].startswith(".") and parts[-1].endswith(PART_SUFFIX):
            raise KeyInvalid(f"{name!r} has the name of an unfinished backup copy", hint="rename the file")
        return self.root / name

    def keep(
        self,
        name: str,
        *,
        size_bytes: int,
        mtime_ns: int | None,
        sha256: Callable[[], str] | str | None,
        fetch: Fetch,
    ) -> Kept:
        """The verified copy of ``name``: the one that is there and equal, or one fetched now. May be repeated.

        An unfinished copy is gone on with where it ends. The whole is read back from the disk and hashed; where that
        is not the source's hash, it is fetched once anew. It then gets its time and its name, in one step.

        Args:
            name: as in :meth:`path_of`.
            size_bytes: the source's.
            mtime_ns: the source's modification time, in nanoseconds since 1970 UTC.
            sha256: the source's, in hexadecimal, or what finds it out, which is asked at most once, and only where
                it is needed. None where the source cannot say; then a copy that is there is compared with what is
                fetched, and what ``fetch`` gives is relied on.
            fetch: gets the source's bytes.

        Raises:
            KeyConflict: another file has this name; it is left as it is.
            KeyInvalid: as :meth:`path_of`.
            SourceChanged: what was fetched twice is not what the source says it has.
            SourceUnreadable: the folder is away or full, which :meth:`check` then says, or what ``fetch`` raises.
        """
        wanted = _Wanted(self.path_of(name), name, size_bytes, mtime_ns, sha256, fetch)
        there = self._there(wanted) if wanted.sha256 is not None else None
        if there is not None:
            return there
        with self._errors(wanted), self._locked_part(wanted) as part:
            if wanted.sha256 is not None and (there := self._there(wanted)):
                wanted.part.unlink()
                return there
            self._make_room(wanted, part)
            return self._put_in_place(wanted, part, self._fetched(wanted, part))

    def _there(self, wanted: _Wanted) -> Kept | None:
        """The copy that is there already, or None.

        Raises:
            KeyConflict: something else is there.
        """
        with self._errors(wanted):
            try:
                descriptor = os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
                    raise
                raise _conflict(wanted) from None
            if not _is_file_of(descriptor, wanted.size_bytes):
                os.close(descriptor)
                raise _conflict(wanted)
            with io.FileIO(descriptor) as file:
                found = hashed_on_disk(file, self._interrupt)[0]
        if found != wanted.hash():
            raise _conflict(wanted)
        return Kept(wanted.path, found, wanted.size_bytes, was_there=True)

    @contextmanager
    def _locked_part(self, wanted: _Wanted) -> Iterator[io.FileIO]:
        """The unfinished copy, which no other process has meanwhile."""
        make_folders(self.root, wanted.path.parent)

        def refused(error: OSError) -> NoReturn:
            self._refuse(wanted, error)

        with locked_part(wanted.part, refused, self._interrupt) as part:
            yield part

    def _make_room(self, wanted: _Wanted, part: io.FileIO) -> None:
        missing_bytes = wanted.size_bytes - os.fstat(part.fileno()).st_size
        if shutil.disk_usage(self.root).free < missing_bytes:
            self._refuse(wanted, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _fetched(self, wanted: _Wanted, part: io.FileIO) -> str:
        """Complete the unfinished copy; its SHA-256.

        Raises:
            SourceChanged: it is not what the source says.
        """
        offset = os.fstat(part.fileno()).st_size
        if offset > wanted.size_bytes:
            offset = 0
        for start in (offset, 0):
            part.truncate(start)
            part.seek(start)
            on_the_way = wanted.fetch(cast(BinaryIO, part), start) if start < wanted.size_bytes else None
            os.fsync(part.fileno())
            size_bytes, sha256 = os.fstat(part.fileno()).st_size, hashed_on_disk(part, self._interrupt)[0]
            expected = wanted.hash() if wanted.sha256 is not None else on_the_way
            if size_bytes == wanted.size_bytes and sha256 == (expected or sha256):
                return sha256
        part.truncate(0)
        raise SourceChanged(
            f"{wanted.name!r} is not what was listed: {size_bytes} bytes with SHA-256 {sha256[:12]}… were fetched, "
            f"twice; expected {wanted.size_bytes} bytes with {(expected or 'unknown')[:12]}…",
            hint="retry when nothing writes to it any more",
        )

    def _put_in_place(self, wanted: _Wanted, part: io.FileIO, sha256: str) -> Kept:
        kept = Kept(wanted.path, sha256, wanted.size_bytes, was_there=False)
        if wanted.mtime_ns is not None:
            os.utime(part.fileno(), ns=(wanted.mtime_ns, wanted.mtime_ns))
            os.fsync(part.fileno())
        try:
            give_name(wanted.part, wanted.path)
        except FileExistsError:
            there = self._there(wanted.known(sha256))
            wanted.part.unlink()
            return there or kept
        sync_folder(wanted.path.parent)
        return kept

    @contextmanager
    def _errors(self, wanted: _Wanted) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._refuse(wanted, error)

    def _refuse(self, wanted: _Wanted, error: OSError) -> NoReturn:
        """Raise what an error of this folder means."""
        if error.errno not in NO_SPACE:
            raise SourceUnreadable(
                f"the backup copy {wanted.path} cannot be written: {error.strerror or error}"
            ) from error
        with suppress(OSError):
            there_bytes = wanted.part.stat().st_size if wanted.part.exists() else 0
            self._short_bytes = max(LITTLE_BYTES, wanted.size_bytes - there_bytes)
        raise SourceUnreadable(
            _no_room(self.root, self._short_bytes, shutil.disk_usage(self.root).free),
            hint="make room; what was fetched so far is kept",
        ) from error


@dataclass(slots=True)
class _Wanted:
    """What is to be kept."""

    path: Path
    name: str
    size_bytes: int
    mtime_ns: int | None
    sha256: Callable[[], str] | str | None
    fetch: Fetch

    @property
    def part(self) -> Path:
        """The unfinished copy."""
        name = self.path.name
        part = f".{name}{PART_SUFFIX}"
        if len(os.fsencode(part)) > _LONGEST_NAME_BYTES:
            part = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}{PART_SUFFIX}"
        return self.path.parent / part

    def hash(self) -> str:
        """The source's SHA-256, asked for once."""
        assert self.sha256 is not None
        if not isinstance(self.sha256, str):
            self.sha256 = self.sha256()
        return self.sha256

    def known(self, sha256: str) -> _Wanted:
        """The same, with a hash that is known now."""
        return _Wanted(self.path, self.name, self.size_bytes, self.mtime_ns, sha256, self.fetch)


def _no_room(root: Path, wanted_bytes: int, free_bytes: int) -> str:
    return (
        f"no space left in the backup folder {root}: {wanted_bytes >> 20} MiB are needed, "
        f"{free_bytes >> 20} MiB are free"
    )


def _conflict(wanted: _Wanted) -> KeyConflict:
    return KeyConflict(
        f"the backup folder has another file at {wanted.path} already, which is left as it is",
        hint="give another backup folder, or look at what is there and move it away",
    )


def _is_file_of(descriptor: int, size_bytes: int) -> bool:
    info = os.fstat(descriptor)
    return stat.S_ISREG(info.st_mode) and info.st_size == size_bytes
