"""When pictures, films and recordings were made; what they do not say is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import SourceUnreadable
from ingest.plugins.media_times import captured
from tests.plugins.media import atom, audiomoth, bext, guano, jpeg, mp4, wav

AT_S = 1_780_315_200  # 2026-06-01T12:00:00Z
TAKEN = "2026:06:01 12:00:00"
REMARK = "Recorded at 12:00:00 01/06/2026 (UTC{}) by AudioMoth 24F319055FDF2902 at medium gain"


@pytest.mark.parametrize(
    ("body", "at", "by"),
    [
        (jpeg(TAKEN), "2026-06-01T12:00:00", "exif"),
        (jpeg(TAKEN, fraction="25"), "2026-06-01T12:00:00.25", "exif"),
        (jpeg(TAKEN, offset="+02:00"), "2026-06-01T10:00:00Z", "exif"),
        (jpeg(TAKEN, offset="-09:30", fraction="007"), "2026-06-01T21:30:00.007Z", "exif"),
        (mp4(AT_S), "2026-06-01T12:00:00Z", "mvhd"),
        (mp4(AT_S, version=1, long=True), "2026-06-01T12:00:00Z", "mvhd"),
        (mp4(AT_S)[20:], "2026-06-01T12:00:00Z", "mvhd"),
        (wav(bext("2026-06-01", "12:00:00")), "2026-06-01T12:00:00", "bext"),
        (wav(bext("2026:06:01", "12-00-00")), "2026-06-01T12:00:00", "bext"),
        (wav(guano("2026-06-01T12:00:00.5+02:00")), "2026-06-01T10:00:00.500000Z", "guano"),
        (wav(bext("2020-01-01", "00:00:00"), guano("2026-06-01 12:00:00")), "2026-06-01T12:00:00", "guano"),
        (wav(audiomoth(REMARK.format(""))), "2026-06-01T12:00:00Z", "audiomoth"),
        (wav(audiomoth(REMARK.format("+5:30"))), "2026-06-01T06:30:00Z", "audiomoth"),
        (wav(audiomoth(REMARK.format("-3"))), "2026-06-01T15:00:00Z", "audiomoth"),
    ],
)
def test_a_file_says_when_it_was_made(body: bytes, at: str, by: str, tmp_path: Path) -> None:
    path = tmp_path / "a file of any name"
    path.write_bytes(body)

    assert captured(path) == (at, by)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        jpeg(),
        jpeg("0000:00:00 00:00:00"),
        jpeg("2026:13:01 12:00:00"),
        jpeg("yesterday"),
        jpeg(TAKEN)[:60],
        b"\xff\xd8\xff\xe1\xff\xffExif\0\0garbage",
        mp4(None),
        mp4(AT_S)[:-100],
        mp4(-3_000_000),
        atom(b"ftyp", b"heic\0\0\0\0mif1"),
        b"\0\0\0\0ftyp",
        b"\0\0\0\x01ftyp\0\0\0\0\0\0\0\x01",
        atom(b"ftyp", b"x" * 8) + atom(b"moov", b"\xff\xff\xff\xffmvhd"),
        wav(),
        wav(bext("", "")),
        wav(bext("2026-02-30", "12:00:00")),
        wav(guano("soon")),
        wav(audiomoth("Recorded in the dark")),
        wav(guano("2026-06-01T12:00:00"))[:50],
    ],
)
def test_what_it_does_not_say_is_not_known(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(body)

    assert captured(path) is None


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="cannot be read: No such file"):
        captured(tmp_path / "gone")
