"""Image stacks laid out for CATMAID, one file a tile: the path processor ``catmaid_files``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ingest.config import ConfigPath
from ingest.errors import ConfigError
from ingest.items import Item, Tile
from ingest.plugins.local import SUFFIX_PATTERN, check_folder, grid_of, regular_file, tile_of
from ingest.processors import Params, PathProcessor

_LAYOUTS = {
    1: "{z}/{y}_{x}_{r}",
    4: "{z}/{r}/{y}_{x}",
    5: "{r}/{z}/{y}/{x}",
    # Boss's class for type 4 swaps z and r. Mistaking one layout for the other would read a wrong section.
    "4-boss": "{r}/{z}/{y}_{x}",
}


class CatmaidParams(Params):
    """Parameters of ``catmaid_files``."""

    root_dir: ConfigPath = Field(description="The folder of the stack, at the same path on each node.")
    filetype: str = Field(pattern=SUFFIX_PATTERN, description="The files' suffix, such as `png` or `jpg`.")
    source_type: Literal[1, 4, 5, "4-boss"] = Field(
        description="CATMAID's tile source type: 1 is `z/y_x_r`, 4 is `z/r/y_x`, 5 is `r/z/y/x`, where x and "
        "y count tiles and r is the job's `resolution`. `4-boss` is `r/z/y_x`, which Boss takes for type 4."
    )


class CatmaidFiles(PathProcessor[CatmaidParams]):
    """One file a tile, in folders as CATMAID's file-based tile source types 1, 4 and 5 name them.

    A file's upper left pixel is the first one of its tile. CATMAID has no time points, so a job has one.
    https://catmaid.readthedocs.io/en/stable/tile_sources.html

    Errors: a file that is not there is SourceMissing; one that cannot be read is SourceUnreadable.
    """

    Params: ClassVar[type[Params]] = CatmaidParams

    def check(self) -> None:
        """Look whether the folder is there, and whether the job has but one time point."""
        grid = grid_of(self.context.grid, "catmaid_files")
        start, stop = grid.extent.t
        if stop - start > grid.tile_size.t:
            raise ConfigError("CATMAID's files have no time points", place="ingest_job.extent.t")
        check_folder(str(self.params.root_dir))

    def path(self, item: Item) -> str:
        """The path of a tile's file.

        Raises:
            ItemError: the item is no tile.
        """
        tile = tile_of(item, "catmaid_files")
        resolution = grid_of(self.context.grid, "catmaid_files").resolution
        name = _LAYOUTS[self.params.source_type].format(x=tile.x, y=tile.y, z=tile.z, r=resolution)
        return f"{self.params.root_dir}/{name}.{self.params.filetype.lstrip('.')}"

    def open(self, path: str) -> AbstractContextManager[Path]:
        """The file itself.

        Raises:
            SourceMissing: it is not there.
            SourceUnreadable: it is no regular file.
        """
        return nullcontext(regular_file(path))

    def origin(self, tile: Tile) -> tuple[int, int]:
        """The tile's own first pixel."""
        size = grid_of(self.context.grid, "catmaid_files").tile_size
        return tile.x * size.x, tile.y * size.y
