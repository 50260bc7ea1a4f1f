from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.conversions import CONVERSIONS, compared, encode_gzip, encode_zstd
from ingest.errors import SourceChanged, SourceUnreadable, Stopped
from ingest.raw_audio import BLOCK_BYTES, ByteOrder, RawFormat, decode_flac, encode_flac
from tests.plugins.tag_folder import sound

ORDERS: tuple[ByteOrder, ...] = ("big", "little")
FORMATS = [
    RawFormat(channels, bits, rate_hz, order)
    for channels, bits, rate_hz, order in product((1, 3, 4), (16, 24), (750, 96_000, 192_000), ORDERS)
]


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_raw_audio_comes_back_bit_for_bit(form: RawFormat, tmp_path: Path) -> None:
    raw, flac = tmp_path / "a.raw", tmp_path / "a.flac"
    raw.write_bytes(sound(5000, form.channels, form.bits, form.byte_order))

    encode_flac(raw, flac, form, level=2)

    assert b"".join(decode_flac(flac)) == raw.read_bytes()
    info = soundfile.info(flac)
    assert (info.channels, info.samplerate, info.frames) == (form.channels, form.sample_rate_hz, 5000)
    assert info.subtype == f"PCM_{form.bits}"


def test_the_samples_are_those_that_the_tag_meant(tmp_path: Path) -> None:
    raw, flac = tmp_path / "a.raw", tmp_path / "a.flac"
    for bits, body in ((16, b"\x01\x02\xff\xfe"), (24, b"\x01\x02\x03\xff\xff\xfe")):
        raw.write_bytes(body)

        encode_flac(raw, flac, RawFormat(1, bits, 96_000, "big"), level=5)

        read = soundfile.read(flac, dtype="int32")[0] >> (32 - bits)
        assert read.tolist() == [0x0102 if bits == 16 else 0x010203, -2]


@given(body=st.binary(min_size=9, max_size=200), channels=st.integers(1, 3), bits=st.sampled_from((16, 24)))
@settings(max_examples=60)
def test_any_bytes_come_back_those_after_the_last_sample_too(
    body: bytes, channels: int, bits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    (folder / "a.raw").write_bytes(body)

    encode_flac(folder / "a.raw", folder / "a.flac", RawFormat(channels, bits, 48_000, "big"), level=0)

    assert compared(folder / "a.raw", decode_flac(folder / "a.flac")) == hashlib.sha256(body).hexdigest()


def test_a_long_file_goes_through_little_memory(tmp_path: Path) -> None:
    raw, flac = tmp_path / "a.raw", tmp_path / "a.flac"
    form = RawFormat(3, 16, 96_000, "big")
    raw.write_bytes(sound(800_000) + b"\x01")

    encode_flac(raw, flac, form, level=0)

    pieces = [len(piece) for piece in decode_flac(flac)]
    assert len(pieces) > 4
    assert max(pieces) <= BLOCK_BYTES
    assert compared(raw, decode_flac(flac)) == hashlib.sha256(raw.read_bytes()).hexdigest()


def test_raw_audio_without_a_whole_sample_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"12345")

    with pytest.raises(SourceUnreadable, match="no whole sample of 6 bytes"):
        encode_flac(tmp_path / "a.raw", tmp_path / "a.flac", RawFormat(3, 16, 96_000, "big"), level=0)


def test_encoding_can_be_interrupted(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(sound(1000))

    def stop() -> None:
        raise Stopped("asked to stop")

    with pytest.raises(Stopped):
        encode_flac(
            tmp_path / "a.raw", tmp_path / "a.flac", RawFormat(3, 16, 96_000, "big"), level=0, check=stop
        )


def corrupt_flac(folder: Path) -> Path:
    raw, flac = folder / "a.raw", folder / "a.flac"
    raw.write_bytes(sound(60_000))
    encode_flac(raw, flac, RawFormat(3, 16, 96_000, "big"), level=2)
    return flac


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_flac_with_one_wrong_byte_is_found(at: float, tmp_path: Path) -> None:
    flac = corrupt_flac(tmp_path)
    body = bytearray(flac.read_bytes())
    body[int(len(body) * at)] ^= 0x10
    flac.write_bytes(body)

    with pytest.raises((SourceUnreadable, SourceChanged)):
        compared(tmp_path / "a.raw", decode_flac(flac))


@pytest.mark.parametrize("left", [0, 3, 100, 0.5])
def test_a_flac_that_is_cut_off_is_found(left: float, tmp_path: Path) -> None:
    flac = corrupt_flac(tmp_path)
    body = flac.read_bytes()
    flac.write_bytes(body[: int(left if left >= 1 else left * len(body))])

    with pytest.raises((SourceUnreadable, SourceChanged)):
        compared(tmp_path / "a.raw", decode_flac(flac))


def test_a_flac_of_somebody_elses_does_not_say_its_raw_bytes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", [[0.0, 0.1, 0.2]] * 100, 96_000)

    with pytest.raises(SourceUnreadable, match="does not say which raw bytes"):
        list(decode_flac(tmp_path / "a.flac"))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
class TestCompression:
    def packed(self, name: str, body: bytes, folder: Path) -> Path:
        (folder / "source").write_bytes(body)
        (encode_gzip if name == "gzip" else encode_zstd)(folder / "source", folder / "packed")
        return folder / "packed"

    @pytest.mark.parametrize("body", [b"", b"a,b\n1,2\n" * 300_000])
    def test_comes_back_and_is_the_same_each_time(self, name: str, body: bytes, tmp_path: Path) -> None:
        packed = self.packed(name, body, tmp_path)
        first = packed.read_bytes()

        assert b"".join(CONVERSIONS[name].decode(packed)) == body
        assert self.packed(name, body, tmp_path).read_bytes() == first

    def test_what_is_cut_off_or_garbled_is_found(self, name: str, tmp_path: Path) -> None:
        body = self.packed(name, bytes(range(256)) * 100, tmp_path).read_bytes()
        for wrong in (b"", body[:-9], body[: len(body) // 2], b"\0" + body[1:], body[:-6] + b"\0" * 6):
            (tmp_path / "packed").write_bytes(wrong)

            with pytest.raises((SourceUnreadable, SourceChanged)):
                compared(tmp_path / "source", CONVERSIONS[name].decode(tmp_path / "packed"))


@pytest.mark.parametrize("decoded", [[b"12"], [b"123", b"4"], [b"12", b"4"], []])
def test_other_bytes_are_told_with_their_place(decoded: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")

    with pytest.raises(SourceChanged, match=r"does not decode to its bytes, from byte \d on"):
        compared(tmp_path / "a", decoded)
