from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.items import FileItem, Tile
from ingest.plugins import image_decode
from ingest.plugins.image import ImageParams, ImageTile
from ingest.processors import Source, Upload
from tests.plugins.making import context, tiles_job

Pixels = NDArray[Any]
DTYPES = {
    "L": "u1",
    "P": "u1",
    "RGB": "u1",
    "RGBA": "u1",
    "LA": "u1",
    "I;16": "<u2",
    "I;16B": ">u2",
    "I": "<i4",
    "F": "<f4",
}
CHANNELS = {"RGB": 3, "RGBA": 4, "LA": 2}


def pixels(mode: str, width: int = 64, height: int = 48) -> Pixels:
    """Random pixels over the whole range that the mode has."""
    random = np.random.default_rng(len(mode) + width)
    shape = (height, width, CHANNELS[mode]) if mode in CHANNELS else (height, width)
    if mode == "F":
        return random.normal(0, 1e6, shape).astype("<f4")
    limits = np.iinfo(DTYPES[mode])
    return random.integers(limits.min, limits.max, shape, dtype=np.int64, endpoint=True).astype(DTYPES[mode])


def picture(mode: str, data: Pixels) -> Image.Image:
    image = Image.frombytes(mode, (data.shape[1], data.shape[0]), data.tobytes())
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    return image


def processor(tmp_path: Path, params: dict[str, Any] | None = None, **job: Any) -> ImageTile:
    made = ImageTile(ImageParams(**(params or {})), context(tmp_path, tiles_job(**job)))
    made.check()
    return made


def one(made: ImageTile, path: Path, tile: Tile | None = None, origin: tuple[int, int] = (0, 0)) -> Upload:
    (upload,) = made.uploads(Source(tile or Tile(0, 0, 0), path, origin))
    return upload


def decoded(upload: Upload) -> tuple[str, Pixels]:
    assert isinstance(upload.body, bytes)
    with Image.open(io.BytesIO(upload.body)) as image:
        return image.mode, np.array(image)


class TestPixels:
    @pytest.mark.parametrize(
        ("mode", "format_"),
        [(mode, "png") for mode in ("L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")]
        + [(mode, "tiff") for mode in DTYPES],
    )
    @pytest.mark.parametrize("source_format", ["png", "tiff"])
    def test_come_out_as_they_went_in(
        self, tmp_path: Path, mode: str, format_: str, source_format: str
    ) -> None:
        if source_format == "png" and mode in ("I", "F"):
            source_format = "tiff"
        data = pixels(mode)
        path = tmp_path / f"section.{source_format}"
        picture(mode, data).save(path, source_format)
        made = processor(tmp_path, {"format": format_})

        for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
            kind, tile = decoded(one(made, path, Tile(x, y, 0)))
            assert kind.replace("I;16B", "I;16") == mode.replace("I;16B", "I;16")
            np.testing.assert_array_equal(tile, data[y * 24 : y * 24 + 24, x * 32 : x * 32 + 32])

    @pytest.mark.parametrize("compression", ["deflate", "lzw", "none"])
    def test_survive_each_tiff_compression(self, tmp_path: Path, compression: str) -> None:
        data = pixels("I;16")
        picture("I;16", data).save(tmp_path / "s.tif")
        upload = one(
            processor(tmp_path, {"format": "tiff", "tiff_compression": compression}), tmp_path / "s.tif"
        )

        np.testing.assert_array_equal(decoded(upload)[1], data[:24, :32])

    @pytest.mark.parametrize("compress_level", [None, 0, 6, 9])
    def test_survive_each_png_level_and_are_the_same_bytes_each_time(
        self, tmp_path: Path, compress_level: int | None
    ) -> None:
        data = pixels("L")
        picture("L", data).save(tmp_path / "s.png")
        params = {"compress_level": compress_level}
        uploads = [one(processor(tmp_path, params), tmp_path / "s.png") for _ in range(2)]

        assert uploads[0].body == uploads[1].body
        np.testing.assert_array_equal(decoded(uploads[0])[1], data[:24, :32])

    def test_of_a_palette_keep_it(self, tmp_path: Path) -> None:
        picture("P", pixels("P")).save(tmp_path / "s.png", transparency=5)
        upload = one(processor(tmp_path), tmp_path / "s.png")

        assert isinstance(upload.body, bytes)
        tile = Image.open(io.BytesIO(upload.body))
        assert tile.getpalette() == list(bytes(range(256)) * 3)
        assert tile.info["transparency"] == 5

    @pytest.mark.parametrize("format_", ["png", "tiff", "jpeg"])
    def test_keep_their_colour_profile(self, tmp_path: Path, format_: str) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        picture("RGB", pixels("RGB")).save(tmp_path / "s.png", icc_profile=profile)
        upload = one(processor(tmp_path, {"format": format_}), tmp_path / "s.png")

        assert isinstance(upload.body, bytes)
        assert Image.open(io.BytesIO(upload.body)).info["icc_profile"] == profile

    def test_are_near_as_jpeg(self, tmp_path: Path) -> None:
        data = np.broadcast_to(np.arange(64, dtype="u1"), (48, 64)).copy()
        picture("L", data).save(tmp_path / "s.png")
        upload = one(
            processor(tmp_path, {"format": "jpeg", "quality": 95}), tmp_path / "s.png", Tile(1, 0, 0)
        )

        assert upload.content_type == "image/jpeg"
        assert abs(decoded(upload)[1].astype(int) - data[:24, 32:]).max() <= 3


