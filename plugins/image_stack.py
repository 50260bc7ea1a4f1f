"""Image stacks, one numbered file a section or a tile: the path processor ``z_stack``."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import Field, field_validator

from ingest.config import ConfigPath
from ingest.errors import ConfigError, ItemError
from ingest.items import Item, Tile
from ingest.plugins.local import SUFFIX_PATTERN, check_folder, grid_of, regular_file, tile_of
from ingest.processors import JobContext, Params, PathProcessor

_PLACE = re.compile(r"<([^<>]*)>")
_INDEX = re.compile(r" *(?:([xyzt])(?: +|:(?=[op])|$))? *(?:o:(-?\d+))? *(?:p:(\d+))? *")


class _Index(NamedTuple):
    """An index in a name: its axis, what is added to it, and to how many digits it is padded."""

    axis: str
    offset: int
    digits: int


class BaseName:
    """A file name with places for indices, such as ``section_<o:1 p:4>`` or ``z<z>/<y p:2>_<x p:2>``.

    Raises:
        ValueError: a ``<`` or ``>`` without its other half, an unknown place, or a name outside the root.
    """

    def __init__(self, text: str) -> None:
        *pairs, last = _PLACE.split(text)
        self._literals = [*pairs[::2], last]
        self._indices = [_parse_index(place, text) for place in pairs[1::2]]
        if any("<" in literal or ">" in literal for literal in self._literals):
            raise ValueError(f"{text!r} has a '<' or '>' without its other half")
        self.axes = frozenset(index.axis for index in self._indices)
        segments = "0".join(self._literals).split("/")
        if "" in segments or "." in segments or ".." in segments or "\0" in text:
            raise ValueError(f"{text!r} is no path below root_dir")

    def name(self, tile: Tile) -> str:
        """The name for a tile.

        Raises:
            ItemError: an offset makes an index negative.
        """
        parts = [self._literals[0]]
        for index, literal in zip(self._indices, self._literals[1:], strict=True):
            value: int = getattr(tile, index.axis) + index.offset
            if value < 0:
                raise ItemError(f"base_filename's offset makes {index.axis} {value}; there is no such file")
            parts += [str(value).zfill(index.digits), literal]
        return "".join(parts)


def _parse_index(place: str, text: str) -> _Index:
    match = _INDEX.fullmatch(place)
    if match is None:
        raise ValueError(
            f"{text!r} has an unknown place <{place}>; known are <>, <x>, <y>, <z> and <t>, "
            "with o:NUMBER (added to the index) and p:NUMBER (digits, padded with zeros), as in <z o:1 p:4>"
        )
    return _Index(match[1] or "z", int(match[2] or 0), int(match[3] or 0))


class ZStackParams(Params):
    """Parameters of ``z_stack``."""

    root_dir: ConfigPath = Field(description="The folder of the stack, at the same path on each node.")
    extension: str = Field(pattern=SUFFIX_PATTERN, description="The files' suffix, such as `png` or `tif`.")
    base_filename: str = Field(
        description="The files' path below `root_dir` without its suffix. `<>` or `<z>` is the section's "
        "index, `<x>`, `<y>` and `<t>` are the others. `o:1` adds to an index and `p:4` pads it to that many "
        "digits: `sec_<o:1p:4>`, `<z p:4>/<y>_<x>`."
    )

    @field_validator("base_filename")
    @classmethod
    def _known_places(cls, text: str) -> str:
        BaseName(text)
        return text


class ZStack(PathProcessor[ZStackParams]):
    """One image file a section, or a tile of one, with its indices in its name.

    The rule for names is Boss's, where ``<>``, ``<o:200>``, ``<p:4>`` and ``<o:200p:4>`` stand for the
    index z; ``<x>``, ``<y>``, ``<z>`` and ``<t>`` are additions to it. Spaces may stand between the parts. An
    axis that the name does not use is whole in each file: without ``<x>`` and ``<y>`` a file is a whole
    section, and its upper left pixel is the section's pixel (0, 0); with them it starts at its own tile.

    A link to a file elsewhere is followed: its name is the config's, not the source's.

    Errors: a file that is not there is SourceMissing; one that cannot be read is SourceUnreadable.
    """

    Params: ClassVar[type[Params]] = ZStackParams

    def __init__(self, params: ZStackParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._base = BaseName(params.base_filename)

    def check(self) -> None:
        """Look whether the folder is there, and whether names tell all files of the job apart."""
        grid = grid_of(self.context.grid, "z_stack")
        check_folder(str(self.params.root_dir))
        for axis, unit in (("z", "sections"), ("t", "time points")):
            start, stop = getattr(grid.extent, axis)
            if stop - start > getattr(grid.tile_size, axis) and axis not in self._base.axes:
                raise ConfigError(
                    f"{self.params.base_filename!r} has no <{axis}>, so all {unit} would be the same file",
                    place="path_processor.params.base_filename",
                )

    def path(self, item: Item) -> str:
        """The path of the file that holds a tile.

        Raises:
            ItemError: the item is no tile, or its index is negative.
        """
        name = self._base.name(tile_of(item, "z_stack"))
        return f"{self.params.root_dir}/{name}.{self.params.extension.lstrip('.')}"

    def open(self, path: str) -> AbstractContextManager[Path]:
        """The file itself.

        Raises:
            SourceMissing: it is not there.
            SourceUnreadable: it is no regular file.
        """
        return nullcontext(regular_file(path))

    def origin(self, tile: Tile) -> tuple[int, int]:
        """(0, 0) on an axis that the name does not use; on one that it does, the tile's own first pixel."""
        size = grid_of(self.context.grid, "z_stack").tile_size
        axes = self._base.axes
        return (tile.x * size.x if "x" in axes else 0, tile.y * size.y if "y" in axes else 0)
