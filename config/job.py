"""The job config: what a person writes to say what goes where."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ingest.config.key_template import KeyTemplate
from ingest.config.paths import from_home

MIB = 1 << 20
DEFAULT_BATCH_ITEMS = 512
BATCHES_TO_SHARE = 64
MOST_BATCHES = 1 << 32  # bits of a bitmap in Redis
MARKERS_FOLDER = "raw/hash/"
"""Where ``destination.dedupe`` keeps its markers, at a bucket's root; see :mod:`ingest.markers`."""


class Strict(BaseModel):
    """A part of a config: unknown keys are refused, and it does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _from_config_folder(path: Path, info: ValidationInfo) -> Path:
    """The path as every node will read it: absolute, and without ``..`` as a person reads that."""
    if "\0" in str(path):
        raise ValueError("has a NUL character; no path has")
    base_dir = (info.context or {}).get("base_dir")
    path = from_home(path)
    if base_dir is None or path.is_absolute():
        return path
    return Path(os.path.normpath((Path(base_dir) / path).absolute()))


def _check_no_query(url: str) -> None:
    """What follows a `?` may be a secret, such as a SAS token; a config goes to Redis and into the manifest."""
    if "?" in url or "#" in url:
        raise ValueError(
            "must not hold `?` or `#`: a token does not belong in a config; set AWS_*, GOOGLE_* or AZURE_* "
            "variables on each node"
        )


def local_folder(url: str) -> Path | None:
    """The folder that a destination's URL names; None where it is no folder of this machine."""
    scheme, _, rest = url.partition("://")
    return Path(unquote(rest.removeprefix("localhost"))) if scheme == "file" else None


def folder_url(folder: Path) -> str:
    """What :func:`local_folder` turns into ``folder`` again: of its characters ``%`` alone is written as an escape."""
    return "file://" + str(folder).replace("%", "%25")


