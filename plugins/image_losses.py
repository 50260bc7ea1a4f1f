"""What would be lost of a file's pixels where they are decoded: Pillow rounds, drops and turns some without a word."""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import Image

_BITS, _PHOTOMETRIC, _CHANNELS, _EXTRA, _SAMPLE_FORMAT = 258, 262, 277, 338, 339
_COMPRESSION, _PREDICTOR, _PACK_BITS = 259, 317, 32773
_SIZES = (279, 325)  # of strips, of tiles
_WHITE_IS_ZERO, _ASSOCIATED, _UNSIGNED, _SIGNED = 0, 1, 1, 2
_TURNED_BY_PILLOW = frozenset({"1", "L"})
_SIXTEEN_BITS = "it holds 16 bits a colour, of which only 8 would be kept; one channel a file keeps all"
_JPEG2000_SIZE = b"\xff\x4f\xff\x51"
_AV1_CONFIG, _AV1_HIGH_DEPTH = b"av1C", 0x40
_HEADER_BYTES = 1 << 16


def loss_before(image: Image.Image, file: BinaryIO) -> str:
    """What decoding would lose, told by the headers alone, of an image that is open and not loaded; else "".

    The place in ``file`` is kept.
    """
    if image.format == "TIFF":
        return _loss_of_tiff(image)
    if image.format == "JPEG2000":
        return _loss_of_jpeg2000(image, file)
    if image.format == "AVIF":
        return _loss_of_avif(file)
    for tile in getattr(image, "tile", ()):
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if image.format == "PPM" and len(args) > 1 and isinstance(args[-1], int):
            highest = {"I": 65535}.get(image.mode, 255)
            if tile.codec_name.startswith("ppm") and args[-1] not in (0, highest):
                return _SIXTEEN_BITS if args[-1] > highest else _stretched(args[-1], highest)
        raw_mode = str(args[0] if args else "")
        if raw_mode.partition(";")[2].startswith("16") and not raw_mode.startswith(("I", "BGR")):
            return _SIXTEEN_BITS
    return ""


def loss_after(image: Image.Image) -> str:
    """What was lost of an image that is loaded, else ""."""
    tags = getattr(image, "tag_v2", {})
    if (
        image.format == "TIFF"
        and image.mode == "I"
        and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
    ):
        lowest = image.getextrema()[0]
        if isinstance(lowest, int | float) and lowest < 0:
            return "it holds unsigned 32-bit values over 2147483647, which would come out negative"
    return ""


def _loss_of_tiff(image: Image.Image) -> str:
    tags: Any = getattr(image, "tag_v2", {})
    bits, kept, channels = max(tags.get(_BITS, (1,))), len(image.getbands()), tags.get(_CHANNELS, 1)
    is_signed = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _SIGNED
    is_turned = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode not in _TURNED_BY_PILLOW
    losses = {
        "it holds 64-bit floats, of which only 32 bits would be kept": bits > 32,
        _SIXTEEN_BITS: bits > 8 and kept > 1,
        f"it holds {channels} channels, of which only {kept} would be kept; one channel a file keeps all": (
            channels > kept
        ),
        "its colours are multiplied by its transparency, and would be changed": (
            image.mode == "RGBA" and _ASSOCIATED in tags.get(_EXTRA, ())
        ),
        "it holds signed 8-bit values, which would come out unsigned": bits == 8 and is_signed,
        "its value 0 is white, which would come out black": is_turned,
        "it is packed as PackBits and has a predictor, which readers of TIFF understand in different ways": (
            tags.get(_COMPRESSION) == _PACK_BITS and tags.get(_PREDICTOR, 1) != 1
        ),
        "it is sparse: some of its strips or tiles are not in the file": (
            any(0 in tags.get(sizes, ()) for sizes in _SIZES)
        ),
    }
    return next((loss for loss, is_so in losses.items() if is_so), "")


def _head(file: BinaryIO) -> bytes:
    """A file's first bytes, where its headers are; its place is kept."""
    place = file.tell()
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    file.seek(place)
    return head


def _loss_of_avif(file: BinaryIO) -> str:
    """By the configuration of each of its images: AV1 Codec ISO Media File Format Binding, 2.3.3."""
    _, *configs = _head(file).split(_AV1_CONFIG)
    if not configs or any(len(config) < 3 for config in configs):
        return "the depth of its pixels cannot be told"
    if any(config[2] & _AV1_HIGH_DEPTH for config in configs):
        return "it holds 10 or 12 bits a colour, of which only 8 would be kept"
    return ""


def _loss_of_jpeg2000(image: Image.Image, file: BinaryIO) -> str:
    """By the codestream's SIZ marker: ISO/IEC 15444-1, A.5.1."""
    _, found, size = _head(file).partition(_JPEG2000_SIZE)
    if not found or len(size) < 39:
        return "the depth of its pixels cannot be told"
    depths = size[38 : 38 + 3 * int.from_bytes(size[36:38], "big") : 3]
    if any(depth & 0x80 for depth in depths):
        return "it holds signed values, which would come out unsigned"
    bits = max((depth & 0x7F) + 1 for depth in depths)
    if bits > 8 and len(image.getbands()) > 1:
        return _SIXTEEN_BITS
    kept = 8 if bits <= 8 else 16
    others = {(depth & 0x7F) + 1 for depth in depths} - {kept}
    if others:
        return f"it holds {min(others)} bits a colour, and its values would be multiplied to fill {kept}"
    return ""


def _stretched(found: int, highest: int) -> str:
    return f"its values go to {found}, and would be stretched to {highest}"