class TestDepth:
    @pytest.mark.parametrize(
        ("mode", "format_", "reason"),
        [
            ("I;16", "jpeg", "16-bit grey, which jpeg cannot"),
            ("I", "png", "32-bit integers, which png cannot"),
            ("F", "png", "32-bit floats, which png cannot"),
            ("F", "jpeg", "32-bit floats"),
            ("RGBA", "jpeg", "transparency"),
            ("P", "jpeg", "palette"),
        ],
    )
    def test_that_a_format_cannot_hold_is_refused(
        self, tmp_path: Path, mode: str, format_: str, reason: str
    ) -> None:
        picture(mode, pixels(mode)).save(tmp_path / "s.tif")

        with pytest.raises(ItemError, match=reason) as caught:
            one(processor(tmp_path, {"format": format_}), tmp_path / "s.tif")
        assert "tile_processor.params.format" in str(caught.value)

    @pytest.mark.parametrize(("mode", "format_"), [("P", "tiff"), ("L", "jpeg"), ("RGB", "tiff")])
    def test_transparent_colours_are_refused_where_they_would_be_lost(
        self, tmp_path: Path, mode: str, format_: str
    ) -> None:
        transparent = (1, 2, 3) if mode == "RGB" else 5
        picture(mode, pixels(mode)).save(tmp_path / "s.png", transparency=transparent)

        with pytest.raises(
            SourceUnreadable, match=f"colours are transparent, which {format_} cannot"
        ) as caught:
            one(processor(tmp_path, {"format": format_}), tmp_path / "s.png")
        assert "'png'" in str(caught.value)

    def test_of_16_bits_a_colour_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "s.png").write_bytes(sixteen_bit_rgb_png(64, 48))

        with pytest.raises(SourceUnreadable, match="16 bits a colour"):
            one(processor(tmp_path), tmp_path / "s.png")

    def test_of_unsigned_32_bits_is_kept_or_refused(self, tmp_path: Path) -> None:
        made = processor(tmp_path, {"format": "tiff"})
        data = np.full((48, 64), 7, "<u4")
        unsigned_tiff(tmp_path / "small.tif", data)
        data[40, 60] = 2**31 + 5
        unsigned_tiff(tmp_path / "large.tif", data)

        np.testing.assert_array_equal(decoded(one(made, tmp_path / "small.tif"))[1], data[:24, :32])
        with pytest.raises(SourceUnreadable, match="would come out negative"):
            one(made, tmp_path / "large.tif")


class TestEdges:
    @pytest.mark.parametrize("pad_value", [0, 9])
    @pytest.mark.parametrize("mode", DTYPES)
    def test_are_padded(self, tmp_path: Path, mode: str, pad_value: int) -> None:
        data = pixels(mode, 50, 40)
        picture(mode, data).save(tmp_path / "s.tif")
        made = processor(tmp_path, {"format": "tiff", "pad_value": pad_value})

        _, tile = decoded(one(made, tmp_path / "s.tif", Tile(1, 1, 0)))

        expected = np.full((24, 32, *data.shape[2:]), pad_value, data.dtype)
        expected[:16, :18] = data[24:, 32:]
        np.testing.assert_array_equal(tile, expected)

    def test_are_padded_before_an_origin(self, tmp_path: Path) -> None:
        data = pixels("L", 10, 10)
        picture("L", data).save(tmp_path / "s.png")

        _, tile = decoded(one(processor(tmp_path, {"pad_value": 3}), tmp_path / "s.png", origin=(5, 7)))

        expected = np.full((24, 32), 3, "u1")
        expected[7:17, 5:15] = data
        np.testing.assert_array_equal(tile, expected)

    @pytest.mark.parametrize(("mode", "pad_value"), [("L", 256), ("I;16", -1), ("I;16", 65536), ("RGB", -1)])
    def test_refuse_a_value_that_does_not_fit(self, tmp_path: Path, mode: str, pad_value: int) -> None:
        picture(mode, pixels(mode, 10, 10)).save(tmp_path / "s.png")
        with pytest.raises(ItemError, match="does not fit"):
            one(processor(tmp_path, {"pad_value": pad_value}), tmp_path / "s.png")

    def test_end_where_nothing_of_the_image_is_left(self, tmp_path: Path) -> None:
        picture("L", pixels("L", 32, 24)).save(tmp_path / "s.png")
        with pytest.raises(
            SourceUnreadable, match=r"32 x 24 pixels; the tile lies outside, at \(32, 0\)"
        ) as refused:
            one(processor(tmp_path), tmp_path / "s.png", Tile(1, 0, 0))
        assert "`ingest_job.extent`" in (refused.value.hint or "")