def _canonical_folder_url(url: str) -> str:
    """A folder's URL with no escape but that of ``%``, whether it came with spaces or with ``%20`` (RFC 8089).

    Raises:
        ValueError: it names another folder if its escapes are none, and that one is there; or it is no path.
    """
    literal = url[len("file:") :].removeprefix("//").removeprefix("localhost")
    if not literal.startswith("/"):
        raise ValueError(f"{url!r} names no folder; a local folder is file:///folder")
    try:
        folder = Path(unquote(literal, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError(f"{url!r} has escapes that are no UTF-8; give the folder as a plain path") from None
    if "\0" in str(folder):
        raise ValueError("has a NUL character; no path has")
    if unquote(literal.replace("%25", "")) != literal.replace("%25", "") and Path(literal).is_dir():
        raise ValueError(
            f"{url!r} means {str(folder)!r}, and there is a folder {literal!r}; give the one that you mean as a "
            "plain path, without file://"
        )
    return folder_url(folder)


ConfigPath = Annotated[Path, AfterValidator(_from_config_folder)]
"""A path in a config. A relative one is taken from the folder of the config file."""

Span = tuple[int, int]


class Extent(Strict):
    """Which pixels the job covers: half-open ranges ``[start, stop)`` on each axis."""

    x: Span = Field(description="Pixels along a row, half open.")
    y: Span = Field(description="Pixels down a column, half open.")
    z: Span = Field(default=(0, 1), description="Sections, half open.")
    t: Span = Field(default=(0, 1), description="Time points, half open.")

    @field_validator("x", "y", "z", "t")
    @classmethod
    def _not_empty(cls, span: Span) -> Span:
        if span[0] < 0:
            raise ValueError(f"starts at {span[0]}; it must not be negative")
        if span[1] <= span[0]:
            raise ValueError(f"[{span[0]}, {span[1]}] is empty: the end must be greater than the start")
        return span


class TileSize(Strict):
    """The size of a tile in pixels (x, y), sections (z) and time points (t)."""

    x: int = Field(ge=1)
    y: int = Field(ge=1)
    z: int = Field(default=1, ge=1)
    t: int = Field(default=1, ge=1)


class FilesJob(Strict):
    """A job over files, which its path processor lists."""

    type: Literal["files"] = "files"


class TilesJob(Strict):
    """A job over a regular grid of tiles; nothing has to be listed."""

    type: Literal["tiles"] = "tiles"
    extent: Extent
    tile_size: TileSize
    resolution: int = Field(default=0, ge=0, description="Level of the image pyramid; 0 is the finest.")

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        for axis in ("x", "y", "z", "t"):
            start: int = getattr(self.extent, axis)[0]
            size: int = getattr(self.tile_size, axis)
            if start % size:
                raise ValueError(
                    f"extent.{axis} starts at {start}, which is no multiple of tile_size.{axis} ({size}): "
                    f"tiles would not line up; start at {start - start % size}"
                )
        return self

    def tile_count(self, axis: str) -> int:
        """How many tiles there are along an axis (``x``, ``y``, ``z`` or ``t``), a last partial one included."""
        first, last = self.indices(axis)
        return last - first + 1

    def indices(self, axis: str) -> tuple[int, int]:
        """The first and the last index of a tile along an axis."""
        span: Span = getattr(self.extent, axis)
        size: int = getattr(self.tile_size, axis)
        return span[0] // size, -(-span[1] // size) - 1


class ProcessorConfig(Strict):
    """A path processor, tile processor or finisher by name, with its parameters."""

    class_: str = Field(
        alias="class",
        min_length=1,
        description="The name of an installed plugin (`ingest plugins` lists them) or a dotted path.",
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="Parameters, as `ingest plugins NAME` lists them."
    )


class Destination(Strict):
    """Where uploads go, under which keys, and what happens where something is already there."""

    url: str = Field(
        description="`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder` "
        "(with `%20` for a space, as in any URL) or a folder relative to the config file, as it is named."
    )
    endpoint_url: str | None = Field(
        default=None, description="URL of an S3-compatible server that is not AWS."
    )
    region: str | None = Field(
        default=None, description="The bucket's region, where the profile does not say."
    )
    profile: str | None = Field(default=None, description="Name of an AWS profile on each node; never a key.")
    key: KeyTemplate | None = Field(
        default=None,
        description="Template for keys. Default: the tile processor's own where it has one, else `{path}` for "
        "files and `{resolution}/{z}/{y}_{x}{suffix}` "
        "for tiles (with `{t}/` before it where there are several time points).",
    )
    on_existing: Literal["skip", "overwrite", "fail"] = Field(
        default="skip",
        description="What to do with a key that exists: `skip` where content is equal and fail the item "
        "where it is not, `overwrite` always, `fail` always.",
    )
    checksum: Literal["auto", "sha256", "md5", "read_back", "none"] = Field(
        default="auto",
        description="How the store's answer is checked. `auto` tries this store out: a SHA-256 header that "
        "the server checks, else an ETag that is the MD5, else everything is read back. `none` trusts the "
        "connection.",
    )
    storage_class: str | None = Field(default=None, description="S3 storage class, such as `STANDARD_IA`.")
    dedupe: Literal["sha256"] | None = Field(
        default=None,
        description="`sha256`: content that this bucket has under any key is not sent again. Markers "
        "(`raw/hash/<sha256>`, at the bucket's root) say where it is.",
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise ValueError(
                "must not hold a user or password; name a profile, or set AWS_* variables on each node"
            )
        if parts.scheme in ("s3", "gs", "az"):
            if not parts.netloc:
                raise ValueError(f"names no bucket; expected {parts.scheme}://bucket/prefix")
            _check_no_query(url)
            return url.rstrip("/")
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise ValueError(f"{url!r} names the host {parts.netloc!r}; a local folder is file:///folder")
            return _canonical_folder_url(url)
        if "://" in url or not url:
            raise ValueError(f"{url!r} is no destination; expected s3://, gs://, az://, file:// or a folder")
        return folder_url(_from_config_folder(Path(url), info).absolute())

    @field_validator("endpoint_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ValueError(f"{url!r} is no URL; expected http://host:port or https://host")
            if parts.username or parts.password:
                raise ValueError("must not hold a user or password")
            _check_no_query(url)
        return url

    @model_validator(mode="after")
    def _may_be_shared(self) -> Self:
        """Others rely on an object whose content they do not store again: it is checked, and stays as it is."""
        if self.dedupe is not None and self.on_existing == "overwrite":
            raise ValueError(
                "dedupe does not go with on_existing 'overwrite': other items may refer to what it replaces"
            )
        if self.dedupe is not None and self.checksum == "none":
            raise ValueError(
                "dedupe does not go with checksum 'none': other items rely on what was stored; use 'auto'"
            )
        return self

    @property
    def prefix(self) -> str:
        """What its keys begin with in the bucket, with a slash at the end; "" where that is nothing.

        A folder (``file://``) is a bucket itself.
        """
        scheme, _, rest = self.url.partition("://")
        prefix = "" if scheme == "file" else rest.partition("/")[2]
        return prefix and f"{prefix}/"

    @property
    def bucket(self) -> Self:
        """The whole bucket that it lies in, as a destination without a prefix."""
        scheme, _, rest = self.url.partition("://")
        if scheme == "file":
            return self
        return self.model_copy(update={"url": f"{scheme}://{rest.partition('/')[0]}"})


class UploadConfig(Strict):
    """How hard each process of a node works."""

    threads: int = Field(
        default=32,
        ge=1,
        le=512,
        description="Uploads at once, in each process, at most; small ones to a quick store have fewer.",
    )
    bytes_in_flight: int = Field(
        default=256 * MIB, ge=MIB, description="Bytes held in memory by uploads under way, in each process."
    )
    multipart_threshold_bytes: int = Field(
        default=64 * MIB,
        ge=5 * MIB,
        le=5 << 30,
        description="Larger files go up in parts that another node can go on from.",
    )
    part_size_bytes: int = Field(
        default=16 * MIB,
        ge=5 * MIB,
        le=5 << 30,
        description="Size of a part; raised by itself where a file would have over 10,000.",
    )
    bandwidth_bytes_per_s: int | None = Field(
        default=None, ge=1024, description="Limit for each process of a node."
    )
    digests: tuple[Literal["c4"], ...] = Field(
        default=(),
        description="Further hashes of each upload, for the `metadata` of its row in the manifest: `c4` is the C4 ID "
        "(SHA-512) of film archives. Finishers that need one, such as `mhl`, add it here by themselves.",
    )
    reread: bool = Field(
        default=True,
        description="`false`: a file that is stored already is not read again, where its path, inode, size and times "
        "are what they were when this machine read it last, and its object has the ETag that it got then. For jobs "
        "over files that are stored as they are, on a store whose ETags are MD5s.",
    )
    retries: int = Field(
        default=5, ge=0, le=100, description="Repeats of an upload that failed for a passing fault."
    )


class QueueConfig(Strict):
    """How work is cut into messages."""

    batch_items: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Items in a batch, at most. Default: 512, and fewer in a small job, so that its nodes share it.",
    )
    batch_bytes: int = Field(default=256 * MIB, ge=1, description="Source bytes in a batch of files, about.")
    max_batches: int = Field(
        default=10_000,
        ge=1,
        description="Batches in the queue at once; the rest is listed as these are done.",
    )
    lease_s: float = Field(
        default=60, ge=2, le=86_400, description="Seconds after which a dead node's batch goes to another."
    )
    item_timeout_s: float | None = Field(
        default=None,
        ge=1,
        le=86_400,
        description="Seconds that an item's processors may take for it in all. One that takes longer fails, and its "
        "process is ended. To wait for the destination, for Redis, for a source that is away, between the tries of a "
        "request to a web server, or for a free connection (`connections_per_host`, `connections_per_tag`) does not "
        "count. Default: no limit.",
    )


class JobConfig(Strict):
    """A whole job config."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$",
        description="A name for people: letters, digits, spaces, `.`, `_` and `-`.",
    )
    ingest_job: Annotated[FilesJob | TilesJob, Field(discriminator="type")]
    path_processor: ProcessorConfig
    tile_processor: ProcessorConfig = Field(
        default_factory=lambda: ProcessorConfig.model_validate({"class": "file"})
    )
    finishers: tuple[ProcessorConfig, ...] = Field(
        default=(),
        description="What makes objects of the whole job's results at its end, such as an index, in this order.",
    )
    destination: Destination
    upload: UploadConfig = Field(default_factory=UploadConfig)
    queue: QueueConfig = Field(default_factory=QueueConfig)
    expires_after_days: float = Field(
        default=14,
        gt=0,
        le=3650,
        description="Days after which an unfinished job expires and its uploads are aborted.",
    )

    @model_validator(mode="after")
    def _one_key_a_tile(self) -> Self:
        if isinstance(self.ingest_job, TilesJob):
            extent, size = self.ingest_job.extent, self.ingest_job.tile_size
            for axis in ("x", "y", "z", "t"):
                start, stop = getattr(extent, axis)
                if stop - start > getattr(size, axis) and axis not in self.key_template.field_names:
                    raise ValueError(
                        f"destination.key {str(self.key_template)!r} lacks {{{axis}}}: "
                        f"tiles that differ only in {axis} would have one key"
                    )
            together = self.key_template.runs_together(
                {axis: self.ingest_job.indices(axis) for axis in "xyzt"}
            )
            if together:
                raise ValueError(
                    f"destination.key {str(self.key_template)!r} does not tell {' and '.join(together)} apart: "
                    f"1 and 11 would make the key of 11 and 1; put something between them, such as `_`"
                )
        return self

    @model_validator(mode="after")
    def _may_go_unread(self) -> Self:
        if not self.upload.reread and self.destination.on_existing != "skip":
            raise ValueError(
                "upload.reread false goes with destination.on_existing 'skip' only: others pass over nothing"
            )
        if not self.upload.reread and isinstance(self.ingest_job, TilesJob):
            raise ValueError("upload.reread false is for jobs over files; each section is read for its tiles")
        return self

    @model_validator(mode="after")
    def _can_be_counted(self) -> Self:
        if isinstance(self.ingest_job, TilesJob):
            tiles = math.prod(self.ingest_job.tile_count(axis) for axis in "xyzt")
            if tiles > MOST_BATCHES * self.batch_items:
                raise ValueError(
                    f"ingest_job.extent makes {tiles:,} tiles in batches of {self.batch_items}: more than "
                    f"{MOST_BATCHES:,} batches"
                )
        return self

    @property
    def batch_items(self) -> int:
        """Items in a batch, at most. In a small job over tiles fewer, so that nodes share it.

        These are whole sections where they fit, so that each is decoded by one node.
        """
        if self.queue.batch_items is not None:
            return self.queue.batch_items
        if not isinstance(self.ingest_job, TilesJob):
            return DEFAULT_BATCH_ITEMS
        counts = {axis: self.ingest_job.tile_count(axis) for axis in "xyzt"}
        section = counts["x"] * counts["y"]
        share = -(-section * counts["z"] * counts["t"] // BATCHES_TO_SHARE)
        return min(DEFAULT_BATCH_ITEMS, -(-share // section) * section)

    @property
    def key_template(self) -> KeyTemplate:
        """The template in force: the config's, or the default for the kind of job."""
        if self.destination.key is not None:
            return self.destination.key
        if isinstance(self.ingest_job, FilesJob):
            return KeyTemplate("{path}")
        t_start, t_stop = self.ingest_job.extent.t
        several = t_stop - t_start > self.ingest_job.tile_size.t
        return KeyTemplate(("{t}/" if several else "") + "{resolution}/{z}/{y}_{x}{suffix}")
