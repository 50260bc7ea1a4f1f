"""What there is to upload: files of random bytes, and sections of a made-up micrograph."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FILES_IN_FOLDER = 1000
PIECE_BYTES = 16 << 20
TILE = 512


@dataclass(frozen=True, slots=True)
class Work:
    """A folder, and what should lie in the store when it has been uploaded.

    Attributes:
        objects: how many there will be.
        size_bytes: in all; None where tools store other bytes (tiles, which each compresses in its way).
        sections: sections of 8192 x 8192 pixels; 0 for files.
    """

    folder: Path
    objects: int
    size_bytes: int | None
    sections: int = 0


def files(folder: Path, count: int, size_bytes: int) -> Work:
    """Files of random bytes, a thousand in a folder."""
    source = random.Random(f"{count} {size_bytes}")
    for number in range(count):
        path = folder / f"{number // FILES_IN_FOLDER:03d}" / f"{number:06d}.bin"
        if number % FILES_IN_FOLDER == 0:
            path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            for start in range(0, size_bytes, PIECE_BYTES):
                file.write(source.randbytes(min(PIECE_BYTES, size_bytes - start)))
    return Work(folder, count, count * size_bytes)


def sections(folder: Path, count: int, pixels: int) -> Work:
    """Grey PNG sections ``0000.png``, ``0001.png``, …, each cut into tiles of 512 x 512 pixels.

    Blobs of some twenty pixels under noise, as membranes in a micrograph are: it compresses to about two thirds.
    """
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number)
        blobs = noise.integers(60, 200, (pixels // 16, pixels // 16), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(blobs).resize((pixels, pixels), Image.Resampling.BICUBIC))
        grain = noise.integers(-12, 13, (pixels, pixels), dtype=np.int16)
        image = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number:04d}.png", compress_level=1)
    return Work(folder, count * (pixels // TILE) ** 2, None, count)


def check_tiles(work: Work, stored: Iterable[Path]) -> None:
    """Compare stored tiles with what they were to be cut from, pixel by pixel.

    Raises:
        RuntimeError: one has other pixels, or is there twice.
    """
    wanted: set[bytes] = set()
    for path in work.folder.iterdir():
        with Image.open(path) as section:
            for y in range(0, section.height, TILE):
                boxes = [(x, y, x + TILE, y + TILE) for x in range(0, section.width, TILE)]
                wanted.update(_digest(section.crop(box)) for box in boxes)
    for path in stored:
        with Image.open(path) as tile:
            digest = _digest(tile)
        if digest not in wanted:
            raise RuntimeError(f"{path} is no tile of {work.folder}, or is there twice")
        wanted.remove(digest)


def _digest(tile: Image.Image) -> bytes:
    return hashlib.sha256(f"{tile.mode} {tile.size}".encode() + tile.tobytes()).digest()
