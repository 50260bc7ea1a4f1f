"""``file://``: a folder of this machine, or one that all nodes mount."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ingest.config import local_folder
from ingest.digests import hashed
from ingest.errors import (
    BucketMissing,
    ChecksumMismatch,
    ConfigError,
    ItemError,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    StoreError,
)
from ingest.stores import folders
from ingest.stores.base import (
    Capabilities,
    Checksum,
    ObjectInfo,
    ObjectMeta,
    Store,
    Stored,
    Transfer,
    probe_key,
)
from ingest.stores.source import hashed_pieces
from ingest.stores.vendor_errors import Place, from_os

PIECE_BYTES = 8 << 20
READ_BYTES = 1 << 20


def is_object(path: Path, store: Store, key: str) -> bool:
    """Whether a file of this machine is the object itself, and so no second copy of it."""
    folder = local_folder(store.url)
    try:
        return folder is not None and path.samefile(folder / key)
    except OSError:  # one of them is not there, or cannot be looked at, which whoever reads it says
        return False


class LocalStore(Store):
    """Objects as plain files below ``root``, put in place whole: written under a hidden name, then renamed.

    Each file and its folder are fsynced before a put returns. A file's SHA-256 is not kept anywhere,
    so :meth:`stat` reads the file. Where ``capabilities.checksum`` is ``READ_BACK`` (what ``auto`` means
    here) the file is read again before it gets its name, and compared with what was sent; where it is ``NONE``
    only its size is checked.
    """

    def __init__(
        self, url: str, root: Path, *, checksum: str = "auto", capabilities: Capabilities | None = None
    ) -> None:
        self.url = url
        self.root = str(root)
        self._place = Place(url)
        self._checksum = checksum
        self.capabilities = capabilities or Capabilities(
            if_absent=True, checksum=Checksum.READ_BACK, metadata=False, resumable=False
        )

    def probe(self) -> Capabilities:
        """Make the folder where only it is missing, and find out whether ``if_absent`` can be honoured.

        Raises:
            BucketMissing, StoreRefused, StoreFull: as :meth:`Store.probe`.
            ConfigError: a checksum is forced that no file system has.
        """
        if self._checksum in ("sha256", "md5"):
            raise ConfigError(
                f"a folder has no {self._checksum} answer to check",
                place="destination.checksum",
                hint="`read_back` reads each file again, `none` checks its size only",
            )
        with self._errors(None), suppress(FileExistsError):
            Path(self.root).mkdir()
        checksum = Checksum.NONE if self._checksum == "none" else Checksum.READ_BACK
        self.capabilities = Capabilities(True, checksum, metadata=False, resumable=False)
        self.capabilities = replace(self.capabilities, if_absent=self._keeps_existing())
        return self.capabilities

    def _keeps_existing(self) -> bool:
        key, body = probe_key(), b"probe"
        meta = ObjectMeta(hashlib.sha256(body).hexdigest())
        try:
            self.put(key, body, meta, if_absent=True)
            self.put(key, body, meta, if_absent=True)
        except ObjectExists:
            return True
        except StoreError:  # it cannot be done here, or no writing at all: that the plain put will say
            self.put(key, body, meta)
        finally:
            self.delete([key])
        return False

    def check_key(self, key: str) -> None:
        """See :meth:`Store.check_key`."""
        if any(part.startswith(folders.TEMP_PREFIX) for part in key.split("/")):
            raise KeyInvalid(f"its key {key!r} has a name that begins with {folders.TEMP_PREFIX!r}")

    def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
        """See :meth:`Store.put`."""
        return self._write(key, iter((body,)), lambda file: _has(file, body), if_absent=if_absent)

    def put_file(
        self,
        key: str,
        path: Path,
        meta: ObjectMeta,
        *,
        if_absent: bool = False,
        transfer: Transfer | None = None,
    ) -> Stored:
        """See :meth:`Store.put_file`. One that is interrupted begins anew."""
        transfer = transfer or Transfer()
        pieces = hashed_pieces(path, meta, PIECE_BYTES, transfer.check)

        def is_as_sent(file: int) -> bool:
            return hashed(_read_again(file), transfer.check)[0] == meta.sha256

        return self._write(key, _paced(pieces, transfer), is_as_sent, if_absent=if_absent)

    def _write(
        self,
        key: str,
        pieces: Iterator[bytes],
        is_as_sent: Callable[[int], bool],
        *,
        if_absent: bool,
    ) -> Stored:
        self.check_key(key)
        if_absent = if_absent and self.capabilities.if_absent
        temp = folders.TEMP_PREFIX + secrets.token_hex(8)
        with self._errors(key), ExitStack() as stack:
            folder, name, descriptor, named = stack.enter_context(folders.new_file(self.root, key, temp))
            try:
                size_bytes = _fill(descriptor, pieces)
                self._verify(descriptor, key, size_bytes, is_as_sent)
                if named:
                    _name_it(folder, temp, name, if_absent=if_absent)
                elif if_absent:
                    folder, name = stack.enter_context(_naming_new(self.root, key, descriptor))
                else:
                    folder, name = stack.enter_context(folders.naming(self.root, key, descriptor, temp))
                    _name_it(folder, temp, name, if_absent=False)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temp, dir_fd=folder)
                raise
            os.fsync(folder)
        return Stored(key, size_bytes, None)

    def _verify(self, descriptor: int, key: str, size_bytes: int, is_as_sent: Callable[[int], bool]) -> None:
        if os.fstat(descriptor).st_size != size_bytes:
            raise ChecksumMismatch(f"{self._place}: {key!r} has not the size that was written")
        if self.capabilities.checksum is Checksum.READ_BACK and not is_as_sent(descriptor):
            raise ChecksumMismatch(f"{self._place}: {key!r} reads back as other bytes than were sent")

    def stat(self, key: str) -> ObjectInfo | None:
        """See :meth:`Store.stat`. Reads the whole file for its SHA-256."""
        try:
            sha256, size_bytes = hashed(self.read(key))
        except ObjectMissing:
            return None
        return ObjectInfo(key, size_bytes, sha256=sha256)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Store.list`. Files whose names are not UTF-8 are not ours, and are passed over."""
        with self._errors(None):
            for raw, size_bytes in folders.walk(self.root, prefix.encode(), (after or "").encode()):
                with suppress(UnicodeDecodeError):
                    yield ObjectInfo(raw.decode(), size_bytes)

    def read(self, key: str) -> Iterator[bytes]:
        """See :meth:`Store.read`."""
        try:
            with ExitStack() as stack:
                with folders.folder_of(self.root, key) as (folder, name):
                    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
                file = stack.enter_context(_plain_file(descriptor))
                while piece := os.read(file, READ_BYTES):
                    yield piece
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
                raise ObjectMissing(f"{self._place}: there is no object under {key!r}") from None
            raise from_os(error, self._place, key) from None

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`. Folders that become empty go too."""
        for key in keys:
            try:
                with folders.folder_of(self.root, key) as (folder, name):
                    os.unlink(name, dir_fd=folder)
                folders.remove_empty(self.root, key)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
                    raise from_os(error, self._place, key) from None

    @contextmanager
    def _errors(self, key: str | None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, key) from None

    def _error(self, error: OSError, key: str | None) -> StoreError | ItemError:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and not Path(self.root).is_dir():
            return BucketMissing(
                f"{self._place}: {'this is a file' if Path(self.root).exists() else 'the folder is not there'}",
                hint="check destination.url; only its last folder is made, and only by `ingest create`",
            )
        return from_os(error, self._place, key)


def _paced(pieces: Iterator[bytes], transfer: Transfer) -> Iterator[bytes]:
    for piece in pieces:
        transfer.pace(len(piece))
        yield piece
        transfer.sent(len(piece))


def _read_again(descriptor: int) -> Iterator[bytes]:
    """What a file that was just written has, from its beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    while piece := os.read(descriptor, READ_BYTES):
        yield piece


def _has(descriptor: int, body: bytes) -> bool:
    """Whether a file that was just written has these bytes, which is quicker to see than to hash it."""
    place = 0
    for piece in _read_again(descriptor):
        if not body.startswith(piece, place):
            return False
        place += len(piece)
    return place == len(body)


def _fill(descriptor: int, pieces: Iterator[bytes]) -> int:
    size_bytes = 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]
        size_bytes += len(piece)
    os.fsync(descriptor)
    return size_bytes


@contextmanager
def _plain_file(descriptor: int) -> Iterator[int]:
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, "is no file")
        yield descriptor
    finally:
        os.close(descriptor)


def _name_it(folder: int, temp: str, name: str, *, if_absent: bool) -> None:
    """Give the finished file its name, in one step: in place of another, or only where there is none."""
    if not if_absent:
        os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        if _linked(folder, temp, name):
            os.unlink(temp, dir_fd=folder)
    except FileExistsError:
        _ensure_plain(folder, name)
        raise


def _linked(folder: int, temp: str, name: str) -> bool:
    """Whether the file has both names now; False where it has the new one alone, as there are no hard links here."""
    try:
        os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        if not folders.rename_new(folder, temp, name):
            raise
        return False
    return True


@contextmanager
def _naming_new(root: str, key: str, descriptor: int) -> Iterator[tuple[int, str]]:
    """Name an unnamed file by its key in one step, so that a kill leaves nothing else behind."""
    with ExitStack() as stack:
        try:
            named = stack.enter_context(folders.naming(root, key, descriptor, None))
        except FileExistsError:
            with folders.folder_of(root, key) as (folder, name):
                _ensure_plain(folder, name)
            raise
        yield named


def _ensure_plain(folder: int, name: str) -> None:
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise IsADirectoryError(errno.EISDIR, "is no file") from None
