"""What Pillow would round, drop or turn without a word."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from ingest.errors import SourceUnreadable
from ingest.items import Tile
from ingest.plugins.image import ImageParams, ImageTile
from tests.plugins.making import context, tiles_job
from tests.plugins.test_image import decoded, one, sixteen_bit_rgb_png

WIDTH, HEIGHT = 64, 48
TEN_BIT_AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA"
    "AAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAJwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEA"
    "AGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAEAAAABAAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAA"
    "AAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAL21kYXQSAAoIOAz/28CAgaQyGReCYwTAAPIIAAB1"
    "gosjRabO+7nrfvoRCqw="
)
"""16 x 16 pixels of three colours, as libavif writes them; Pillow writes 8 bits alone."""


def processor(tmp_path: Path, format_: str = "tiff", **job: object) -> ImageTile:
    return ImageTile(ImageParams.model_validate({"format": format_}), context(tmp_path, tiles_job(**job)))


def tiff(
    bits: int,
    channels: int = 1,
    *,
    order: str = "<",
    data: bytes | None = None,
    **tags: int | tuple[int, ...],
) -> bytes:
    """A TIFF of zeros, or of this data, with these tags beside the ones that each must have."""
    data = bytes(WIDTH * HEIGHT * channels * bits // 8) if data is None else data
    known = {
        "compression": 259,
        "photometric": 262,
        "planes": 284,
        "extra": 338,
        "sample_format": 339,
        "strip_bytes": 279,
        "predictor": 317,
    }
    strips = channels if tags.get("planes") == 2 else 1
    entries: dict[int, tuple[int, ...]] = {
        256: (WIDTH,),
        257: (HEIGHT,),
        258: (bits,) * channels,
        259: (1,),
        262: (1,),
        273: tuple(8 + place * len(data) // strips for place in range(strips)),
        277: (channels,),
        278: (HEIGHT,),
        279: (len(data) // strips,) * strips,
    }
    for name, value in tags.items():
        entries[known[name]] = value if isinstance(value, tuple) else (value,)
    directory, beyond = b"", b""
    place = 8 + len(data)
    beyond_at = place + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            beyond, packed = beyond + packed, struct.pack(f"{order}I", beyond_at + len(beyond))
        directory += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, place) + data
    return head + struct.pack(f"{order}H", len(entries)) + directory + bytes(4) + beyond


def ppm(kind: bytes, highest: int, channels: int) -> bytes:
    size = WIDTH * HEIGHT * channels * (2 if highest > 255 else 1)
    return b"%s\n%d %d\n%d\n" % (kind, WIDTH, HEIGHT, highest) + bytes(size)


def avif() -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(body, "AVIF")
    return body.getvalue()


def jpeg2000(depth: int, mode: str = "RGB") -> bytes:
    """Channels of which the header says that they have so many bits and one more, or, by the 128, signs."""
    body = io.BytesIO()
    Image.new(mode, (WIDTH, HEIGHT)).save(body, "JPEG2000")
    content = bytearray(body.getvalue())
    size = content.index(b"\xff\x4f\xff\x51") + 4
    for channel in range(len(mode)):
        content[size + 38 + 3 * channel] = depth
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "lost"),
    [
        pytest.param(tiff(16, 3, photometric=2, planes=2), "16 bits a colour", id="colour in planes"),
        pytest.param(
            tiff(8, 4, photometric=2, extra=0), "4 channels, of which only 3", id="a fourth channel"
        ),
        pytest.param(tiff(8, 2, extra=0), "2 channels, of which only 1", id="a second channel"),
        pytest.param(
            tiff(8, 4, photometric=2, extra=1), "multiplied by its transparency", id="associated alpha"
        ),
        pytest.param(tiff(8, sample_format=2), "signed 8-bit", id="signed bytes"),
        pytest.param(tiff(16, photometric=0), "0 is white", id="white is zero"),
        pytest.param(tiff(16, strip_bytes=0), "sparse", id="sparse"),
        pytest.param(
            tiff(64, sample_format=3),
            "64-bit (or half )?floats",
            id="doubles, which some versions of Pillow read",
        ),
        pytest.param(
            tiff(8, data=b"\x81\0" * 24, compression=32773, predictor=2),
            "predictor",
            id="differences in PackBits",
        ),
        pytest.param(ppm(b"P6", 65535, 3), "16 bits a colour", id="PPM"),
        pytest.param(
            tiff(64, sample_format=2), "TIFF of a kind that Pillow does not read", id="64-bit integers"
        ),
        pytest.param(ppm(b"P5", 4095, 1), "4095, and would be stretched to 65535", id="12 bits in a PGM"),
        pytest.param(jpeg2000(15), "16 bits a colour", id="JPEG 2000"),
        pytest.param(jpeg2000(7 | 128), "signed", id="JPEG 2000 with signs"),
        pytest.param(
            jpeg2000(11, "L"), "12 bits .* multiplied to fill 16", id="12 bits of grey in JPEG 2000"
        ),
        pytest.param(jpeg2000(3), "4 bits .* multiplied to fill 8", id="4 bits a colour in JPEG 2000"),
        pytest.param(
            TEN_BIT_AVIF, "10 or 12 bits a colour|cannot identify", id="AVIF, which some Pillows read"
        ),
    ],
)
def test_what_would_be_lost_fails_the_item(tmp_path: Path, content: bytes, lost: str) -> None:
    (tmp_path / "section").write_bytes(content)

    with pytest.raises(SourceUnreadable, match=lost):
        one(processor(tmp_path), tmp_path / "section")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(tiff(8, 3, photometric=2, planes=2), id="bytes in planes"),
        pytest.param(tiff(8, photometric=0), id="white is zero, as Pillow turns it"),
        pytest.param(tiff(16), id="16 bits of grey"),
        pytest.param(ppm(b"P5", 65535, 1), id="16 bits of grey in a PGM"),
        pytest.param(jpeg2000(7), id="JPEG 2000"),
        pytest.param(jpeg2000(15, "L"), id="16 bits of grey in JPEG 2000"),
        pytest.param(
            avif, id="AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")
        ),
    ],
)
def test_what_comes_out_whole_is_a_tile(tmp_path: Path, content: bytes | Callable[[], bytes]) -> None:
    (tmp_path / "section").write_bytes(content if isinstance(content, bytes) else content())

    upload = one(processor(tmp_path), tmp_path / "section")

    assert isinstance(upload.body, bytes)
    with Image.open(io.BytesIO(upload.body)) as tile:
        assert tile.size == (32, 24)


@pytest.mark.parametrize("compression", [1, 8], ids=["plain", "deflate"])
@pytest.mark.parametrize(
    ("dtype", "sample_format"), [(">f4", 3), (">i4", 2), (">i2", 2), (">u2", 1), ("<f4", 3), ("<i4", 2)]
)
def test_the_order_of_a_tiffs_bytes_is_its_own(
    tmp_path: Path, dtype: str, sample_format: int, compression: int
) -> None:
    values = np.random.default_rng(1).normal(0, 1000, (HEIGHT, WIDTH)).astype(dtype)
    data = values.tobytes() if compression == 1 else zlib.compress(values.tobytes())
    content = tiff(
        8 * values.itemsize, order=dtype[0], data=data, compression=compression, sample_format=sample_format
    )
    (tmp_path / "section").write_bytes(content)

    _, stored = decoded(one(processor(tmp_path), tmp_path / "section", Tile(1, 1, 0)))

    np.testing.assert_array_equal(stored, values[24:, 32:])


@pytest.mark.parametrize(
    ("content", "format_"),
    [(sixteen_bit_rgb_png(WIDTH, HEIGHT), "png"), (tiff(8, 4, photometric=2, extra=0), "tiff")],
)
def test_a_file_that_is_the_tile_already_loses_nothing(tmp_path: Path, content: bytes, format_: str) -> None:
    (tmp_path / "section").write_bytes(content)

    upload = one(processor(tmp_path, format_, tile_size={"x": WIDTH, "y": HEIGHT}), tmp_path / "section")

    assert upload.body == tmp_path / "section"


def test_padding_that_a_palette_lacks_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((40, 50), "u1"), "P")
    image.putpalette(bytes(range(12)))
    image.save(tmp_path / "section.png", bits=2)
    made = ImageTile(ImageParams(pad_value=200), context(tmp_path, tiles_job()))

    with pytest.raises(SourceUnreadable, match="pad_value 200"):
        one(made, tmp_path / "section.png", Tile(1, 1, 0))
