from __future__ import annotations

import errno
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import zstandard

from ingest.conversions import CONVERSIONS
from ingest.errors import ConfigError, ItemError, SourceAway, SourceChanged, SourceUnreadable
from ingest.items import FileItem
from ingest.ledger import State
from ingest.manifest import read_manifest
from ingest.plugins.tag_data import TagData, TagDataParams
from ingest.processors import Source, Upload
from tests.engine.making import create, files_below
from tests.plugins.making import context, tiles_job
from tests.plugins.tag_folder import START_MS, sound, write_config, write_info, write_status

RAW = f"{START_MS + 1000}.raw"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def processor(folder: Path, **params: Any) -> TagData:
    return TagData(TagDataParams(**params), context(folder.parent))


def source(folder: Path, name: str, **facts: str) -> Source:
    def beside() -> Mapping[str, Callable[[], AbstractContextManager[Path]]]:
        return {path.name: lambda path=path: nullcontext(path) for path in folder.iterdir()}  # type: ignore[misc]

    return Source(FileItem(name), folder / name, facts=facts, beside=beside)


def spoiled(given: Source, name: str, error: Exception) -> Source:
    """The same, with a file beside it that cannot be opened."""

    def fail() -> AbstractContextManager[Path]:
        raise error

    assert given.beside is not None
    beside = {**given.beside(), name: fail}
    return replace(given, beside=lambda: beside)


def upload(folder: Path, name: str, params: Mapping[str, Any] | None = None, **facts: str) -> Upload:
    """The one upload of a file, whose bytes come back."""
    [made] = processor(folder, **(params or {})).uploads(source(folder, name, **facts))
    assert isinstance(made.body, Path)
    decoded = b"".join(CONVERSIONS[made.metadata["conversion"]].decode(made.body))
    assert decoded == (folder / name).read_bytes()
    return made


