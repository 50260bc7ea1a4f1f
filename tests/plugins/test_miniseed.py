from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import UTCDateTime

from ingest.errors import ItemError, SourceMissing, SourceUnreadable
from ingest.plugins.miniseed import Recording
from ingest.plugins.miniseed_headers import read_headers
from tests.plugins.hydrophone import CHANNEL, RATE_HZ, noise, trace, write

START = "2019-01-12T15:10:00.000003Z"
OBSPYS = Path(obspy.__file__).parent / "io" / "mseed" / "tests" / "data"
OBSPYS_FILES = sorted(path for path in OBSPYS.rglob("*") if path.is_file())


def recording(path: Path) -> Path:
    return write(path, trace(noise(3), START))


def changed(path: Path, at: int, new: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[at : at + len(new)] = new
    path.write_bytes(content)
    return path


class TestRuns:
    @pytest.mark.parametrize("reclen", [512, 4096])
    @pytest.mark.parametrize("encoding", ["STEIM1", "STEIM2", "INT32"])
    def test_samples_come_back(self, tmp_path: Path, encoding: str, reclen: int) -> None:
        sound = noise(3)
        made = Recording(write(tmp_path / "a.mseed", trace(sound, START), encoding=encoding, reclen=reclen))
        (run,) = made.runs
        assert (run.channel_id, run.sample_rate_hz, run.samples) == (CHANNEL, RATE_HZ, len(sound))
        assert run.start_ns == UTCDateTime(START).ns
        assert (made.read(run, 0, len(sound)) == sound).all()
        for start in (0, 1, 63_999, 100_000, 191_000):
            assert (made.read(run, start, start + 777) == sound[start : start + 777]).all()

    def test_gaps_and_overlaps_part_runs(self, tmp_path: Path) -> None:
        sound = noise(3)
        parts = [
            (sound[:64_000], "15:10:00"),
            (sound[64_000:128_000], "15:10:01.5"),
            (sound[128_000:], "15:10:02"),
        ]
        path = write(tmp_path / "a.mseed", *(trace(part, f"2019-01-12T{at}") for part, at in parts))
        runs = Recording(path).runs
        assert [run.samples for run in runs] == [64_000] * 3
        assert [str(UTCDateTime(ns=run.start_ns))[14:22] for run in runs] == [
            "10:00.00",
            "10:01.50",
            "10:02.00",
        ]

    def test_records_out_of_order_are_one_run(self, tmp_path: Path) -> None:
        path = recording(tmp_path / "a.mseed")
        records = np.fromfile(path, np.uint8).reshape(-1, 4096)
        np.concatenate((records[5:], records[:5])).tofile(path)
        made = Recording(path)
        (run,) = made.runs
        assert (made.read(run, 0, run.samples) == noise(3)).all()

    def test_times_that_are_exact_to_a_tenth_of_a_millisecond_make_no_gaps(self, tmp_path: Path) -> None:
        """Without blockette 1001 a record's time is cut to 0.1 ms, which are six samples."""
        path = recording(tmp_path / "a.mseed")
        records = np.fromfile(path, np.uint8).reshape(-1, 4096)
        assert (records[:, 48:50].tolist()[0]) == [1001 >> 8, 1001 & 255]
        records[:, 48:50] = (0, 99)  # a blockette that nobody knows
        records.tofile(path)
        assert [run.samples for run in Recording(path).runs] == [3 * RATE_HZ]

    def test_a_rate_that_changes_is_refused_with_its_time(self, tmp_path: Path) -> None:
        other = trace(noise(1, 128_000), "2019-01-12T15:10:03", 128_000)
        path = write(tmp_path / "a.mseed", trace(noise(3), START), other)
        with pytest.raises(
            SourceUnreadable, match=r"from 64000 to 128000 Hz at 2019-01-12T15:10:03\.000000Z"
        ):
            Recording(path)


class TestBadInput:
    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SourceMissing):
            Recording(tmp_path / "none.mseed")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "empty"),
            (b"\n<!DOCTYPE html><title>503</title>", "HTML page"),
            (b"no sound today\n" * 50, "does not begin with a MiniSEED record"),
            (b"MS\x03" + bytes(100), "MiniSEED 3"),
            (b"000001V ", "control headers alone"),
            (b"000001D ", "no blockette 1000|no valid date"),
        ],
    )
    def test_what_is_no_miniseed(self, tmp_path: Path, content: bytes, says: str) -> None:
        path = tmp_path / "a.mseed"
        path.write_bytes(content)
        with pytest.raises(SourceUnreadable, match=says):
            Recording(path)

    def test_truncated(self, tmp_path: Path) -> None:
        path = recording(tmp_path / "a.mseed")
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(SourceUnreadable, match="it is truncated: 3096 bytes of the record at byte"):
            Recording(path)

    def test_text_inside(self, tmp_path: Path) -> None:
        path = recording(tmp_path / "a.mseed")
        content = path.read_bytes()
        path.write_bytes(content[:8192] + b"reset by watchdog\n" + content[8192:])
        with pytest.raises(SourceUnreadable, match=r"bytes 8192 to .* do not begin with a MiniSEED record"):
            Recording(path)

    def test_a_broken_checksum_names_its_record(self, tmp_path: Path) -> None:
        path = changed(recording(tmp_path / "a.mseed"), 3 * 4096 + 2000, b"\x15\xaa\x55")
        made = Recording(path)
        (run,) = made.runs
        with pytest.raises(
            SourceUnreadable, match=r"the record at byte 12288 \(2019-01-12T15:10:00\.\d+Z\) is corrupt"
        ):
            made.read(run, 0, run.samples)

    @pytest.mark.parametrize(
        ("encoding", "says"), [(0, "text"), (4, "32-bit floats"), (200, "nothing here can decode")]
    )
    def test_other_encodings(self, tmp_path: Path, encoding: int, says: str) -> None:
        with pytest.raises(SourceUnreadable, match=f"its samples are .*{says}"):
            Recording(changed(recording(tmp_path / "a.mseed"), 60, bytes([encoding])))

    def test_floats(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mseed", trace(noise(1).astype("f4"), START), encoding="FLOAT32")
        with pytest.raises(SourceUnreadable, match="32-bit floats"):
            Recording(path)

    def test_a_rate_of_0(self, tmp_path: Path) -> None:
        path = recording(tmp_path / "a.mseed")
        records = np.fromfile(path, np.uint8).reshape(-1, 4096)
        records[:, 32:36] = 0
        where = [at for at in range(48, 80) if records[0, at : at + 2].tolist() == [0, 100]]
        for at in where:  # blockette 100 says the rate again
            records[:, at + 4 : at + 8] = 0
        records.tofile(path)
        with pytest.raises(SourceUnreadable, match="its sample rate is 0"):
            Recording(path)

    def test_the_future(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mseed", trace(noise(1), "2150-01-01"))
        with pytest.raises(SourceUnreadable, match="from the future"):
            Recording(path)

    def test_a_station_that_would_lead_out_of_its_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SourceUnreadable, match="no letters and digits"):
            Recording(
                changed(
                    recording(tmp_path / "a.mseed"),
                    8,
                    b"../..",
                )
            )

    def test_random_damage_never_crashes(self, tmp_path: Path) -> None:
        """Bytes of headers and of data at random: read, or refused with a sentence."""
        content = recording(tmp_path / "whole.mseed").read_bytes()
        random = np.random.default_rng(4)
        path, outcomes = tmp_path / "a.mseed", set()
        for _ in range(150):
            damaged = bytearray(content)
            near_headers = random.random() < 0.7
            for at in random.integers(0, len(content), random.integers(1, 6)).tolist():
                place = at // 4096 * 4096 + at % 64 if near_headers else at
                damaged[place] = int(random.integers(0, 256))
            path.write_bytes(damaged)
            try:
                made = Recording(path)
                for run in made.runs:
                    assert len(made.read(run, 0, run.samples)) == run.samples
                outcomes.add("read")
            except SourceUnreadable as error:
                assert error.what
                outcomes.add("refused")
        assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("path", OBSPYS_FILES, ids=lambda path: path.name)
def test_obspys_files_are_read_as_obspy_reads_them(path: Path) -> None:
    """Those that are refused have a reason; of the others each sample and time is obspy's."""
    try:
        headers = read_headers(np.fromfile(path, np.uint8))
        made = Recording(path)
    except ItemError as error:
        assert error.what
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = obspy.read(str(path), format="MSEED")
    for channel_id, runs in made.channels().items():
        traces = sorted(stream.select(id=channel_id), key=lambda one: one.stats.starttime.ns)
        ours = np.concatenate([made.read(run, 0, run.samples).copy() for run in runs])
        assert runs[0].start_ns == traces[0].stats.starttime.ns
        assert runs[0].sample_rate_hz == pytest.approx(traces[0].stats.sampling_rate)
        assert (ours == np.concatenate([one.data for one in traces])).all()
    assert len(headers.offset) >= sum(len(run.records) for run in made.runs)


def test_obspys_files_are_there() -> None:
    assert len(OBSPYS_FILES) > 60
