"""What these tests need to make a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingest.config import TilesJob
from ingest.items import Grid
from ingest.processors import JobContext


def tiles_job(**changes: Any) -> TilesJob:
    """A job of 2 x 2 tiles of 32 x 24 pixels in 3 sections."""
    config = {"extent": {"x": [0, 64], "y": [0, 48], "z": [0, 3]}, "tile_size": {"x": 32, "y": 24}}
    return TilesJob.model_validate(config | changes)


def context(scratch_dir: Path, job: TilesJob | None = None) -> JobContext:
    """The context of a job over these tiles, or over files."""
    config = {"ingest_job": job.model_dump(mode="json") if job else {"type": "files"}}
    return JobContext("j1", "a job", "2026-01-31", Grid(job) if job else None, scratch_dir, config)