class TestRawAudio:
    def test_is_as_the_tags_own_files_say(self, data: Path) -> None:
        (data / RAW).write_bytes(sound(4000, 4, 24))
        write_config(data, bits=24, rate_khz=192)
        write_info(data, channels=4)

        made = upload(data, RAW, device="wt-0a1b2c3d")

        assert isinstance(made.body, Path)
        info = soundfile.info(made.body)
        assert (info.channels, info.samplerate, info.subtype) == (4, 192_000, "PCM_24")
        assert made.content_type == "audio/flac"
        assert made.temporary
        assert made.fields == {
            "device": "wt-0a1b2c3d",
            "ingest_date": "2026-01-31",
            "path": f"{START_MS + 1000}.flac",
            "name": f"{START_MS + 1000}.flac",
            "suffix": ".flac",
        }
        assert made.metadata == {
            "captured_at": "2023-11-14T22:13:21.000Z",
            "captured_at_from": "name",
            "conversion": "flac",
            "raw_format": "s24be, 4 channels, 192000 Hz",
            "raw_format_from": f"channels: data_tag_info_{START_MS // 1000}.yaml; bits: data_config_1700000000.txt; "
            "sample_rate_hz: data_config_1700000000.txt; byte_order: capture program",
            "source_sha256": hashlib.sha256((data / RAW).read_bytes()).hexdigest(),
        }

    def test_of_which_nothing_is_known_fails_and_says_what_to_give(self, data: Path) -> None:
        (data / RAW).write_bytes(sound(10))

        with pytest.raises(ItemError) as raised:
            upload(data, RAW)

        assert "none of the tag's files beside it says its channels" in raised.value.what
        for name in ("channels", "bits", "sample_rate_hz", "byte_order"):
            assert f"tile_processor.params.{name}" in str(raised.value.hint)

    def test_is_as_the_config_says_where_the_tag_says_nothing(self, data: Path) -> None:
        (data / RAW).write_bytes(sound(10, byte_order="little"))
        given = {"channels": 3, "bits": 16, "sample_rate_hz": 48_000, "byte_order": "little"}

        made = upload(data, RAW, given)

        assert made.metadata["raw_format"] == "s16le, 3 channels, 48000 Hz"
        assert "tag" not in made.metadata["raw_format_from"]

    @pytest.mark.parametrize(
        ("bits", "rate_khz", "channels", "reason"),
        [
            ("96", 96, 3, "says '96' for its bits, which no tag records"),
            (16, 100, 3, "says '100' for its sample_rate_hz"),
            (16, 96, 0, "says '0' for its channels"),
            (16, 96, "three", "says 'three' for its channels"),
            (16, 96, "[", "none of the tag's files beside it says its channels"),
            ("", 96, 3, "none of the tag's files beside it says its bits"),
        ],
    )
    def test_is_not_made_of_what_no_tag_records(
        self, bits: int | str, rate_khz: int, channels: int | str, reason: str, data: Path
    ) -> None:
        (data / RAW).write_bytes(sound(10))
        write_config(data, bits=bits, rate_khz=rate_khz)
        write_info(data, channels=channels)

        with pytest.raises(ItemError, match=r"tile_processor\.params") as raised:
            upload(data, RAW)

        assert reason in raised.value.what

    def test_has_the_settings_of_its_own_deployment(self, data: Path) -> None:
        names = [f"{START_MS + at_ms}.raw" for at_ms in (1, 2000, 4000)]
        for name in names:
            (data / name).write_bytes(sound(10))
        write_info(data)
        write_config(data, rate_khz=48, time=START_MS // 1000)
        write_config(data, rate_khz=192, time=(START_MS + 3000) * 1000)

        rates = [upload(data, name).metadata["raw_format"].split(", ")[2] for name in names]

        assert rates == ["48000 Hz", "48000 Hz", "192000 Hz"]

    def test_that_may_be_of_either_deployment_fails(self, data: Path) -> None:
        write_info(data)
        write_config(data, rate_khz=48)
        write_config(data, rate_khz=192, time=START_MS // 1000 + 3)
        for name in ("audio.raw", f"{START_MS - 1}.raw"):
            (data / name).write_bytes(sound(10))

            with pytest.raises(ItemError, match="disagree on its sample_rate_hz"):
                upload(data, name)

    def test_needs_no_settings_of_the_tags_that_are_given(self, data: Path) -> None:
        (data / RAW).write_bytes(sound(10))
        write_config(data)
        write_info(data)
        config = f"data_config_{START_MS // 1000}.txt"
        beside = spoiled(source(data, RAW), config, SourceUnreadable("worn out"))

        with pytest.raises(ItemError, match=f"{config} may say its bits, and cannot be read: worn out"):
            [*processor(data).uploads(beside)]
        [made] = processor(data, channels=3, bits=16, sample_rate_hz=96_000).uploads(beside)

        assert made.metadata["raw_format"] == "s16be, 3 channels, 96000 Hz"

    def test_that_ends_within_a_sample_is_kept_whole_and_flagged(self, data: Path) -> None:
        (data / RAW).write_bytes(sound(100) + b"\x01\x02\x03")
        write_config(data)
        write_info(data)

        assert upload(data, RAW).metadata["quality_flags"] == "partial_sample"

    @pytest.mark.parametrize("body", [b"", b"123"])
    def test_without_a_whole_sample_is_stored_as_it_is(self, body: bytes, data: Path) -> None:
        (data / RAW).write_bytes(body)
        write_config(data)
        write_info(data)

        made = upload(data, RAW)

        assert made.metadata["conversion"] == "as_is"
        assert made.fields["path"] == RAW
        assert not made.temporary

    def test_that_is_not_what_lay_on_the_tag_fails(self, data: Path) -> None:
        (data / RAW).write_bytes(sound(10))
        write_config(data)
        write_info(data)

        with pytest.raises(SourceChanged, match="expected 000000000000…"):
            upload(data, RAW, source_sha256="0" * 64)

        assert [path for path in data.parent.glob("tag-data-*/*") if path.name != ".lock"] == []


class TestQuality:
    ROWS = ((10, "Restarted! | ", False, 1), (20, "", False, -1), (5000, "", False, 1), (5010, "", False, -1))

    def flags(self, folder: Path, *names: str) -> list[str]:
        for name in names:
            (folder / name).write_bytes(b"")
        tag = processor(folder, audio="as_is")
        return [
            made.metadata["quality_flags"] for name in names for made in tag.uploads(source(folder, name))
        ]

    def names(self, *starts_ms: int) -> list[str]:
        return [f"{START_MS + start_ms}.flac" for start_ms in starts_ms]

    def test_an_overflow_is_of_the_recording_that_it_ended(self, data: Path) -> None:
        write_status(data, [*self.ROWS, (7000, "", True, 0)])

        assert self.flags(data, *self.names(0, 4000, 7001)) == ["capture_restarted", "fifo_overflow", ""]

    def test_a_write_that_never_ended_is_told(self, data: Path) -> None:
        write_status(
            data, [*self.ROWS, (9000, "", False, 1), (9500, "Restarted! | ", False, 1), (9600, "", False, -1)]
        )

        assert self.flags(data, *self.names(0, 8000)) == [
            "capture_restarted",
            "capture_restarted write_unfinished",
        ]

    @pytest.mark.parametrize(
        "damage", ["\0\0\0\0\n", "17\xff000,,\n", "nonsense\n", "1" * 5000 + "\n", "1" * 200_000 + "\n"]
    )
    def test_a_garbled_log_is_told(self, damage: str, data: Path) -> None:
        write_status(data, self.ROWS)
        with (data / "data_audio_status.csv").open("a", encoding="latin-1") as file:
            file.write(damage)

        assert self.flags(data, *self.names(0)) == ["capture_restarted status_garbled"]

    @pytest.mark.parametrize("error", [SourceUnreadable("worn out"), OSError(errno.EIO, "I/O error")])
    def test_a_log_that_cannot_be_read_fails_no_recording(self, error: Exception, data: Path) -> None:
        [name] = self.names(0)
        write_status(data, self.ROWS)
        (data / name).write_bytes(b"")

        [made] = processor(data).uploads(spoiled(source(data, name), "data_audio_status.csv", error))

        assert made.metadata["quality_flags"] == "status_garbled"

    def test_a_tag_that_goes_away_while_its_log_is_read_is_waited_for(self, data: Path) -> None:
        [name] = self.names(0)
        write_status(data, self.ROWS)
        (data / name).write_bytes(b"")

        with pytest.raises(SourceAway):
            [
                *processor(data).uploads(
                    spoiled(source(data, name), "data_audio_status.csv", SourceAway("gone"))
                )
            ]

    def test_without_a_log_nothing_is_said(self, data: Path) -> None:
        [name] = self.names(0)
        (data / name).write_bytes(b"")

        assert "quality_flags" not in upload(data, name).metadata


class TestTables:
    BODY = b"Timestamp [us],RTC Count\n" + b"1700000000000000,123\n" * 1000

    @pytest.mark.parametrize("name", ["data_light.csv", "capture.LOG"])
    def test_are_compressed(self, name: str, data: Path) -> None:
        (data / name).write_bytes(self.BODY)

        made = upload(data, name)

        assert isinstance(made.body, Path)
        assert gzip.decompress(made.body.read_bytes()) == self.BODY
        assert made.fields["path"] == f"{name}.gz"
        assert made.content_type == "application/gzip"
        assert made.metadata["source_sha256"] == hashlib.sha256(self.BODY).hexdigest()

    def test_by_zstd_where_asked(self, data: Path) -> None:
        (data / "a.csv").write_bytes(self.BODY)

        made = upload(data, "a.csv", {"tables": "zstd"})

        assert isinstance(made.body, Path)
        assert zstandard.ZstdDecompressor().decompress(made.body.read_bytes()) == self.BODY
        assert made.fields["path"] == "a.csv.zst"

    def test_or_not_at_all(self, data: Path) -> None:
        (data / "a.csv").write_bytes(self.BODY)

        made = upload(data, "a.csv", {"tables": "as_is"}, source_path="sub/a.csv", device="wt-0a1b2c")

        assert made.body == data / "a.csv"
        assert made.fields["path"] == "sub/a.csv"
        assert made.content_type == "text/csv"


def test_the_suffix_is_known_without_the_data(data: Path) -> None:
    tag = processor(data, table_suffixes=(".csv", ".txt"))
    names = ("a.raw", "a.RAW", "a.flac", "a.csv", "a.b.txt", "a", ".csv", "a.log")

    assert [tag.suffix(FileItem(f"x.csv/{name}")) for name in names] == [
        ".flac", ".flac", None, ".csv.gz", ".txt.gz", None, None, None,
    ]  # fmt: skip


def test_a_job_over_tiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'files' only"):
        TagData(TagDataParams(), replace(context(tmp_path, tiles_job()))).check()


def test_a_folder_of_a_tag_goes_through_a_job(data: Path, tmp_path: Path, redis_url: str) -> None:
    write_config(data)
    write_info(data)
    write_status(data, [(2000, "", True, 0)])
    bodies = {RAW: sound(3000), "old/1.raw": sound(5), "notes.txt": b"notes"}
    for path, body in bodies.items():
        (data / path).parent.mkdir(exist_ok=True)
        (data / path).write_bytes(body)
    config = {
        "name": "tag",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(data)}},
        "tile_processor": {"class": "tag_data", "params": {"device": "wt-0a1b2c"}},
        "destination": {"url": str(tmp_path / "stored")},
    }
    (tmp_path / "job.json").write_text(json.dumps(config))

    job = create(tmp_path / "job.json", expect=3)

    assert job.status().state is State.FAILED
    [failure] = job.failures()
    assert (failure.item.name, "is not known" in failure.reason) == ("old/1.raw", True)
    top = f"raw/{job.context.date}/wt-0a1b2c/"
    stored = files_below(tmp_path / "stored")
    assert {key.removeprefix(top) for key in stored} == {
        f"{START_MS + 1000}.flac", "data_audio_status.csv.gz", "data_config_1700000000.txt",
        "data_tag_info_1700000000.yaml", "notes.txt",
    }  # fmt: skip
    rows = {
        row["item"]: dict(row["metadata"])
        for row in read_manifest(job.store, job.job_id, job.settings.scratch)
    }
    assert rows[RAW]["quality_flags"] == "fifo_overflow"
    assert rows[RAW]["source_sha256"] == hashlib.sha256(bodies[RAW]).hexdigest()
    assert list(job.settings.scratch.glob("tag-data-*/[0-9]*")) == []
