"""Whale tags on the network: the path processor ``whale_tag``."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import Field, field_validator

from ingest import offloads
from ingest.backup import BackupFolder, Kept
from ingest.config import ConfigPath, Settings
from ingest.errors import ConfigError, ItemError, KeyConflict, SourceAway, SourceChanged, SourceRefused
from ingest.items import FileItem, Item, as_utf8
from ingest.processors import JobContext, Params, PathProcessor
from ingest.ssh.connection import Address
from ingest.ssh.remote_files import RemoteFiles
from ingest.ssh.tag import CAPTURE_SERVICE, NAME_PATTERN, ROOT, USER, Tag, open_tag

BACKUP_FOLDER = "backup"
REMEMBERED = 1024


class WhaleTagParams(Params):
    """Parameters of ``whale_tag``."""

    tags: dict[str, str] = Field(
        min_length=1,
        description="The tags, by their host names, and the address of each: `host`, `host:port`, or an empty text for "
        'the name itself, such as `{"wt-a1b2c3d4": "192.168.1.20"}`.',
    )
    host_pattern: str = Field(
        default=NAME_PATTERN, description="Regular expression that the host names of tags fit as a whole."
    )
    root_dir: str = Field(default=ROOT, pattern=r"^/", description="The folder of the data on a tag.")
    user: str = Field(default=USER, min_length=1, description="Who logs in.")
    key_file: ConfigPath | None = Field(
        default=None,
        description="The private key to log in with. Default: what an agent or `~/.ssh` has, then the password in "
        "`INGEST_TAG_PASSWORD`.",
    )
    backup_dir: ConfigPath | None = Field(
        default=None,
        description="Folder of the backup copies, a folder a tag in it; each file is copied to it first. Default: "
        "`backup` in the state folder.",
    )
    capture_service: str | None = Field(
        default=CAPTURE_SERVICE,
        pattern=r"^[A-Za-z0-9@._-]+$",
        description="The service on a tag that records. It is stopped before the files are listed. null where there is "
        "none.",
    )
    connections_per_tag: int = Field(
        default=2, ge=1, le=16, description="Files of a tag read at once, over all nodes of the job."
    )

    @field_validator("tags")
    @classmethod
    def _have_addresses(cls, tags: dict[str, str]) -> dict[str, str]:
        for name, address in tags.items():
            Address.parse(address or name)
        return dict(sorted(tags.items()))

    @field_validator("host_pattern")
    @classmethod
    def _is_pattern(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return text


class WhaleTag(PathProcessor[WhaleTagParams]):
    """The files on whale tags, over SSH: of each tag all below its folder of data, with their folders.

    An item's path is the tag's name and the file's path on the tag: ``wt-a1b2c3d4/dive/audio.raw``. A file is copied to
    the backup folder first: into a file with a temporary name, which a later try goes on with; the whole is then
    compared with the SHA-256 that ``sha256sum`` gives on the tag, and gets its name. A copy that is there and equal is
    taken as it is. One of another file is left: the new copy's name then ends with ``~`` and the begin of its SHA-256.

    A tag that goes out of reach pauses its files, not the job: its batches go back to the queue until it is back. Its
    host key must be the one that it showed at first contact. The capture service is stopped before the files are
    listed. ``lost+found`` is left out; links and special files are too, and are counted.

    Key fields, beside those of a file, whose path in them is that on the tag: ``{device}`` and ``{ingest_date}``. A
    name that is not UTF-8 is written in them with ``%`` and two digits for each byte that is not. The manifest says
    ``device``, ``source_path`` (below the folder of data), ``source_sha256`` and ``backup``.
    """

    Params: ClassVar[type[Params]] = WhaleTagParams
    key_fields: ClassVar[Mapping[str, str]] = {
        "device": "the tag's name",
        "ingest_date": "the UTC day on which the job was created",
    }
    _was_checked = False

    def __init__(self, params: WhaleTagParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._settings = Settings.load()
        self._tags: dict[str, Tag] = {}
        self._facts: dict[str, Mapping[str, str]] = {}
        self._listed: OrderedDict[str, FileItem] = OrderedDict()

    @cached_property
    def _backup(self) -> BackupFolder:
        root = self.params.backup_dir
        if root is None:
            root = self._settings.state_dir / BACKUP_FOLDER
            root.parent.mkdir(parents=True, exist_ok=True)
        return BackupFolder(root, self.context.check)

    @cached_property
    def _hashing(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "sha256sum")

    def check(self) -> None:
        """Look whether the backup folder can be used; at first, also whether the tags answer and let us in.

        One that is away is no trouble, as long as another is there. Which is away later, its files say.
        """
        if self.context.grid is not None:
            raise ConfigError("whale_tag serves jobs of type 'files' only", place="path_processor.class")
        self._check_names()
        self._check_key()
        self._backup.check()
        if not self._was_checked:
            self._check_tags()
        self._was_checked = True

    def _check_names(self) -> None:
        for name in self.params.tags:
            if not re.fullmatch(self.params.host_pattern, name):
                raise ConfigError(
                    f"{name!r} is no name of a tag: it does not fit {self.params.host_pattern!r}",
                    place="path_processor.params.tags",
                    hint="`ingest tags list` shows which tags there are; `host_pattern` says how they are named",
                )

    def _check_key(self) -> None:
        """Refuse one key for files of two tags."""
        key = str(self.context.config.get("destination", {}).get("key") or "{path}")
        if len(self.params.tags) > 1 and "{device}" not in key:
            raise ConfigError(
                f"two tags may have files of one path, and {key!r} does not tell them apart",
                place="destination.key",
                hint="put {device} into it, as in raw/{ingest_date}/{device}/{path}",
            )

    def _check_tags(self) -> None:
        trouble: list[SourceAway] = []
        for name in self.params.tags:
            try:
                self._tag(name).connection()
            except SourceAway as error:
                trouble.append(error)
        refused = [error for error in trouble if isinstance(error, SourceRefused)]
        if refused or len(trouble) == len(self.params.tags):
            first = (refused or trouble)[0]
            raise ConfigError(first.what, place="path_processor.params.tags", hint=first.hint) from first

    def _tag(self, name: str) -> Tag:
        if name not in self._tags:
            params = self.params
            self._tags[name] = open_tag(
                name,
                params.tags[name],
                self._settings,
                user=params.user,
                key_file=params.key_file,
                root=params.root_dir,
                check=self.context.check,
            )
        return self._tags[name]

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        """The files, tag after tag, depth first; the entries of one folder at each depth are held.

        Raises:
            SourceAway: a tag is out of reach; the listing goes on when it is back.
        """
        self.left_out.clear()
        reached, _, below = (after or "").partition("/")
        for name in self.params.tags:
            if name < reached:
                continue
            tag = self._tag(name)
            self._begin(tag)
            for item in tag.files.list(below if name == reached else None, self.left_out):
                yield FileItem(f"{name}/{item.path}", item.size_bytes, item.mtime_ns)

    def _begin(self, tag: Tag) -> None:
        """Stop the capture, and record that this job offloads the tag. A preview leaves it as it is."""
        if self.context.is_preview:
            return
        service = self.params.capture_service
        state = tag.capture_state(service) if service is not None else None
        if not any(
            record["job_id"] == self.context.job_id for record in offloads.read(self._settings, tag.name)
        ):
            offloads.append(
                self._settings,
                tag.name,
                self.context.job_id,
                destination=self.context.config.get("destination"),
                backup=self._backup.root,
                created_s=time.time(),
                state=state,
            )
        if service is not None and state not in ("inactive", "failed", "unknown"):
            tag.stop_capture(service)

    def path(self, item: Item) -> str:
        """``NAME:/data/…``, as ``scp`` has it.

        Raises:
            ItemError: the item is no file of one of the tags.
        """
        if not isinstance(item, FileItem):
            raise ItemError("`whale_tag` serves jobs of type 'files' only")
        name, _, below = item.path.partition("/")
        segments = below.split("/")
        if (
            name not in self.params.tags
            or "" in segments
            or "." in segments
            or ".." in segments
            or "\0" in below
        ):
            raise ItemError(f"{item.path!r} is no file of one of the tags {', '.join(self.params.tags)}")
        path = f"{name}:{self.params.root_dir.rstrip('/')}/{below}"
        self._listed[path] = item
        self._listed.move_to_end(path)
        while len(self._listed) > REMEMBERED:
            self._listed.popitem(last=False)
        return path

    def beside(self, item: FileItem) -> Sequence[FileItem]:
        """The files in its folder on the tag, itself too."""
        name, _, below = item.path.partition("/")
        files = self._tag(name).files.files_in(below.rpartition("/")[0])
        return [FileItem(f"{name}/{one.path}", one.size_bytes, one.mtime_ns) for one in files]

    def fields(self, item: Item) -> Mapping[str, str | int]:
        """``device``, ``ingest_date``, and the fields of the file by its path on the tag."""
        if not isinstance(item, FileItem):
            return {}
        device, _, below = item.path.partition("/")
        return {**FileItem(as_utf8(below)).fields(), "device": device, "ingest_date": self.context.date}

    def open(self, path: str) -> AbstractContextManager[Path]:
        """The backup copy of the file, made now where there is none.

        Raises:
            SourceAway: the tag is out of reach.
            SourceMissing, SourceUnreadable, SourceChanged: the file is not there, cannot be read, or was written to.
            KeyConflict: the backup folder has other files in its place.
        """
        return self._opened(path)

    @contextmanager
    def _opened(self, path: str) -> Iterator[Path]:
        name, _, there = path.partition(":")
        below = there.removeprefix(self.params.root_dir.rstrip("/") + "/")
        with self.context.slots.take(f"tag {name}", self.params.connections_per_tag):
            kept = self._kept(self._tag(name), below, self._listed.get(path))
        self._facts[path] = {
            "device": name,
            "source_path": as_utf8(below),
            "source_sha256": kept.sha256,
            "backup": str(kept.path),
        }
        try:
            yield kept.path
        finally:
            self._facts.pop(path, None)

    def _kept(self, tag: Tag, below: str, listed: FileItem | None) -> Kept:
        item = tag.files.look(below)
        if listed is not None and (item.size_bytes, item.mtime_ns) != (listed.size_bytes, listed.mtime_ns):
            raise SourceChanged(
                f"it had {listed.size_bytes} bytes when it was listed and has {item.size_bytes} now, or another time",
                hint="is the capture service stopped? `ingest retry` takes it as it is then",
            )
        copying = _Copying(tag, item, self._hashing)
        name = f"{tag.name}/{below}"
        try:
            return copying.kept(self._backup, name)
        except KeyConflict:
            return copying.kept(self._backup, f"{name}~{copying.sha256()[:12]}")

    def facts(self, path: str) -> Mapping[str, str]:
        """``device``, ``source_path``, ``source_sha256`` and ``backup``."""
        return self._facts.get(path, {})

    def close(self) -> None:
        """Close the connections. The backup copies stay."""
        for tag in self._tags.values():
            tag.close()
        self._tags.clear()
        if "_hashing" in self.__dict__:
            self._hashing.shutdown(wait=False, cancel_futures=True)


class _Copying:
    """One file on its way to the backup folder. The tag hashes it meanwhile."""

    def __init__(self, tag: Tag, item: FileItem, hashing: ThreadPoolExecutor) -> None:
        self._tag = tag
        self._item = item
        self._hashing = hashing
        self._there: Future[str | None] | None = None
        self._here: str | None = None

    def kept(self, backup: BackupFolder, name: str) -> Kept:
        """The verified copy; see :meth:`BackupFolder.keep`."""
        return backup.keep(
            name,
            size_bytes=self._item.size_bytes or 0,
            mtime_ns=self._item.mtime_ns,
            sha256=self.sha256,
            fetch=self._fetch,
        )

    def sha256(self) -> str:
        """The file's SHA-256: as the tag has it, or of all that was read from it."""
        self._begin_hashing()
        there = self._there.result() if self._there is not None else None
        return there or self._here or self._tag.files.sha256_here(self._item.path)

    def _begin_hashing(self) -> None:
        """Let the tag begin, on the same connection, where it can."""
        files = self._tag.files
        if self._there is None and files.can_hash():
            connection = self._tag.connection()
            beside = RemoteFiles(lambda: connection, files.root)
            self._there = self._hashing.submit(beside.sha256_there, self._item.path)

    def _fetch(self, file: BinaryIO, offset: int) -> None:
        self._begin_hashing()
        assert self._item.size_bytes is not None
        if self._there is not None or offset:
            self._tag.files.read(self._item.path, file.write, size_bytes=self._item.size_bytes, offset=offset)
            return
        read = hashlib.sha256()

        def sink(piece: bytes) -> None:
            file.write(piece)
            read.update(piece)

        self._tag.files.read(self._item.path, sink, size_bytes=self._item.size_bytes)
        self._here = read.hexdigest()
