"""Tiles of images: the tile processor ``image``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image
from pydantic import Field

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.items import Item, Tile
from ingest.plugins.image_decode import Decoder, Section, deliberate_limit
from ingest.plugins.image_formats import (
    SUFFIXES,
    Format,
    can_hold,
    check_holds,
    check_palette,
    encode,
    filled,
)
from ingest.plugins.local import grid_of, tile_of
from ingest.processors import JobContext, Params, Source, TileProcessor, Upload

_KEPT_INFO = ("transparency", "icc_profile")


class ImageParams(Params):
    """Parameters of ``image``."""

    format: Format = Field(default="png", description="The format of the tiles: `png`, `tiff` or `jpeg`.")
    compress_level: int | None = Field(
        default=None,
        ge=0,
        le=9,
        description="zlib's level for PNG. Default: run lengths alone, which is twice as fast as level 6 and "
        "as small on grey micrographs; give 6 or more for drawings and label images.",
    )
    tiff_compression: Literal["deflate", "lzw", "none"] = Field(
        default="deflate", description="The compression of TIFF tiles; each is lossless."
    )
    quality: int = Field(default=90, ge=1, le=100, description="The quality of JPEG tiles, 1 to 100.")
    pad_value: int = Field(
        default=0, description="The value, in every channel, of a tile's pixels that lie outside the image."
    )
    frame: int | None = Field(
        default=None,
        ge=0,
        description="Which frame of a file with several, from 0. Without it such files are refused.",
    )
    max_pixels: int = Field(
        default=1 << 32,
        ge=1,
        description="Pixels of the largest image that is decoded; each takes 1 to 4 bytes in each process.",
    )
    fail_gracefully: bool = Field(
        default=False,
        description="Store a blank tile where the image is missing or unreadable, and say so in the manifest "
        "(`blank`), instead of a failed item.",
    )
    blank_mode: Literal["L", "RGB", "RGBA", "I;16", "I", "F"] = Field(
        default="L",
        description="The kind of pixels of blank tiles: grey `L` or `I;16`, `RGB`, `RGBA`, `I` or `F`.",
    )


class ImageTile(TileProcessor[ImageParams]):
    """Cuts a tile out of an image, of ``tile_size.x`` by ``tile_size.y`` pixels.

    The section is decoded once for all its tiles. Pixels keep their depth: 1, 8 and 16 bits, 32-bit integers
    and floats, grey, colour and palettes; a format that cannot hold them fails the item, and so does what decoding
    would round, drop or turn (16 bits a colour, a fourth channel, signed bytes, a sparse TIFF). Where a file is
    the tile already (its size, place and format), its bytes are stored, once they have been decoded to the end.
    A tile that reaches past the image is padded; one that lies outside it altogether fails.

    Errors: SourceMissing, SourceUnreadable (with what is wrong), SourceChanged.
    """

    Params: ClassVar[type[Params]] = ImageParams

    def __init__(self, params: ImageParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._decoder = Decoder(max_pixels=params.max_pixels, frame=params.frame)

    def check(self) -> None:
        """Look whether a tile is one image, and whether blank ones could be written."""
        grid = grid_of(self.context.grid, "image")
        for axis, size in (("z", grid.tile_size.z), ("t", grid.tile_size.t)):
            if size != 1:
                raise ConfigError(
                    f"is {size}; a tile of 'image' is one image: 1", place=f"ingest_job.tile_size.{axis}"
                )
        mode = self.params.blank_mode
        if self.params.fail_gracefully and not can_hold(self.params.format, mode):
            raise ConfigError(
                f"{self.params.format} cannot hold {mode!r}", place="tile_processor.params.blank_mode"
            )

    def suffix(self, item: Item) -> str:
        """``.png``, ``.tif`` or ``.jpg``, by ``format``."""
        return SUFFIXES[self.params.format]

    def uploads(self, source: Source) -> Iterator[Upload]:
        """One upload: the tile."""
        tile = tile_of(source.item, "image")
        try:
            yield self._upload(tile, source)
        except (SourceMissing, SourceUnreadable) as error:
            if isinstance(error, SourceMissing) and not source.path.parent.is_dir():
                raise  # perhaps the whole source is away: whoever asked can find out, and come back
            yield from self.without_source(tile, error)

    def without_source(self, item: Item, error: ItemError) -> Iterator[Upload]:
        """A blank tile, with ``fail_gracefully``."""
        if not self.params.fail_gracefully or not isinstance(error, SourceMissing | SourceUnreadable):
            raise error
        blank = filled(self.params.blank_mode, self._size, self.params.pad_value)
        yield self._encoded(blank, {"blank": error.what})

    def close(self) -> None:
        """Let go of the decoded section."""
        self._decoder.forget()

    @property
    def _size(self) -> tuple[int, int]:
        size = grid_of(self.context.grid, "image").tile_size
        return size.x, size.y

    def _upload(self, tile: Tile, source: Source) -> Upload:
        section = self._decoder.section(source.path)
        width, height = self._size
        left, top = tile.x * width - source.origin[0], tile.y * height - source.origin[1]
        if self._is_whole(section, left, top):
            return Upload(source.path, f"image/{self.params.format}", metadata={})
        if section.loss:
            raise SourceUnreadable(section.loss)
        check_holds(self.params.format, section.image)
        box = (left, top, left + width, top + height)
        return self._encoded(self._cut(section.image, box, source.path), {})

    def _is_whole(self, section: Section, left: int, top: int) -> bool:
        same = section.format.lower() == self.params.format and section.frames == 1
        return same and (left, top) == (0, 0) and section.image.size == self._size

    def _cut(self, image: Image.Image, box: tuple[int, int, int, int], path: Path) -> Image.Image:
        left, top, right, bottom = box
        if right <= 0 or bottom <= 0 or left >= image.width or top >= image.height:
            raise SourceUnreadable(
                f"{path} has {image.width} x {image.height} pixels; the tile lies outside, at ({left}, {top})",
                hint="is `ingest_job.extent` too large, or the image cut off? `fail_gracefully` stores blank tiles",
            )
        with deliberate_limit(self.params.max_pixels):
            tile = image.crop(box)
        tile.info = {name: image.info[name] for name in _KEPT_INFO if name in image.info}
        if self.params.pad_value:
            self._pad(tile, image.width - left, image.height - top, max(0, -left), max(0, -top))
        return tile

    def _pad(self, tile: Image.Image, right: int, bottom: int, left: int, top: int) -> None:
        """Fill what lies outside the image: left of, right of, above and below these pixels of the tile."""
        width, height = tile.size
        strips = (
            (0, 0, left, height),
            (right, 0, width, height),
            (0, 0, width, top),
            (0, bottom, width, height),
        )
        for x, y, x_stop, y_stop in strips:
            if x < x_stop and y < y_stop:
                check_palette(tile, self.params.pad_value)
                tile.paste(filled(tile.mode, (x_stop - x, y_stop - y), self.params.pad_value), (x, y))

    def _encoded(self, tile: Image.Image, metadata: dict[str, str]) -> Upload:
        params = self.params
        body = encode(
            tile,
            params.format,
            compress_level=params.compress_level,
            quality=params.quality,
            tiff_compression=params.tiff_compression,
        )
        return Upload(body, f"image/{params.format}", metadata=metadata)
