"""The job config: what a person writes to say what goes where."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ingest.config.destination import Destination
from ingest.config.extent import FilesJob, TilesJob
from ingest.config.key_template import KeyTemplate
from ingest.config.strict import Strict

MIB = 1 << 20
DEFAULT_BATCH_ITEMS = 512
BATCHES_TO_SHARE = 64
MOST_BATCHES = 1 << 32  # bits of a bitmap in Redis


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
