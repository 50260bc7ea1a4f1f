"""The path processor ``ooi_hydrophone``, on a real nginx laid out as OOI's raw-data server is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from obspy import UTCDateTime
from pydantic import ValidationError

from ingest.errors import ConfigError, SourceMissing
from ingest.items import FileItem
from ingest.plugins.ooi import OoiHydrophone, OoiParams
from ingest.plugins.ooi_days import HYDROPHONES, days_between, read_name
from ingest.plugins.spectrogram import Spectrogram
from ingest.plugins.spectrogram_params import SpectrogramParams
from ingest.processors import Source
from tests.plugins.hydrophone import noise, trace, write
from tests.plugins.making import context, tiles_job
from tests.web_servers import NginxIndex, nginx_index

PORTED, BARE = "CE02SHBP/LJ01D/11-HYDBBA106", "CE02SHBP/LJ01D/HYDBBA106"
PLACE = {"site": "CE02SHBP", "node": "LJ01D", "instrument": "11-HYDBBA106"}


def name(time: str, day: str = "2019-01-12") -> str:
    return f"OO-HYEA2--YDH-{day}T{time}.mseed"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[NginxIndex]:
    """Two days with the port in the folder's name, an addendum and odd files; one day without the port; one missing."""
    with nginx_index(tmp_path) as server:
        for path in (
            f"{PORTED}/2019/01/12/{name('00:00:00.000000')}",
            f"{PORTED}/2019/01/12/{name('15:10:00.000000')}",
            f"{PORTED}/2019/01/12/{name('15:15:00')}",
            f"{PORTED}/2019/01/12/{name('15:20:00.000015Z')}",
            f"{PORTED}/2019/01/12/{name('23:55:00Z')}",
            f"{PORTED}/2019/01/12/HYEA2-without-a-time.mseed",
            f"{PORTED}/2019/01/12/{name('25:00:00')}",
            f"{PORTED}/2019/01/12/notes.txt",
            f"{PORTED}/2019/01/12/plots/x.png",
            f"{PORTED}/2019/01/12/addendum/{name('15:15:00.000000Z')}",
            f"{PORTED}/2019/01/12/addendum/{name('16:00:00')}",
            f"{PORTED}/2019/01/13/{name('00:00:00', '2019-01-13')}",
            f"{BARE}/2019/01/13/{name('00:00:00', '2019-01-13')}",
            f"{BARE}/2019/01/13/{name('00:05:00', '2019-01-13')}",
            f"{BARE}/2019/01/15/{name('12:00:00', '2019-01-15')}",
            f"{BARE}/2019/01/16/notes.txt",
        ):
            file = server.root / "files" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(path.encode())
        yield server


Make = Callable[..., OoiHydrophone]


@pytest.fixture
def make(web: NginxIndex, tmp_path: Path) -> Iterator[Make]:
    """Makes processors."""
    with ExitStack() as made:

        def maker(**params: Any) -> OoiHydrophone:
            chosen = OoiParams.model_validate({"base_url": web.url + "files", **PLACE, **params})
            return made.enter_context(closing(OoiHydrophone(chosen, context(tmp_path))))

        yield maker


def paths(processor: OoiHydrophone, after: str | None = None) -> list[str]:
    return [item.path for item in processor.paths(after)]


DAY = [
    f"{PORTED}/2019/01/12/{name('00:00:00.000000')}",
    f"{PORTED}/2019/01/12/{name('15:10:00.000000')}",
    f"{PORTED}/2019/01/12/{name('15:20:00.000015Z')}",
    f"{PORTED}/2019/01/12/{name('23:55:00Z')}",
    f"{PORTED}/2019/01/12/addendum/{name('15:15:00.000000Z')}",
    f"{PORTED}/2019/01/12/addendum/{name('16:00:00')}",
]
NEXT = [
    f"{PORTED}/2019/01/13/{name('00:00:00', '2019-01-13')}",
    f"{BARE}/2019/01/13/{name('00:05:00', '2019-01-13')}",
]
LAST = [f"{BARE}/2019/01/15/{name('12:00:00', '2019-01-15')}"]


def test_a_day_with_its_addendum(make: Make) -> None:
    processor = make(start="2019-01-12")
    processor.check()

    assert paths(processor) == DAY
    assert processor.left_out == {
        "no time in its name": 2,
        "not MiniSEED": 1,
        "folder": 1,
        "replaced by addendum": 1,
    }
    item = next(processor.paths())
    with processor.open(processor.path(item)) as path:
        assert path.read_bytes() == DAY[0].encode()
        assert path.stat().st_size == item.size_bytes
    assert processor.facts(processor.path(item))["source_sha256"]


@pytest.mark.parametrize("instrument", ["11-HYDBBA106", "HYDBBA106"])
def test_both_spellings_of_the_folder_are_looked_into(make: Make, instrument: str) -> None:
    processor = make(start="2019-01-13", instrument=instrument)

    assert paths(processor) == NEXT
    assert processor.left_out == {"in both spellings of the folder": 1}
    assert paths(make(start="2019-01-15", instrument=instrument)) == LAST


