"""Segments over several files, in whole jobs: from a real nginx's directory pages as from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from obspy import UTCDateTime

from ingest.creation import create
from ingest.ledger import State
from ingest.manifest import read_manifest
from tests.engine.jobs_by_hand import feed
from tests.plugins.hydrophone import noise, trace, write
from tests.web_servers import NginxIndex, nginx_index
from tests.whole_jobs import do

RATE_HZ = 2000
SPECTROGRAM = {"class": "spectrogram", "params": {"clip": "none", "window_s": 0.1}}


def segments(folder: Path, source: str, **params: Any) -> list[tuple[str, str, str, str]]:
    """What a job makes of a source: of each segment its channel, time, gaps, and why it is partial."""
    destination = folder / f"made-{len([*folder.iterdir()])}"
    config = {
        "name": "trial",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": source, "params": params},
        "tile_processor": SPECTROGRAM,
        "destination": {"url": f"file://{destination}"},
        "queue": {"batch_items": 100},
    }
    job = create(config)
    feed(job)
    do(job)
    assert job.complete() is State.COMPLETE, [*job.failures()]
    rows = [dict(found["metadata"]) for found in read_manifest(job.store, job.job_id, job.settings.scratch)]
    return sorted((r["channel_id"], r["start"][11:19], r["gap_fraction"], r.get("partial", "")) for r in rows)


def gets(web: NginxIndex) -> list[str]:
    """The MiniSEED files that were asked for, so far."""
    return [line.split()[1] for line in web.requests() if ".mseed " in line]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[NginxIndex]:
    with nginx_index(tmp_path) as server:
        yield server


def test_channels_may_alternate_on_a_page(web: NginxIndex, tmp_path: Path, redis_url: str) -> None:
    """As where several hydrophones record into one folder. No file is downloaded twice."""
    begin, bounds = UTCDateTime("2019-01-12T15:10:00"), [0, 7, 14, 21, 30]
    sound = noise(30, RATE_HZ)
    for number, (a, b) in enumerate(pairwise(bounds)):
        for channel in ("OO.A..HDH", "OO.B..HDH"):
            part = trace(sound[a * RATE_HZ : b * RATE_HZ], str(begin + a), RATE_HZ, channel)
            write(web.root / f"{number}{channel[3]}.mseed", part)

    made = segments(tmp_path, "http_index", url=web.url)

    times = [f"15:10:{second:02}" for second in range(0, 30, 5)]
    assert made == [(channel, time, "0", "") for channel in ("OO.A..HDH", "OO.B..HDH") for time in times]
    assert made == segments(tmp_path, "folder", root_dir=str(web.root))
    assert len(gets(web)) == len(set(gets(web))) == 8


def test_of_four_channels_on_a_page_no_file_is_downloaded_again_and_again(
    web: NginxIndex, tmp_path: Path, redis_url: str
) -> None:
    begin, bounds = UTCDateTime("2019-01-12T15:10:00"), range(0, 71, 7)
    for number, (a, b) in enumerate(pairwise(bounds)):
        for channel in ("OO.A..HDH", "OO.B..HDH", "OO.C..HDH", "OO.D..HDH"):
            part = trace(noise(b - a, RATE_HZ, a), str(begin + a), RATE_HZ, channel)
            write(web.root / f"{number}{channel[3]}.mseed", part)

    made = segments(tmp_path, "http_index", url=web.url)

    assert len(made) == 4 * 14 and not any(partial for *_, partial in made[:-4])
    assert len(set(gets(web))) == 40
    assert len(gets(web)) < 60, "each once, and some of the first again"


def test_fragments_over_midnight_are_joined(web: NginxIndex, tmp_path: Path, redis_url: str) -> None:
    """The last file of a day ends within a segment of the next, of which that day's first files have the rest."""
    begin, bounds = UTCDateTime("2019-01-12T23:59:50"), [0, 11, 12, 13, 20]
    sound = noise(20, RATE_HZ)
    for a, b in pairwise(bounds):
        start = begin + a
        name = f"{start.date:%Y/%m/%d}/OO-HYEA2--YDH-{start.datetime:%Y-%m-%dT%H:%M:%S}.mseed"
        part = trace(sound[a * RATE_HZ : b * RATE_HZ], str(start), RATE_HZ)
        write(web.root / "files/CE02SHBP/LJ01D/11-HYDBBA106" / name, part)

    def of_day(day: str) -> list[tuple[str, str, str]]:
        place = {"site": "CE02SHBP", "node": "LJ01D", "instrument": "11-HYDBBA106"}
        made = segments(tmp_path, "ooi_hydrophone", base_url=f"{web.url}files/", start=day, **place)
        return [row[1:] for row in made]

    assert of_day("2019-01-12") == [("00:00:00", "0", ""), ("23:59:50", "0", ""), ("23:59:55", "0", "")]
    assert of_day("2019-01-13") == [("00:00:05", "0", "")]
