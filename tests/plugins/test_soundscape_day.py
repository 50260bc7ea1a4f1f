from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from ingest.errors import IngestError
from ingest.plugins.millidecade import hybrid_millidecades
from ingest.plugins.soundscape_day import PERCENTILES, SoundscapeDay, SoundscapeDayParams, percentiles_db
from ingest.plugins.soundscape_file import Minutes, from_netcdf, to_netcdf
from ingest.plugins.soundscape_picture import rows_db
from ingest.processors import Addition, Result
from tests.plugins.gallery_site import Rows, context
from tests.plugins.test_soundscape import START, mseed, noise, soundscape, uploads

MIDNIGHT_S = 1_547_251_200  # 2019-01-12
CHANNEL = "OO.HYEA2..YDH"
FOLDER = f"soundscape/{CHANNEL}"
RATE_HZ = 2000


def minutes(
    first: int, count: int, *, level: float = 60, effort: float = 60, rate_hz: float = RATE_HZ
) -> Minutes:
    """Minutes from the ``first`` one of 2019-01-12 on, each 0.01 dB louder than the one before."""
    bands = len(hybrid_millidecades(rate_hz / 2).centres_hz)
    numbers = np.arange(first, first + count)
    levels = level + 0.01 * numbers[:, None] + np.linspace(0, -20, bands)
    return Minutes(
        CHANNEL,
        rate_hz,
        "dB re 1 uPa^2/Hz",
        MIDNIGHT_S + 60 * numbers,
        np.full(count, effort, np.float32),
        levels.astype(np.float32),
    )


def stored(folder: Path, *files: Minutes) -> Rows:
    rows = []
    for number, one in enumerate(files):
        key = f"{number}.nc"
        (folder / key).write_bytes(to_netcdf(one, {}))
        start = np.datetime64(int(one.start_s[0]), "s")
        metadata = {
            "kind": "soundscape",
            "start": f"{start}.000000Z",
            "duration_s": str(int(one.start_s[-1] - one.start_s[0]) + 60),
            "channel_id": one.channel_id,
            "sample_rate_hz": f"{one.sample_rate_hz:g}",
        }
        rows.append(Result("", "", None, None, key, 1, "", None, "", "stored", metadata))
    return Rows(folder, rows)


def days(results: Rows, **params: Any) -> dict[str, Addition]:
    finisher = SoundscapeDay(SoundscapeDayParams(**params), context(results.folder))
    return {addition.key: addition for addition in finisher.additions(results)}


def read(addition: Addition, folder: Path) -> Minutes:
    assert isinstance(addition.body, bytes)
    (folder / "day.nc").write_bytes(addition.body)
    return from_netcdf(folder / "day.nc")


def picture(addition: Addition) -> Image.Image:
    assert isinstance(addition.body, bytes)
    return Image.open(io.BytesIO(addition.body)).convert("RGB")


def test_a_day_has_all_its_minutes(tmp_path: Path) -> None:
    made = days(stored(tmp_path, minutes(0, 5), minutes(10, 5, effort=30)))

    assert list(made) == [f"{FOLDER}/2019-01-12.nc", f"{FOLDER}/2019-01-12.png"]
    day = read(made[f"{FOLDER}/2019-01-12.nc"], tmp_path)
    assert day.start_s.tolist() == list(range(MIDNIGHT_S, MIDNIGHT_S + 86_400, 60))
    assert day.effort_s[:16].tolist() == [60] * 5 + [0] * 5 + [30] * 5 + [0]
    recorded = day.effort_s > 0
    assert np.isnan(day.levels_db[~recorded]).all()
    assert (day.levels_db[:5] == minutes(0, 5).levels_db).all()
    assert (day.levels_db[10:15] == minutes(10, 5).levels_db).all()


def test_percentiles_are_of_the_minutes_that_are_there(tmp_path: Path) -> None:
    made = days(stored(tmp_path, minutes(100, 101)))

    read(made[f"{FOLDER}/2019-01-12.nc"], tmp_path)
    with h5netcdf.File(tmp_path / "day.nc", "r") as file:
        assert file.variables["percentile"][:].tolist() == list(PERCENTILES)
        found = file.variables["psd_percentile"][:]
    assert found == pytest.approx(np.percentile(minutes(100, 101).levels_db, PERCENTILES, axis=0), abs=1e-4)


def test_a_file_through_midnight_goes_into_both_days(tmp_path: Path) -> None:
    made = days(stored(tmp_path, minutes(1437, 6)), picture=False)

    assert list(made) == [f"{FOLDER}/2019-01-12.nc", f"{FOLDER}/2019-01-13.nc"]
    assert np.flatnonzero(read(made[f"{FOLDER}/2019-01-12.nc"], tmp_path).effort_s).tolist() == [
        1437,
        1438,
        1439,
    ]
    assert np.flatnonzero(read(made[f"{FOLDER}/2019-01-13.nc"], tmp_path).effort_s).tolist() == [0, 1, 2]


