"""Memory cards and drives: the path processor ``card``. A backup copy first, and nothing written to the card."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from ingest.backup import BackupFolder, Kept
from ingest.card_reading import Reading
from ingest.config import ConfigPath, local_folder
from ingest.devices import checked_id
from ingest.errors import ConfigError, KeyConflict, KeyInvalid, SourceMissing, SourceUnreadable
from ingest.items import FileItem, Item, as_utf8
from ingest.plugins.files import Folder, FolderParams
from ingest.plugins.folder_walk import Walk
from ingest.plugins.local import regular_file
from ingest.plugins.patterns import choice_of
from ingest.processors import JobContext, Params
from ingest.system_names import hidden_kind

FOLDERS_HELD = 32
"""Of so many folders the epoch names are held: neighbours lie in one."""
NS_IN_MS = 1_000_000
SECOND_CARD = (
    "is this another card of the device, with the same names? `ingest offload --move-names` (`epoch_names`) tells them "
    "apart; or give another backup folder"
)
NO_DEVICE = "it lies in no device's folder: move it into one"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def _checked_device(device: str | None) -> str | None:
    try:
        return device if device is None else checked_id(device)
    except ConfigError as error:
        raise ValueError(error.what) from None


class CardParams(FolderParams):
    """Parameters of ``card``."""

    root_dir: ConfigPath = Field(
        description="Where the card is mounted, or a folder on it; all files below it are items."
    )
    device: Annotated[str | None, AfterValidator(_checked_device)] = Field(
        default=None,
        description="The ID of the device that the card was in. Where it is not given, each folder in `root_dir` is "
        "named by the ID of a device, and holds its files.",
    )
    backup_dir: ConfigPath | None = Field(
        default=None,
        description="A folder on another disk: each file is copied there first, to `DATE/DEVICE/PATH`, read back and "
        "compared, and stored from there. Only its last folder is made.",
    )
    epoch_names: bool = Field(
        default=False,
        description="Bring the key field `{epoch_name}`, and name the backup copies so.",
    )
    hidden: bool = Field(
        default=True,
        description="Take hidden files too: names that start with a dot. What operating systems leave on cards "
        "(`._*`, `.Trashes`, `Thumbs.db`, `System Volume Information` and the like) never is.",
    )


class Card(Folder):
    """The files of a memory card or drive, below ``root_dir``, as `folder` lists them; nothing is ever written there.

    With ``backup_dir`` a file is first copied, the copy read back from its disk and compared with what was read, and
    then stored from the copy, so that the card is read once. A copy that is there and equal, also under an earlier
    day, is taken as it is; a different file is never overwritten. A full disk makes the work wait.

    Key fields, beside those of a file: ``{device}``, ``{ingest_date}`` (the UTC day on which the job was created) and,
    with ``epoch_names``, ``{epoch_name}``: the file's modification time in milliseconds since 1970 UTC, as it is known
    here, with the file's own suffix, as in ``1764244800123.JPG``. Files of one folder that would have one name are told
    apart by a number in the order of their own names: ``1764244800123_1.JPG``. A name that is not UTF-8 is written with
    ``%`` and two digits for each byte that is not, as no key can hold it.

    What a repair of the disk put into ``lost+found`` is taken too.

    The manifest's ``metadata`` gets ``device``, ``source_path``, and with a backup ``source_sha256`` and ``backup``.

    Errors: a file that cannot be read to its end is SourceUnreadable; other content under the name of the backup copy
    is KeyConflict.
    """

    Params: ClassVar[type[Params]] = CardParams
    key_fields: ClassVar[Mapping[str, str]] = {
        "device": "the ID of the device",
        "ingest_date": "the UTC day on which the job was created, as `2026-01-31`",
        "epoch_name": "the modification time in milliseconds since 1970 UTC, with the file's suffix",
    }
    params: CardParams

    def __init__(self, params: CardParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._kept: dict[str, Kept] = {}
        self._epoch_names = lru_cache(FOLDERS_HELD)(self._named_by_epoch)

    @cached_property
    def _backup(self) -> BackupFolder | None:
        folder = self.params.backup_dir
        return BackupFolder(folder, self.context.check) if folder is not None else None

    def check(self) -> None:
        """As `folder`; and whether the backup folder is there, has room, and no copy is to lie on the card itself.

        Raises:
            ConfigError: one is, or the backup folder is not there, or is full.
        """
        super().check()
        destination = self.context.config.get("destination") or {}
        key = str(destination.get("key") or "")
        if "{epoch_name" in key and not self.params.epoch_names:
            raise ConfigError(
                "{epoch_name} is there only with `epoch_names`",
                place="destination.key",
                hint="set path_processor.params.epoch_names to true",
            )
        url = destination.get("url")
        if url and (folder := local_folder(url)):
            self._ensure_elsewhere(folder, "the destination", "destination.url")
        if self._backup is not None:
            if self._backup.root.resolve().is_relative_to(self._real_root):
                raise ConfigError(
                    f"the backup folder {self._backup.root} lies inside {self._root}",
                    place="path_processor.params.backup_dir",
                    hint="choose a folder on another disk",
                )
            root = self._backup.root
            self._ensure_elsewhere(root, "the backup folder", "path_processor.params.backup_dir")
            if not self.context.is_preview or root.exists() or not root.parent.is_dir():
                self._backup.check()  # which makes it where only it is missing

    def _ensure_elsewhere(self, folder: Path, what: str, place: str) -> None:
        """Refuse a folder that lies on the card, beside the folder of it that is offloaded.

        A disk that this system itself lives on is no card: what is offloaded from there is a copy of one.
        """
        own = ("/", tempfile.gettempdir(), str(Path.home()))
        card = _disk_of(Path(self._real_root))
        if card == _disk_of(folder) and card not in {_disk_of(Path(path)) for path in own}:
            raise ConfigError(
                f"{what} {folder} lies on the same disk as {self._root}",
                place=place,
                hint="choose another disk",
            )

    def _walk(self, left_out: Counter[str]) -> Walk:
        params = self.params
        return Walk(
            self._root,
            choice_of(params.include, params.exclude),
            hidden=params.hidden,
            system=False,
            recovered=True,
            follow_links=params.follow_links,
            left_out=left_out,
        )

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        """See `folder`. Where the folders name the devices, a file in none of them is listed, so that it fails."""
        for item in super().paths(after):
            device, slash, _ = item.path.partition("/")
            has_none = self.params.device is None and (not slash or hidden_kind(device) is not None)
            yield replace(item, flaw=NO_DEVICE) if has_none else item

    def fields(self, item: Item) -> Mapping[str, str | int]:
        """See :attr:`key_fields`. The folder of a file is listed for its epoch name.

        Raises:
            KeyInvalid: the file has no time, or lies in no device's folder.
        """
        if not isinstance(item, FileItem):
            return {}
        shown = FileItem(as_utf8(item.path))
        fields: dict[str, str | int] = shown.fields() if shown.path != item.path else {}
        fields |= {"device": self._device(item.path), "ingest_date": self.context.date}
        if self.params.epoch_names:
            fields["epoch_name"] = as_utf8(self._epoch_name(item))
        return fields

    def _device(self, path: str) -> str:
        """The device that a file is of."""
        if self.params.device is not None:
            return self.params.device
        device, slash, _ = path.partition("/")
        if not slash:
            raise KeyInvalid(f"{path!r} lies in no device's folder")
        return device

    def _epoch_name(self, item: FileItem) -> str:
        folder, _, name = item.path.rpartition("/")
        found = self._epoch_names(folder).get(name)
        if found is None and item.mtime_ns is not None:
            return _epoch_name(item, 0)  # it has gone since it was listed, and fails when its turn comes
        if found is None:
            raise KeyInvalid(f"the modification time of {item.path!r} is not known, so it has no epoch name")
        return found

    def _named_by_epoch(self, folder: str) -> dict[str, str]:
        """The epoch names of the files in a folder, by their own names."""
        taken: Counter[str] = Counter()
        names = {}
        for item in self._walk(Counter()).files_in(folder):
            if item.mtime_ns is not None:
                first = _epoch_name(item, 0).lower()
                names[item.path.rpartition("/")[2]] = _epoch_name(item, taken[first])
                taken[first] += 1
        return names

    def backup_name(self, item: FileItem) -> str:
        """The name of a file's backup copy below the backup folder, without the day before it."""
        path = item.path
        if self.params.epoch_names:
            parent, slash, _ = path.rpartition("/")
            path = f"{parent}{slash}{self._epoch_name(item)}"
        return path if self.params.device is None else f"{self.params.device}/{path}"

    @contextmanager
    def open(self, path: str) -> Iterator[Path]:
        """The backup copy of a file, made and verified now if it is not there; without a backup folder the file itself.

        Raises:
            SourceMissing: it is not there.
            SourceUnreadable: it cannot be read to its end; or the backup folder is away or full, as :meth:`check` says.
            SourceChanged: it changes while it is read.
            KeyConflict: its backup copy's name has other content.
        """
        source = regular_file(path)
        if self._backup is None:
            yield source
            return
        self._kept[path] = kept = self._keep(source, path.removeprefix(f"{self._root}/"), self._backup)
        try:
            yield kept.path
        finally:
            self._kept.pop(path, None)

    def _keep(self, source: Path, path: str, backup: BackupFolder) -> Kept:
        try:
            info = source.stat()
        except OSError as error:
            raise SourceMissing(f"{str(source)!r} has just gone: {error.strerror}") from error
        name = self.backup_name(FileItem(path, info.st_size, info.st_mtime_ns))
        reading = Reading(source, self.context.check)

        def keep(day: str) -> Kept:
            return backup.keep(
                f"{day}/{name}",
                size_bytes=info.st_size,
                mtime_ns=info.st_mtime_ns,
                sha256=reading.sha256,
                fetch=reading.fetch,
            )

        if not backup.path_of(f"{self.context.date}/{name}").exists():
            for day in self._earlier_days:
                if _has_size(backup.path_of(f"{day}/{name}"), info.st_size):
                    with suppress(KeyConflict):  # that day's card had another file of this name and size
                        return keep(day)
        try:
            return keep(self.context.date)
        except KeyConflict as error:
            raise KeyConflict(
                error.what, hint=error.hint if self.params.epoch_names else SECOND_CARD
            ) from error

    @cached_property
    def _earlier_days(self) -> list[str]:
        """The days of earlier offloads that have backup copies, the latest first."""
        assert self._backup is not None
        try:
            names = [folder.name for folder in self._backup.root.iterdir()]
        except OSError as error:
            raise SourceUnreadable(
                f"the backup folder {self._backup.root} cannot be listed: {error.strerror}"
            ) from error
        return sorted(
            (name for name in names if _DAY.fullmatch(name) and name < self.context.date), reverse=True
        )

    def facts(self, path: str) -> Mapping[str, str]:
        """See the class."""
        relative = path.removeprefix(f"{self._root}/")
        facts = {"device": self._device(relative), "source_path": as_utf8(relative)}
        kept = self._kept.get(path)
        if kept is not None:
            facts |= {"source_sha256": kept.sha256, "backup": str(kept.path)}
        return facts


def _epoch_name(item: FileItem, number: int) -> str:
    assert item.mtime_ns is not None
    suffix = str(item.fields()["suffix"])
    return f"{item.mtime_ns // NS_IN_MS}{f'_{number}' if number else ''}{suffix}"


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _disk_of(folder: Path) -> int:
    """The disk that a folder lies on, or will: of the nearest above it that is there."""
    for above in (folder, *folder.absolute().parents):
        with suppress(OSError):
            return above.stat().st_dev
    raise AssertionError(f"{folder} lies nowhere")