def test_a_range_of_days_and_times(make: Make) -> None:
    assert paths(make(start="2019-01-12", end="2019-01-13")) == DAY + NEXT, "a last day is taken whole"
    within = make(start="2019-01-12T15:10:00Z", end="2019-01-12T15:20:00")
    assert paths(within) == [DAY[1], DAY[4]]
    assert within.left_out["before start or after end"] == 4
    assert paths(make(start="2019-01-12T16:50:00+01:00", end="2019-01-12")) == [DAY[3], DAY[5]]
    assert paths(make(start="2019-01-12T23:00", end="2019-01-13T00:00:00.000001")) == [DAY[3], NEXT[0]]


def test_begins_after_any_path_in_its_order(make: Make) -> None:
    processor = make(start="2019-01-12", end="2019-01-13")
    for place, path in enumerate(DAY + NEXT):
        assert paths(processor, path) == (DAY + NEXT)[place + 1 :]
    assert paths(processor, f"{PORTED}/2019/01/12/gone") == DAY[4:] + NEXT


def test_an_absent_day_is_an_error_or_counted(make: Make) -> None:
    processor = make(start="2019-01-12", end="2019-01-15")
    listed = processor.paths()
    assert [next(listed).path for _ in range(8)] == DAY + NEXT
    with pytest.raises(SourceMissing, match="there is no data of 2019-01-14: the server has no") as caught:
        next(listed)
    assert f"{PORTED}/2019/01/14/ and no " in caught.value.what
    assert "CE02SHBP/LJ01D/11-HYDBBA106" in str(caught.value.hint)

    lenient = make(start="2019-01-12", end="2019-01-16", absent_days="leave_out")
    assert paths(lenient) == DAY + NEXT + LAST
    assert (lenient.left_out["absent day"], lenient.left_out["empty day"]) == (1, 1)


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"start": "2019-01-14"}, "there is no data of 2019-01-14"),
        ({"start": "2019-01-12", "end": "2019-01-14"}, "there is no data of 2019-01-14"),
        ({"start": "2019-01-16"}, "the directory page of 2019-01-16 lists no MiniSEED file with a time"),
        ({"start": "2019-01-12", "node": "LJ01X"}, "there is no data of 2019-01-12"),
        (
            {"start": "2019-01-14", "absent_days": "leave_out"},
            "none of the 1 days from 2019-01-14 has a file",
        ),
    ],
)
def test_what_is_not_there_is_said_when_a_job_is_created(
    make: Make, params: dict[str, str], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        make(**params).check()


def test_a_server_that_is_away_is_trouble_of_the_whole_source(web: NginxIndex, make: Make) -> None:
    processor = make(start="2019-01-12")
    processor.check()
    web.stop()
    with pytest.raises(ConfigError, match="refused"):
        processor.check()
    web.start()
    processor.check()


def test_neighbours_do_not_depend_on_the_range(make: Make) -> None:
    processor = make(start="2019-01-12T15:10:00", end="2019-01-12T15:11:00")

    def beside(path: str) -> list[str | None]:
        return [found.path if found else None for found in processor.neighbours(FileItem(path))]

    in_time = [DAY[0], DAY[1], DAY[4], DAY[2], DAY[5], DAY[3], *NEXT]
    for before, path, after in zip([None, *in_time], in_time, [*in_time[1:], None], strict=False):
        assert beside(path) == [before, after], (
            "over midnight, in the addendum, under both spellings; of no other day"
        )


def test_neighbours_are_of_one_channel(web: NginxIndex, make: Make) -> None:
    other = f"{PORTED}/2019/01/12/{name('23:57:00').replace('YDH', 'YDF')}"
    (web.root / "files" / other).write_bytes(b"another channel")
    processor = make(start="2019-01-12")

    assert [found and found.path for found in processor.neighbours(FileItem(other))] == [None, None]
    assert [found and found.path for found in processor.neighbours(FileItem(DAY[3]))] == [DAY[5], NEXT[0]]
    assert [found.path for found in processor.beside(FileItem(other))] == [other]
    in_time = [DAY[0], DAY[1], DAY[4], DAY[2], DAY[5], DAY[3], *NEXT]
    assert [found.path for found in processor.beside(FileItem(DAY[3]))] == in_time, "of the next day too"


@pytest.mark.parametrize("instrument", ["11-HYDBBA106", "HYDBBA106"])
@pytest.mark.parametrize("day", ["2019-01-12", "2019-01-15"])
def test_the_instrument_in_keys_has_no_port(make: Make, instrument: str, day: str) -> None:
    """Whichever way it is given, and whichever spelling its folder has on that day."""
    processor = make(start=day, instrument=instrument)
    item = next(processor.paths())
    with processor.open(processor.path(item)):
        assert processor.facts(processor.path(item))["instrument"] == "HYDBBA106"


def test_a_segment_over_midnight_is_joined(web: NginxIndex, make: Make, tmp_path: Path) -> None:
    """It belongs to the day on which its first file begins, and that day alone makes it."""
    sound = noise(20, 8000)
    for path, start_s, end_s in (
        (f"{PORTED}/2020/02/29/{name('23:59:50', '2020-02-29')}", 0, 12.5),
        (f"{BARE}/2020/03/01/{name('00:00:02.500000Z', '2020-03-01')}", 12.5, 20),
    ):
        start = UTCDateTime("2020-02-29T23:59:50Z") + start_s
        part = sound[round(start_s * 8000) : round(end_s * 8000)]
        write(web.root / "files" / path, trace(part, str(start), 8000))

    def whole_segments(day: str) -> list[str]:
        with closing(Spectrogram(SpectrogramParams(clip="none"), context(tmp_path))) as spectrogram:
            processor = make(start=day)
            (item,) = processor.paths()
            before, after = (
                partial(processor.open, processor.path(found)) if found else None
                for found in processor.neighbours(item)
            )
            with processor.open(processor.path(item)) as path:
                made = list(spectrogram.uploads(Source(item, path, previous=before, following=after)))
        assert all("partial" not in upload.metadata for upload in made)
        assert {upload.metadata["gap_fraction"] for upload in made} == {"0"}
        return [upload.metadata["start"][:19] for upload in made]

    assert whole_segments("2020-02-29") == [
        "2020-02-29T23:59:50",
        "2020-02-29T23:59:55",
        "2020-03-01T00:00:00",
    ]
    assert whole_segments("2020-03-01") == ["2020-03-01T00:00:05"]


def test_a_job_over_tiles_is_refused(make: Make, tmp_path: Path) -> None:
    params = make(start="2019-01-12").params
    with (
        closing(OoiHydrophone(params, context(tmp_path, tiles_job()))) as processor,
        pytest.raises(ConfigError, match="type 'files' only"),
    ):
        processor.check()


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"start": "yesterday"}, "neither a day"),
        ({"start": "2019-02-30"}, "neither a day"),
        ({"start": "0001-01-01T00:00+01:00", "end": "2019-01-01"}, "neither a day"),
        ({"start": "2019-01-12", "end": "9999-12-31"}, "has no end"),
        ({"start": "2019-01-12T15:00"}, "give `end` too"),
        ({"start": "2019-01-12", "end": "2019-01-11"}, "does not come after"),
        ({"start": "2019-01-12T15:00", "end": "2019-01-12T15:00"}, "does not come after"),
        ({"start": "2019-01-12", "site": "../etc12"}, "site"),
        ({"start": "2019-01-12", "instrument": "11-HYDBBA106/.."}, "instrument"),
        ({"start": "2019-01-12", "base_url": "https://me:secret@host/"}, "user or password"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, str], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        OoiParams.model_validate(PLACE | params)


