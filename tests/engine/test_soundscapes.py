"""Minutes of sound through a whole job: files that end within minutes, and a damaged one, become a day."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from obspy import UTCDateTime

from ingest.ledger import State
from ingest.plugins.soundscape_file import from_netcdf
from tests.engine.making import create, files_below
from tests.plugins.hydrophone import tone, trace, write

RATE_HZ = 4000
START = UTCDateTime("2019-01-12T23:56:30Z")
DAY = "soundscape/OO.HYEA2..YDH"


def test_files_become_days(tmp_path: Path, redis_url: str) -> None:
    for number in range(3):
        start = START + 90 * number
        write(
            tmp_path / "sound" / f"{number}.mseed", trace(tone(90, 440, 10_000, RATE_HZ), str(start), RATE_HZ)
        )
    (tmp_path / "sound" / "3.mseed").write_text("<html>404</html>")
    config = {
        "name": "soundscape",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(tmp_path / "sound")}},
        "tile_processor": {
            "class": "soundscape",
            "params": {"calibration": {"sensitivity_db": -170, "volts_per_count": 1e-6}},
        },
        "finishers": [{"class": "soundscape_day"}],
        "destination": {"url": f"file://{tmp_path}/stored"},
    }
    (tmp_path / "job.json").write_text(json.dumps(config))
    job = create(tmp_path / "job.json", expect=3)

    assert job.status().state is State.FAILED
    stored = files_below(tmp_path / "stored")
    assert {key for key in stored if not key.startswith(".ingest")} == {
        *(f"{number}_OO.HYEA2..YDH.nc" for number in range(3)),
        *(f"{DAY}/2019-01-{day}.{suffix}" for day in (12, 13) for suffix in ("nc", "png")),
    }
    before = from_netcdf(tmp_path / "stored" / DAY / "2019-01-12.nc")
    after = from_netcdf(tmp_path / "stored" / DAY / "2019-01-13.nc")
    assert before.effort_s[-5:].tolist() == [0, 30, 60, 60, 60]
    assert after.effort_s[:2].tolist() == [60, 0]
    near = np.abs(before.bands.centres_hz - 440) < 10
    levels = np.concatenate((before.levels_db[-4:, near], after.levels_db[:1, near])).astype(float)
    tone_db = 10 * np.log10(10 ** (levels / 10) @ before.bands.widths_hz[near])
    assert np.abs(tone_db - (20 * np.log10(0.01) + 170)).max() < 0.1
