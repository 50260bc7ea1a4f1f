"""Decoding one section for all its tiles, and refusing what would not come out whole."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ingest.errors import ItemError, SourceChanged, SourceMissing, SourceUnreadable
from ingest.plugins.image_losses import loss_after, loss_before

_LIMIT_LOCK = threading.Lock()
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG_ENDIAN = re.compile(r"(?<=;(?:16|32))B")


class Section(NamedTuple):
    """A decoded image, the format of its file (``PNG``), how many frames that has, and what decoding it has lost."""

    image: Image.Image
    format: str
    frames: int
    loss: str


class Decoder:
    """Decodes image files and keeps the last one, as long as its file stays the same."""

    def __init__(self, *, max_pixels: int, frame: int | None) -> None:
        self._max_pixels = max_pixels
        self._frame = frame
        self._identity: tuple[str, int, int] | None = None
        self._section: Section | None = None

    def section(self, path: Path) -> Section:
        """The image in a file, decoded to its end.

        Raises:
            SourceMissing: there is no such file.
            SourceChanged: it was written to meanwhile.
            SourceUnreadable: it is no image, truncated, corrupt, larger than the limit, or has several frames of
                which none was named.
        """
        try:
            with path.open("rb") as file:
                identity = _identity(path, file)
                if identity != self._identity or self._section is None:
                    self.forget()
                    section = self._decode(file)
                    _check_unchanged(path, file, identity)
                    self._identity, self._section = identity, section
                return self._section
        except (FileNotFoundError, NotADirectoryError):
            raise SourceMissing(f"there is no file {str(path)!r}") from None
        except ItemError:
            raise
        except Exception as error:  # Pillow's readers raise nearly anything on corrupt data
            if isinstance(error, UnidentifiedImageError) and _is_tiff(path):
                raise _unknown_tiff(path) from error
            raise SourceUnreadable(f"{path} is no readable image: {_first_line(error)}") from error

    def forget(self) -> None:
        """Let go of the image that is held."""
        self._identity = self._section = None

    def _decode(self, file: BinaryIO) -> Section:
        with deliberate_limit(self._max_pixels):
            self._verify(file)
            # Opened by handle, not by name: a raw TIFF would be mapped, and a write to it could kill us.
            image = Image.open(file)
            format_, frames = str(image.format), int(getattr(image, "n_frames", 1))
            self._choose_frame(image, frames)
            self._check_size(image)
            loss = loss_before(image, file)
            _expect_native_order(image)
            image.load()
            return Section(image, format_, frames, loss or loss_after(image))

    def _verify(self, file: BinaryIO) -> None:
        """Check a PNG's checksums, which decoding does not."""
        with Image.open(file) as image:
            self._check_size(image)
            if image.format == "PNG":
                image.verify()
        file.seek(0)

    def _choose_frame(self, image: Image.Image, frames: int) -> None:
        if self._frame is None and frames > 1:
            raise SourceUnreadable(
                f"it has {frames} frames, and the config does not say which",
                hint="set tile_processor.params.frame",
            )
        if self._frame is not None and self._frame >= frames:
            raise SourceUnreadable(
                f"it has {frames} frames; there is no frame {self._frame} (the first is 0)"
            )
        if self._frame:
            image.seek(self._frame)

    def _check_size(self, image: Image.Image) -> None:
        if image.width * image.height > self._max_pixels:
            raise SourceUnreadable(
                f"it has {image.width} x {image.height} pixels, more than max_pixels ({self._max_pixels})",
                hint="raise tile_processor.params.max_pixels, if each process has the memory",
            )


@contextmanager
def deliberate_limit(max_pixels: int) -> Iterator[None]:
    """Put our limit in the place of Pillow's global one for a moment, and keep its warnings in."""
    with _LIMIT_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _expect_native_order(image: Image.Image) -> None:
    """libtiff hands over numbers in this machine's order, whatever the file's is. Pillow knows so of 16-bit grey alone:
    it would swap the bytes of a big-endian file's floats and signed integers once more, and say nothing."""
    if isinstance(image, TiffImageFile):
        image.tile = [_in_native_order(tile) for tile in image.tile]


def _in_native_order(tile: Any) -> Any:
    raw_mode, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if tile.codec_name != "libtiff" or not _BIG_ENDIAN.search(str(raw_mode)):
        return tile
    return tile._replace(args=(_BIG_ENDIAN.sub("N", raw_mode), *others))


def _identity(path: Path, file: BinaryIO) -> tuple[str, int, int]:
    info = os.fstat(file.fileno())
    return str(path), info.st_mtime_ns, info.st_size


def _check_unchanged(path: Path, file: BinaryIO, identity: tuple[str, int, int]) -> None:
    if _identity(path, file) != identity:
        raise SourceChanged(f"{path} was written to while it was read")


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF_BEGINNINGS


def _unknown_tiff(path: Path) -> SourceUnreadable:
    return SourceUnreadable(
        f"{path} is damaged, or a TIFF of a kind that Pillow does not read: 64-bit or half floats, 64-bit integers, "
        "or several channels of more than 8 bits",
        hint="convert it, one channel a file, or write a tile processor for it",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].replace("<_io.BufferedReader name=", "<")
