"""The list of registered devices where it is kept: at a bucket's root, or in a file. Nobody's addition is lost."""

from __future__ import annotations

import abc
import fcntl
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from ingest.config import Destination, UploadConfig, local_folder
from ingest.devices import LIST_NAME, added, parse
from ingest.errors import ConfigError, ObjectExists, ObjectMissing, StoreError, StoreUnreachable
from ingest.stores.base import Capabilities, Checksum, ObjectInfo, ObjectMeta, probe_key
from ingest.stores.objects import ObjectStore
from ingest.stores.open import open_bucket

UNCHECKED = Capabilities(if_absent=False, checksum=Checksum.NONE, metadata=False, resumable=False)
"""What is written is read again here. A check of the store's would delete what another has put in its place."""
TRIES = 20
SETTLE_S = 1.0
"""Where a server cannot be asked to keep what another wrote: how long after a write it is looked at again. Whoever had
read the list before has written by then, and what that took away is added anew."""


class DeviceList(abc.ABC):
    """A list of device IDs. ``where`` says to people where it is."""

    where: str

    @abc.abstractmethod
    def text(self) -> bytes | None:
        """The list as it stands, or None where there is none.

        Raises:
            StoreError, ConfigError: it cannot be read.
        """

    @abc.abstractmethod
    def add(self, devices: Sequence[str]) -> None:
        """Add those IDs that are not in it, and make it where it is not there. May be repeated, and at once by others.

        Raises:
            ConfigError: one is no device ID.
            StoreError: it cannot be written.
        """

    def devices(self) -> list[str]:
        """The IDs, in the list's order.

        Raises:
            ConfigError: there is no list, or it is not UTF-8.
        """
        text = self.text()
        if text is None:
            raise ConfigError(
                f"there is no list of devices: {self.where}",
                hint="`ingest devices add ID --to URL` (or `--file FILE`) makes it",
            )
        return parse(text, self.where)


def device_list(destination: Destination) -> DeviceList:
    """The list that is kept in a destination: at its bucket's root, as CETI keeps it, or in the folder itself."""
    folder = local_folder(destination.url)
    if folder is not None:
        return FileDeviceList(folder / LIST_NAME)
    store = open_bucket(destination, UploadConfig(), UNCHECKED)
    assert isinstance(store, ObjectStore)
    return StoredDeviceList(store)


class FileDeviceList(DeviceList):
    """A list in a file of this machine. The folder is locked while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)

    def text(self) -> bytes | None:
        """See :meth:`DeviceList.text`."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.where} cannot be read: {error.strerror}") from None

    def add(self, devices: Sequence[str]) -> None:
        """See :meth:`DeviceList.add`."""
        try:
            self.path.parent.mkdir(exist_ok=True)
            with _locked(self.path.parent) as folder:
                before = self.text() or b""
                after = added(before, devices, self.where)
                if after != before:
                    self._replace(after, folder)
        except OSError as error:
            raise ConfigError(
                f"{self.where} cannot be written: {error.strerror}", hint="is its folder there?"
            ) from None

    def _replace(self, text: bytes, folder: int) -> None:
        with NamedTemporaryFile(dir=self.path.parent, prefix=".devices-", delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), self.path.stat().st_mode & 0o777 if self.path.exists() else 0o644)
                os.fsync(file.fileno())
                Path(file.name).rename(self.path)
            except BaseException:
                with suppress(FileNotFoundError):
                    Path(file.name).unlink()
                raise
        os.fsync(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class StoredDeviceList(DeviceList):
    """A list in a bucket.

    Where the server minds ETags, it is written on condition that nobody else wrote it meanwhile. Where it does not, it
    is looked at again after a while, and what another has overwritten is added anew.

    Args:
        store: the bucket's root.
        sleep: waits for so many seconds.
    """

    def __init__(self, store: ObjectStore, sleep: Callable[[float], None] = time.sleep) -> None:
        self.where = f"{store.url}/{LIST_NAME}"
        self._store = store
        self._sleep = sleep

    def text(self) -> bytes | None:
        """See :meth:`DeviceList.text`."""
        try:
            return self._store.read_bytes(LIST_NAME)
        except ObjectMissing:
            return None

    def add(self, devices: Sequence[str]) -> None:
        """See :meth:`DeviceList.add`."""
        conditional = self._store.minds_etags(probe_key())
        once = self._on_condition if conditional else self._until_it_stays
        wanted = [*devices]
        for left in reversed(range(TRIES)):
            try:
                if once(wanted):
                    return
            except StoreUnreachable:  # rclone breaks off what it is asked while another writes
                if not left:
                    raise
                self._sleep(SETTLE_S / 4)
        raise StoreError(
            f"{self.where} could not be added to: others wrote it {TRIES} times meanwhile", hint="try again"
        )

    def _on_condition(self, wanted: list[str]) -> bool:
        """Try once to add; whether all of them are in the list."""
        found, before = self._read()
        if found is not None and found.size_bytes != len(before):
            return False  # it was written in between
        after = added(before, wanted, self.where)
        if found is None or after != before:
            with suppress(ObjectExists):
                self._store.put_if_unchanged(LIST_NAME, after, _meta(after), found.etag if found else None)
            return False
        return True

    def _until_it_stays(self, wanted: list[str]) -> bool:
        """Try once to add; whether all of them were in the list already.

        Such a server may show half of a text, or none, while it takes another, and delete both where two write at
        once. So the list is read twice, and all that is seen in it is wanted from then on.
        """
        found, before = self._read()
        self._sleep(SETTLE_S / 4 if before else SETTLE_S)
        if self._read() != (found, before):
            return False
        wanted[:0] = [device for device in parse(before, self.where) if device not in wanted]
        after = added(before, wanted, self.where)
        if found is None or after != before:
            self._store.put(LIST_NAME, after, _meta(after))
            self._sleep(SETTLE_S * (1 + random.random()))
            return False
        return True

    def _read(self) -> tuple[ObjectInfo | None, bytes]:
        """The list with its ETag. The ETag comes first: it never stands for newer text than what is read."""
        found = self._store.stat(LIST_NAME)
        if found is None:
            return None, b""
        return found, self.text() or b""


def _meta(text: bytes) -> ObjectMeta:
    return ObjectMeta(hashlib.sha256(text).hexdigest(), "text/plain; charset=utf-8")