@pytest.mark.parametrize(
    ("text", "channel", "start"),
    [
        ("OO-HYEA2--YDH-2019-01-12T15:10:00.000000.mseed", "OO-HYEA2--YDH", datetime(2019, 1, 12, 15, 10)),
        (
            "OO-HYEA2--YDH-2015-09-10T05:00:00.000015Z.mseed",
            "OO-HYEA2--YDH",
            datetime(2015, 9, 10, 5, 0, 0, 15),
        ),
        ("OO-AXBA1--HDH-2019-01-12T15_10_00.mseed", "OO-AXBA1--HDH", datetime(2019, 1, 12, 15, 10)),
        ("a-2019-01-12T15:10:00.123456789Z.MSEED", "a", datetime(2019, 1, 12, 15, 10, 0, 123456)),
    ],
)
def test_names_of_all_years_are_read(text: str, channel: str, start: datetime) -> None:
    assert read_name(text) == (channel, start.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "text", ["x.mseed", "a-2019-13-12T15:10:00.mseed", "a-2019-01-12T15:10:00.txt", "a-2019-01-12.mseed"]
)
def test_a_name_without_a_time_has_none(text: str) -> None:
    assert read_name(text) is None


def test_the_six_broadband_hydrophones_are_in_the_docs() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "hydrophone.md").read_text()

    assert len(HYDROPHONES) == 6
    for place in HYDROPHONES.values():
        assert f"| `{'` | `'.join(place)}` |" in text


def test_days_go_to_the_end_of_the_calendar() -> None:
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)
    assert [str(day) for day in days_between(last - timedelta(hours=24), last)] == [
        "9999-12-30",
        "9999-12-31",
    ]
    assert [*days_between(last.replace(hour=0) - timedelta(hours=1), last.replace(hour=0))] == [
        date(9999, 12, 30)
    ]