class TestWholeFiles:
    @pytest.mark.parametrize(("suffix", "format_"), [("png", "png"), ("tif", "tiff"), ("jpg", "jpeg")])
    def test_are_stored_as_they_are(self, tmp_path: Path, suffix: str, format_: str) -> None:
        path = tmp_path / f"t.{suffix}"
        picture("L", pixels("L", 32, 24)).save(path)

        upload = one(processor(tmp_path, {"format": format_}), path, Tile(1, 1, 0), origin=(32, 24))

        assert (upload.body, upload.content_type) == (path, f"image/{format_}")

    @pytest.mark.parametrize(("params", "origin"), [({"format": "tiff"}, (0, 0)), ({}, (1, 0))])
    def test_in_another_format_or_place_are_made_anew(
        self, tmp_path: Path, params: dict[str, Any], origin: tuple[int, int]
    ) -> None:
        picture("L", pixels("L", 32, 24)).save(tmp_path / "t.png")
        assert isinstance(one(processor(tmp_path, params), tmp_path / "t.png", origin=origin).body, bytes)

    @pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
    @pytest.mark.parametrize("kept", [0.5, 0.9, 0])
    def test_that_are_cut_short_fail(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / f"t.{suffix}"
        picture("L", pixels("L", 32, 24)).save(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

        with pytest.raises(SourceUnreadable, match="no readable image"):
            one(processor(tmp_path, {"format": {"tif": "tiff", "jpg": "jpeg"}.get(suffix, suffix)}), path)

    def test_with_a_flipped_bit_fail(self, tmp_path: Path) -> None:
        path = tmp_path / "t.png"
        picture("L", pixels("L", 32, 24)).save(path, compress_level=0)
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)

        with pytest.raises(SourceUnreadable, match="no readable image"):
            one(processor(tmp_path), path)


class TestDecoding:
    def test_is_done_once_a_section(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "s.png"
        picture("L", pixels("L")).save(path)
        times: list[object] = []
        decode = image_decode.Decoder._decode

        def counted(self: image_decode.Decoder, file: BinaryIO) -> image_decode.Section:
            times.append(file)
            return decode(self, file)

        monkeypatch.setattr(image_decode.Decoder, "_decode", counted)
        made = processor(tmp_path)

        for x in range(2):
            one(made, path, Tile(x, 0, 0))
        assert len(times) == 1

    def test_is_done_again_for_a_file_that_changed(self, tmp_path: Path) -> None:
        path, made = tmp_path / "s.png", processor(tmp_path)
        for value in (3, 200):
            data = np.full((48, 64), value, "u1")
            picture("L", data).save(path)
            assert decoded(one(made, path))[1][0, 0] == value

    def test_of_several_frames_needs_a_choice(self, tmp_path: Path) -> None:
        path = tmp_path / "s.tif"
        frames = [picture("L", np.full((48, 64), value, "u1")) for value in (1, 2, 3)]
        frames[0].save(path, save_all=True, append_images=frames[1:])

        with pytest.raises(SourceUnreadable, match="3 frames") as caught:
            one(processor(tmp_path), path)
        assert "tile_processor.params.frame" in str(caught.value)
        assert decoded(one(processor(tmp_path, {"frame": 2}), path))[1][0, 0] == 3
        assert decoded(one(processor(tmp_path, {"frame": 0}), path))[1][0, 0] == 1
        with pytest.raises(SourceUnreadable, match="no frame 3"):
            one(processor(tmp_path, {"frame": 3}), path)

    def test_has_a_limit_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        path = tmp_path / "s.png"
        picture("L", pixels("L")).save(path)

        assert isinstance(one(processor(tmp_path), path).body, bytes)
        assert Image.MAX_IMAGE_PIXELS == 100
        with pytest.raises(SourceUnreadable, match=r"64 x 48 pixels, more than max_pixels \(3000\)"):
            one(processor(tmp_path, {"max_pixels": 3000}), path)

    def test_refuses_a_bomb_before_it_goes_off(self, tmp_path: Path) -> None:
        path = tmp_path / "s.png"
        path.write_bytes(png(2**31 - 1, 2**31 - 1, 8, 0, b"\0"))
        with pytest.raises(SourceUnreadable):
            one(processor(tmp_path), path)

    def test_keeps_warnings_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
        path = tmp_path / "s.png"
        picture("L", pixels("L")).save(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one(processor(tmp_path), path)
        assert caught == []

    @pytest.mark.parametrize("content", [b"", b"GIF89a", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
    def test_of_something_else_fails(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "s.png").write_bytes(content)
        with pytest.raises(SourceUnreadable, match="no readable image"):
            one(processor(tmp_path), tmp_path / "s.png")

    def test_of_nothing_fails(self, tmp_path: Path) -> None:
        with pytest.raises(SourceMissing, match="there is no file"):
            one(processor(tmp_path), tmp_path / "s.png")

    def test_serves_tiles_only(self, tmp_path: Path) -> None:
        with pytest.raises(ItemError, match="serves tiles"):
            list(processor(tmp_path).uploads(Source(FileItem("a"), tmp_path / "a")))


class TestBlanks:
    def test_stand_in_for_what_is_missing(self, tmp_path: Path) -> None:
        made = processor(tmp_path, {"fail_gracefully": True, "blank_mode": "I;16", "pad_value": 700})

        upload = one(made, tmp_path / "gone.png")

        mode, tile = decoded(upload)
        assert (mode, tile.shape, set(tile.flat)) == ("I;16", (24, 32), {700})
        assert "there is no file" in upload.metadata["blank"]

    def test_stand_in_for_what_is_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "s.png").write_bytes(b"nonsense")
        upload = one(processor(tmp_path, {"fail_gracefully": True}), tmp_path / "s.png")

        assert "no readable image" in upload.metadata["blank"]

    def test_stand_in_where_the_source_could_not_be_opened(self, tmp_path: Path) -> None:
        error = SourceMissing("there is no file 'x'")
        (upload,) = processor(tmp_path, {"fail_gracefully": True}).without_source(Tile(0, 0, 0), error)
        assert upload.metadata == {"blank": "there is no file 'x'"}
        with pytest.raises(SourceMissing):
            list(processor(tmp_path).without_source(Tile(0, 0, 0), error))

    def test_do_not_stand_in_for_a_source_that_is_away(self, tmp_path: Path) -> None:
        with pytest.raises(SourceMissing):
            one(processor(tmp_path, {"fail_gracefully": True}), tmp_path / "unmounted" / "s.png")

    def test_must_fit_the_format(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="png cannot hold 'F'"):
            processor(tmp_path, {"fail_gracefully": True, "blank_mode": "F"})


class TestCheck:
    @pytest.mark.parametrize("axis", ["z", "t"])
    def test_wants_tiles_that_are_one_image(self, tmp_path: Path, axis: str) -> None:
        with pytest.raises(ConfigError) as caught:
            processor(tmp_path, tile_size={"x": 32, "y": 24, axis: 2})
        assert caught.value.place == f"ingest_job.tile_size.{axis}"

    def test_wants_tiles(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="type 'tiles' only"):
            ImageTile(ImageParams(), context(tmp_path)).check()

    @pytest.mark.parametrize(("format_", "suffix"), [("png", ".png"), ("tiff", ".tif"), ("jpeg", ".jpg")])
    def test_the_suffix_is_the_formats(self, tmp_path: Path, format_: str, suffix: str) -> None:
        assert processor(tmp_path, {"format": format_}).suffix(Tile(0, 0, 0)) == suffix


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def sixteen_bit_rgb_png(width: int, height: int) -> bytes:
    return png(width, height, 16, 2, (b"\0" + b"\x12\x34" * 3 * width) * height)


def unsigned_tiff(path: Path, data: Pixels) -> None:
    """Pillow writes signed ones alone, so its SampleFormat (tag 339) is changed from 2 to 1."""
    picture("I", data).save(path)
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))
    content = path.read_bytes()
    assert content.count(signed) == 1
    path.write_bytes(content.replace(signed, unsigned))
