"""What image formats can hold, and writing tiles in them."""

from __future__ import annotations

import io
from typing import Any, Literal

from PIL import Image

from ingest.errors import SourceUnreadable

Format = Literal["png", "tiff", "jpeg"]

SUFFIXES: dict[Format, str] = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg"}

_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_MODES: dict[Format, frozenset[str]] = {
    "png": frozenset({"1", "L", "LA", "P", "RGB", "RGBA"}) | _SIXTEEN_BIT,
    "tiff": frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I", "F"}) | _SIXTEEN_BIT,
    "jpeg": frozenset({"L", "RGB", "CMYK"}),
}
_NAMES = {
    "1": "black and white",
    "LA": "grey with transparency",
    "P": "a palette",
    "PA": "a palette with transparency",
    "RGBA": "colour with transparency",
    "I": "32-bit integers",
    "F": "32-bit floats",
    "CMYK": "four printing colours",
} | dict.fromkeys(_SIXTEEN_BIT, "16-bit grey")

_TIFF_PREDICTOR = 317
_HIGHEST = {"1": 1, "I": 2**31 - 1, "F": 2**31 - 1} | dict.fromkeys(_SIXTEEN_BIT, 65535)


def can_hold(format_: Format, mode: str) -> bool:
    """Whether a format keeps each pixel of a Pillow mode as it is (JPEG's loss aside)."""
    return mode in _MODES[format_]


def check_holds(format_: Format, image: Image.Image) -> None:
    """Refuse an image that a format cannot hold, instead of converting it.

    Raises:
        SourceUnreadable: with what the image holds, and which format would do.
    """
    mode = image.mode
    if "transparency" in image.info and format_ != "png":
        raise SourceUnreadable(
            f"some of the image's colours are transparent, which {format_} cannot hold",
            hint="set tile_processor.params.format to 'png'",
        )
    if can_hold(format_, mode):
        return
    fits = [repr(other) for other in _MODES if can_hold(other, mode)]
    raise SourceUnreadable(
        f"the image holds {_NAMES.get(mode, f'pixels of mode {mode!r}')}, which {format_} cannot",
        hint=f"set tile_processor.params.format to {' or '.join(fits)}" if fits else None,
    )


def check_palette(tile: Image.Image, value: int) -> None:
    """Refuse to pad with a place that a palette lacks: PNG would cut it to the bits that the palette needs.

    Raises:
        SourceUnreadable: with how many colours there are.
    """
    colours = len(tile.getpalette() or ()) // 3
    if colours and value >= colours:
        raise SourceUnreadable(f"pad_value {value} does not fit a palette of {colours} colours")


def filled(mode: str, size: tuple[int, int], value: int) -> Image.Image:
    """An image with ``value`` in every band of every pixel.

    Raises:
        SourceUnreadable: the mode cannot hold the value.
    """
    lowest = -(2**31) if mode in ("I", "F") else 0
    if not lowest <= value <= _HIGHEST.get(mode, 255):
        raise SourceUnreadable(f"pad_value {value} does not fit an image of mode {mode!r}")
    bands = len(Image.getmodebands(mode) * " ")
    return Image.new(mode, size, (value,) * bands if bands > 1 else value)


def encode(
    tile: Image.Image, format_: Format, *, compress_level: int | None, quality: int, tiff_compression: str
) -> bytes:
    """The tile in a format: the same bytes each time."""
    options: dict[str, Any] = {}
    if format_ == "png":
        options = {"compress_level": 1, "compress_type": _RUN_LENGTHS}
        if compress_level is not None:
            options = {"compress_level": compress_level}
    elif format_ == "jpeg":
        options = {"quality": quality, "icc_profile": tile.info.get("icc_profile")}
    elif tiff_compression != "none":
        options = {"compression": {"deflate": "tiff_adobe_deflate", "lzw": "tiff_lzw"}[tiff_compression]}
        if tile.mode in _PREDICTABLE:
            options["tiffinfo"] = {_TIFF_PREDICTOR: 2}
    body = io.BytesIO()
    tile.save(body, format=format_, **options)
    return body.getvalue()


_PREDICTABLE = _SIXTEEN_BIT | {"L", "RGB", "RGBA"}
# zlib's Z_RLE. On grey micrographs with noise it is as small as level 6 in half the time (Pillow's zlib-ng).
_RUN_LENGTHS = 3
