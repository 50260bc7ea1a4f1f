"""Where segments are cut, and which file each belongs to."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from obspy import UTCDateTime

from ingest.errors import SourceUnreadable
from ingest.plugins.miniseed import SECOND_NS, Recording
from ingest.plugins.segments import Cutter, Neighbour, Segment, Sound
from tests.plugins.hydrophone import RATE_HZ, Samples, noise, trace, write

BEGIN = UTCDateTime("2019-01-12T15:10:00")
SEGMENT_S = 2


def opener(path: Path | None) -> Neighbour | None:
    return None if path is None else lambda: nullcontext(path)


def opened(path: Path) -> Neighbour:
    return lambda: nullcontext(path)


def cut(files: list[Path], number: int, sound: Sound | None = None) -> tuple[list[Segment], str]:
    """The segments of one of these files, and why it failed."""
    previous = files[number - 1] if number else None
    following = files[number + 1] if number + 1 < len(files) else None
    made: list[Segment] = []
    recording = Recording(files[number])
    cutter = Cutter(recording, SEGMENT_S * SECOND_NS, opener(previous), opener(following), sound or Sound())
    try:
        with cutter:
            for segment in cutter.segments():
                copied = [(place, piece.copy()) for place, piece in segment.pieces]
                segment.pieces = copied
                made.append(segment)
    except SourceUnreadable as error:
        return made, error.what
    return made, ""


def parted(folder: Path, sound: Samples, bounds: list[int], begin: UTCDateTime) -> list[Path]:
    """Files of these samples, from one bound to the next."""
    return [
        write(folder / f"{number}.mseed", trace(sound[a:b], str(begin + a / RATE_HZ)))
        for number, (a, b) in enumerate(pairwise(bounds))
    ]


def without_microseconds(path: Path) -> None:
    """Take the blockette 1001 away, so that times are exact to 0.1 ms."""
    records = np.fromfile(path, np.uint8).reshape(-1, 4096)
    assert (records[:, 48:50] == (1001 >> 8, 1001 & 255)).all()
    records[:, 39] = 1
    records[:, 46:48] = (0, 56)  # where the blockette 1000 lies
    records.tofile(path)


def spoiled(path: Path, record: int) -> None:
    """Break the checksum of a record."""
    with path.open("r+b") as file:
        file.seek(record * 4096 + 2000)
        file.write(b"\x15\xaa\x55")


@pytest.mark.parametrize("microseconds", [0, 3, 5, 8, 11, 15])
def test_a_file_that_begins_between_two_moments_of_the_grid_has_no_gap_at_its_seams(
    tmp_path: Path, microseconds: int
) -> None:
    """A sample is 15.6 µs: recorders do not begin on whole ones."""
    sound = noise(7)
    files = parted(tmp_path, sound, [0, 3 * RATE_HZ + 123, 6 * RATE_HZ], BEGIN + microseconds * 1e-6)

    made = cut(files, 0)[0] + cut(files, 1)[0]

    assert [len(segment.pieces) for segment in made] == [1, 1, 1]
    assert [segment.gap_fraction for segment in made] == [0, 0, 0]
    assert (np.concatenate([segment.pieces[0][1] for segment in made]) == sound[: 6 * RATE_HZ]).all()


@pytest.mark.parametrize("microseconds", [30, 70])
def test_a_seam_is_as_exact_as_its_times(tmp_path: Path, microseconds: int) -> None:
    """Without a blockette 1001 they are cut to 0.1 ms, which is six samples."""
    sound = noise(4)
    files = parted(tmp_path, sound, [0, 3 * RATE_HZ, 4 * RATE_HZ], BEGIN)
    later = write(files[1], trace(sound[3 * RATE_HZ :], str(BEGIN + 3 + microseconds * 1e-6)))
    made = cut(files, 0)[0]
    assert len(made[1].pieces) == 2, "its blockette 1001 says that samples are missing"

    for path in files:
        without_microseconds(path)

    made = cut([files[0], later], 0)[0]
    assert [(len(segment.pieces), segment.overlap_samples) for segment in made] == [(1, 0), (1, 0)]
    assert (made[1].pieces[0][1] == sound[2 * RATE_HZ :]).all()


def test_files_of_two_channels_may_alternate_in_a_folder(tmp_path: Path) -> None:
    bounds, sound = [0, 3, 6, 8], noise(8)
    for number, (a, b) in enumerate(pairwise(bounds)):
        for channel in ("OO.A..HDH", "OO.B..HDH"):
            begin = str(BEGIN + a)
            samples = sound[a * RATE_HZ : b * RATE_HZ]
            write(tmp_path / f"{number}{channel[3]}.mseed", trace(samples, begin, channel_id=channel))
    files = sorted(tmp_path.glob("*.mseed"))
    beside = {path.name: opened(path) for path in files}

    made: list[tuple[str, int, float, str]] = []
    for number, path in enumerate(files):
        previous = files[number - 1] if number else None
        following = files[number + 1] if number + 1 < len(files) else None
        around = opener(previous), opener(following), Sound(), lambda: beside, path.name
        with Cutter(Recording(path), SEGMENT_S * SECOND_NS, *around) as cutter:
            for one in cutter.segments():
                second = one.start_ns // SECOND_NS % 60
                made.append((one.channel_id, second, one.gap_fraction, one.partial))

    assert sorted(made) == [(f"OO.{name}..HDH", second, 0, "") for name in "AB" for second in (0, 2, 4, 6)]


def cut_folder(files: list[Path]) -> list[tuple[int, float, str]]:
    """What is made of each of these files of a folder: which second it begins at, its gaps, why it is partial."""
    beside = {path.name: opened(path) for path in files}
    made = []
    for number, path in enumerate(files):
        previous = files[number - 1] if number else None
        following = files[number + 1] if number + 1 < len(files) else None
        around = opener(previous), opener(following), Sound(), lambda: beside, path.name
        try:
            with Cutter(Recording(path), SEGMENT_S * SECOND_NS, *around) as cutter:
                found = [(s.start_ns // SECOND_NS % 60, s.gap_fraction, s.partial) for s in cutter.segments()]
        except SourceUnreadable:
            continue
        made += found
    return made


class TestSeveralFilesInOneSegment:
    """Of 2 s: files of half a second, and one that goes on."""

    BOUNDS = (0, RATE_HZ // 2, RATE_HZ, RATE_HZ * 3 // 2, 3 * RATE_HZ)

    def test_all_are_joined(self, tmp_path: Path) -> None:
        made = cut_folder(parted(tmp_path, noise(3), list(self.BOUNDS), BEGIN))

        assert [made[0], made[1][:2]] == [(0, 0, ""), (2, 0.5)]
        assert len(made) == 2

    def test_the_last_of_all_leaves_it_partial(self, tmp_path: Path) -> None:
        made = cut_folder(parted(tmp_path, noise(2), list(self.BOUNDS[:4]), BEGIN))

        assert made == [(0, 0.25, "its file and the one that follows end within it")]

    @pytest.mark.parametrize("how", ["a record", "the file"])
    def test_one_that_is_corrupt_leaves_the_others_together(self, tmp_path: Path, how: str) -> None:
        files = parted(tmp_path, noise(3), list(self.BOUNDS), BEGIN)
        if how == "a record":
            spoiled(files[1], 0)
        else:
            files[1].write_bytes(b"garbage")

        made = cut_folder(files)

        assert [second for second, _, _ in made] == [0, 2], "two of one key would fail a file that is sound"
        assert made[0][1] == pytest.approx(0.25, abs=0.1)
        assert "cannot be read" in made[0][2]


class TestCorruptNeighbour:
    @pytest.fixture
    def three(self, tmp_path: Path) -> list[Path]:
        """Three files, parted within segments: 0 to 5 s, to 9 s, to 15 s."""
        return parted(tmp_path, noise(15), [at * RATE_HZ for at in (0, 5, 9, 15)], BEGIN)

    @pytest.mark.parametrize("place", ["first", "middle", "last"])
    def test_leaves_what_the_others_have_of_the_segments_that_they_share(
        self, three: list[Path], place: str
    ) -> None:
        records = three[1].stat().st_size // 4096
        spoiled(three[1], {"first": 1, "middle": records // 2, "last": records - 2}[place])

        before, trouble = cut(three, 0)
        assert trouble == ""
        seconds = [(segment.start_ns // SECOND_NS) % 60 for segment in before]
        assert seconds == [0, 2, 4]
        is_lost = place == "first"
        assert ("follows cannot be read: the record at byte 4096" in before[2].partial) == is_lost
        assert before[2].gap_fraction == (0.5 if is_lost else 0)

        after, trouble = cut(three, 2)
        assert trouble == ""
        assert [(segment.start_ns // SECOND_NS) % 60 for segment in after] == [8, 10, 12, 14]
        assert "the one before cannot be read: the record at byte" in after[0].partial
        assert after[0].gap_fraction == 0.5
        assert not after[1].partial

        assert "is corrupt" in cut(three, 1)[1], "also where only the file before has its segment"

    def test_is_decoded_once_for_itself_and_its_neighbour(
        self, three: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sound = Sound()
        cut(three, 1, sound)
        monkeypatch.setattr(Recording, "check", lambda recording: pytest.fail("it was decoded again"))

        made, _ = cut(three, 2, sound)

        assert [segment.gap_fraction for segment in made] == [0, 0, 0.5]
        three[1].write_bytes(three[1].read_bytes())
        with pytest.raises(pytest.fail.Exception, match="decoded again"):
            cut(three, 2, sound)
