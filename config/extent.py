"""The two kinds of jobs: over files, and over a regular grid of tiles."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from ingest.config.strict import Strict

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