def test_of_two_of_a_minute_the_better_one_is_taken(tmp_path: Path) -> None:
    for order in ((10, 40), (40, 10)):
        files = [minutes(7, 1, level=60 + effort, effort=effort) for effort in order]
        day = read(days(stored(tmp_path, *files), picture=False)[f"{FOLDER}/2019-01-12.nc"], tmp_path)

        assert day.effort_s[7] == 40
        assert day.levels_db[7] == pytest.approx(minutes(7, 1, level=100).levels_db[0])


def test_rates_are_not_mixed(tmp_path: Path) -> None:
    made = days(stored(tmp_path, minutes(0, 2), minutes(5, 2, rate_hz=4000)), picture=False)

    assert list(made) == [f"{FOLDER}/2019-01-12_2000Hz.nc", f"{FOLDER}/2019-01-12_4000Hz.nc"]


def test_other_objects_are_left_alone(tmp_path: Path) -> None:
    results = stored(tmp_path, minutes(0, 2))
    results.listed[0].metadata["kind"] = "picture"  # type: ignore[index]

    assert days(results) == {}


def test_what_is_no_spectra_is_said(tmp_path: Path) -> None:
    results = stored(tmp_path, minutes(0, 2))
    (tmp_path / "0.nc").write_bytes(b"no NetCDF")
    with pytest.raises(IngestError, match=r"0\.nc is no file of spectra"):
        days(results)

    results.listed[0].metadata["start"] = "today"  # type: ignore[index]
    with pytest.raises(IngestError, match=r"0\.nc does not say when it starts"):
        days(results)


def test_may_be_repeated(tmp_path: Path) -> None:
    results = stored(tmp_path, minutes(0, 30))

    assert days(results) == days(results)


def test_a_picture_shows_what_is_missing(tmp_path: Path) -> None:
    made = days(stored(tmp_path, minutes(0, 720)))

    image = picture(made[f"{FOLDER}/2019-01-12.png"])
    width, height = image.size
    grey = (0xD5, 0xDC, 0xE3)
    assert image.getpixel((round(width * 0.75), round(height * 0.25))) == grey
    assert image.getpixel((round(width * 0.25), round(height * 0.25))) != grey


def test_digital_silence_does_not_look_like_what_is_missing(tmp_path: Path) -> None:
    made = days(stored(tmp_path, minutes(0, 360), minutes(360, 360, level=-np.inf)))

    image = picture(made[f"{FOLDER}/2019-01-12.png"])
    width, height = image.size
    loud, silent, missing = (
        image.getpixel((round(width * place), round(height * 0.25))) for place in (0.2, 0.4, 0.75)
    )
    assert missing == (0xD5, 0xDC, 0xE3)
    assert len({loud, silent, missing}) == 3


def test_colours_can_be_fixed(tmp_path: Path) -> None:
    results = stored(tmp_path, minutes(0, 1440))
    here, there = (picture(days(results, level_min_db=low, level_max_db=high)[f"{FOLDER}/2019-01-12.png"])
                   for low, high in ((0, 200), (20, 70)))  # fmt: skip

    assert here.tobytes() != there.tobytes()
    with pytest.raises(ValidationError, match="must be less"):
        SoundscapeDayParams(level_min_db=5, level_max_db=5)


def test_rows_of_the_picture_hold_the_power_of_their_bands() -> None:
    flat = minutes(0, 2)
    flat.levels_db[:] = 40
    assert rows_db(flat, (10, 1000), 300) == pytest.approx(40)

    flat.levels_db[:, 500] = 70  # one band of about 500 Hz
    loud = rows_db(flat, (10, 1000), 50)[0]
    assert np.count_nonzero(loud > 41) in (1, 2)


def test_a_tone_comes_through_the_day(tmp_path: Path) -> None:
    seconds = np.arange(120 * 8000) / 8000
    tone = np.round(200_000 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.int32) + noise(120)
    calibration = {"sensitivity_db": -169, "volts_per_count": 1e-6}
    (upload,) = uploads(mseed(tmp_path / "a.mseed", (START, tone)), calibration=calibration)
    assert isinstance(upload.body, bytes)
    (tmp_path / "a.nc").write_bytes(upload.body)
    row = Result("", "", None, None, "a.nc", 1, "", None, "", "stored", upload.metadata)
    day = read(days(Rows(tmp_path, [row]), picture=False)[f"{FOLDER}/2019-01-12.nc"], tmp_path)

    bands = day.bands
    near = np.abs(bands.centres_hz - 1000) < 15
    power = 10 ** (day.levels_db[910, near].astype(float) / 10) @ bands.widths_hz[near]
    assert 10 * np.log10(power) == pytest.approx(20 * np.log10(0.2 / np.sqrt(2)) + 169, abs=0.1)
    assert soundscape(tmp_path).units == "dB re 1 count^2/Hz"


def test_an_hour_of_digital_silence_leaves_percentiles_and_their_curves() -> None:
    levels_db = np.full((1440, 3), 60, np.float32)
    levels_db[:60] = -np.inf

    found = dict(zip(PERCENTILES, percentiles_db(levels_db), strict=True))

    assert (found[1] == -np.inf).all()
    assert (found[5] == 60).all()
    levels_db[:] = -np.inf
    assert (percentiles_db(levels_db) == -np.inf).all()
