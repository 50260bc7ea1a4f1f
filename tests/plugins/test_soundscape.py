from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import obspy
import pytest
from numpy.typing import NDArray

from ingest.errors import ConfigError, ItemError
from ingest.items import FileItem
from ingest.plugins.soundscape import Soundscape, SoundscapeParams
from ingest.plugins.soundscape_file import Minutes, from_netcdf
from ingest.processors import JobContext, Source, Upload

RATE_HZ = 8000
START = obspy.UTCDateTime(2019, 1, 12, 15, 10)
SENSITIVITY_DB, VOLTS_PER_COUNT = -169.0, 1e-6
CALIBRATION = {"sensitivity_db": SENSITIVITY_DB, "volts_per_count": VOLTS_PER_COUNT}
Samples = NDArray[np.int32]


def noise(seconds: float, seed: int = 1, rate_hz: int = RATE_HZ) -> Samples:
    return np.random.default_rng(seed).normal(0, 1000, round(seconds * rate_hz)).astype(np.int32)


def tone(seconds: float, hz: float = 1000.3, amplitude: float = 200_000) -> Samples:
    return np.round(
        amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    ).astype(np.int32)


def mseed(
    path: Path, *parts: tuple[obspy.UTCDateTime, Samples], rate_hz: float = RATE_HZ, cha: str = "YDH"
) -> Path:
    stream = obspy.Stream()
    for start, samples in parts:
        header = {
            "network": "OO",
            "station": "HYEA2",
            "channel": cha,
            "starttime": start,
            "sampling_rate": rate_hz,
        }
        stream.append(obspy.Trace(samples, header))
    with path.open("ab") as file:
        stream.write(file, format="MSEED", encoding="STEIM2", reclen=512)
    return path


def soundscape(tmp_path: Path, **params: Any) -> Soundscape:
    config = {"destination": {"key": "{parent}{stem}{suffix}"}}
    context = JobContext("job-1", "Sound", "2026-01-31", None, tmp_path, config)
    return Soundscape(SoundscapeParams(**params), context)


def uploads(
    path: Path, following: Path | None = None, previous: Path | None = None, **params: Any
) -> list[Upload]:
    def opens(path: Path | None) -> Any:
        return (lambda: nullcontext(path)) if path else None

    source = Source(FileItem(path.name), path, previous=opens(previous), following=opens(following))
    return list(soundscape(path.parent, **params).uploads(source))


def read(upload: Upload, folder: Path) -> Minutes:
    assert isinstance(upload.body, bytes)
    path = folder / "read.nc"
    path.write_bytes(upload.body)
    return from_netcdf(path)


def band_sum_db(minutes: Minutes, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """The level of all power between two frequencies, in each minute."""
    bands = minutes.bands
    inside = (bands.centres_hz > low_hz) & (bands.centres_hz < high_hz)
    power = 10 ** (minutes.levels_db[:, inside].astype(np.float64) / 10) @ bands.widths_hz[inside]
    level: NDArray[np.float64] = 10 * np.log10(power)
    return level


def test_each_minute_has_a_spectrum(tmp_path: Path) -> None:
    (upload,) = uploads(mseed(tmp_path / "a.mseed", (START, noise(180))))
    minutes = read(upload, tmp_path)

    assert minutes.start_s.tolist() == [int(START.timestamp) + 60 * number for number in range(3)]
    assert minutes.effort_s.tolist() == [60, 60, 60]
    assert minutes.levels_db.shape == (3, len(minutes.bands.centres_hz))
    assert upload.metadata["start"] == "2019-01-12T15:10:00.000000Z"
    assert upload.metadata["units"] == "dB re 1 count^2/Hz"
    assert (upload.metadata["minutes"], upload.metadata["duration_s"]) == ("3", "180")
    assert upload.fields == {"channel_id": "OO.HYEA2..YDH"}


def test_bands_add_up_to_the_broadband_power(tmp_path: Path) -> None:
    samples = noise(120) + tone(120, 333.3, 3000)
    (upload,) = uploads(mseed(tmp_path / "a.mseed", (START, samples)))
    minutes = read(upload, tmp_path)

    broadband = 10 * np.log10(np.mean(samples.reshape(2, -1).astype(float) ** 2, axis=1))
    assert band_sum_db(minutes, -1, 4001) == pytest.approx(broadband, abs=0.1)
    assert float(upload.metadata["broadband_db"]) == pytest.approx(broadband.mean(), abs=0.1)


@pytest.mark.parametrize("hz", [20, 20.5, 434.4, 1000, 3456.7])
def test_a_calibrated_tone_reads_its_level(tmp_path: Path, hz: float) -> None:
    expected = 20 * np.log10(200_000 / np.sqrt(2) * VOLTS_PER_COUNT) - SENSITIVITY_DB
    (upload,) = uploads(mseed(tmp_path / "a.mseed", (START, tone(60, hz))), calibration=CALIBRATION)
    minutes = read(upload, tmp_path)

    assert minutes.units == "dB re 1 uPa^2/Hz"
    assert band_sum_db(minutes, hz - 15, hz + 15) == pytest.approx(expected, abs=0.1)
    assert float(upload.metadata["broadband_db"]) == pytest.approx(expected, abs=0.1)


def test_a_calibration_that_varies_with_frequency_holds_at_each(tmp_path: Path) -> None:
    table = tmp_path / "sensitivity.csv"
    table.write_text("frequency_hz,sensitivity_db\n100,-169\n1000,-175\n")
    calibration = {"sensitivity_csv": table, "volts_per_count": VOLTS_PER_COUNT}
    path = mseed(tmp_path / "a.mseed", (START, tone(60, 100) + tone(60, 1000)))
    (upload,) = uploads(path, calibration=calibration)
    minutes = read(upload, tmp_path)

    level = 20 * np.log10(200_000 / np.sqrt(2) * VOLTS_PER_COUNT)
    assert band_sum_db(minutes, 90, 110) == pytest.approx(level + 169, abs=0.1)
    assert band_sum_db(minutes, 990, 1010) == pytest.approx(level + 175, abs=0.1)


def test_a_gap_is_no_silence(tmp_path: Path) -> None:
    samples = noise(120)
    whole = read(uploads(mseed(tmp_path / "whole.mseed", (START, samples)))[0], tmp_path)
    parts = (START, samples[: 70 * RATE_HZ]), (START + 90, samples[90 * RATE_HZ :])
    with_gap = read(uploads(mseed(tmp_path / "gap.mseed", *parts))[0], tmp_path)

    assert with_gap.effort_s.tolist() == [60, 40]
    assert (with_gap.levels_db[0] == whole.levels_db[0]).all()
    assert band_sum_db(with_gap, -1, 4001)[1] == pytest.approx(band_sum_db(whole, -1, 4001)[1], abs=0.1)


def test_a_minute_that_crosses_files_is_made_of_both(tmp_path: Path) -> None:
    samples = noise(180)
    cut = 90 * RATE_HZ
    whole = read(uploads(mseed(tmp_path / "whole.mseed", (START, samples)))[0], tmp_path)
    first = mseed(tmp_path / "1.mseed", (START, samples[:cut]))
    second = mseed(tmp_path / "2.mseed", (START + 90, samples[cut:]))
    ours = read(uploads(first, following=second)[0], tmp_path)
    theirs = read(uploads(second, previous=first)[0], tmp_path)

    assert np.concatenate((ours.start_s, theirs.start_s)).tolist() == whole.start_s.tolist()
    assert (np.concatenate((ours.levels_db, theirs.levels_db)) == whole.levels_db).all()


def test_a_minute_that_misses_its_end_says_so(tmp_path: Path) -> None:
    (upload,) = uploads(mseed(tmp_path / "a.mseed", (START, noise(90))))

    assert read(upload, tmp_path).effort_s.tolist() == [60, 30]
    assert upload.metadata["partial"].startswith("2019-01-12T15:11: its file ends within it")


def test_less_than_a_second_is_no_spectrum(tmp_path: Path) -> None:
    assert uploads(mseed(tmp_path / "a.mseed", (START, noise(0.9)))) == []
    (upload,) = uploads(mseed(tmp_path / "b.mseed", (START, noise(60.9))))
    assert (upload.metadata["minutes"], upload.metadata["minutes_empty"]) == ("1", "1")


def test_each_channel_is_an_upload(tmp_path: Path) -> None:
    mseed(tmp_path / "a.mseed", (START, noise(60)))
    mseed(tmp_path / "a.mseed", (START, noise(60)), cha="YDG")

    found = uploads(tmp_path / "a.mseed")
    assert [upload.fields["channel_id"] for upload in found] == ["OO.HYEA2..YDG", "OO.HYEA2..YDH"]


def test_may_be_repeated(tmp_path: Path) -> None:
    path = mseed(tmp_path / "a.mseed", (START, noise(60)))

    assert uploads(path) == uploads(path)


def test_a_changed_rate_fails_the_item(tmp_path: Path) -> None:
    mseed(tmp_path / "a.mseed", (START, noise(60)))
    mseed(tmp_path / "a.mseed", (START + 60, noise(60)), rate_hz=4000)

    with pytest.raises(ItemError, match="changes its sample rate"):
        uploads(tmp_path / "a.mseed")


@pytest.mark.parametrize("params", [{}, {"calibration": CALIBRATION}], ids=["counts", "calibrated"])
@pytest.mark.parametrize("rate_hz", [4, 0.1])
def test_a_rate_too_low_for_bands_fails_the_item(
    tmp_path: Path, rate_hz: float, params: dict[str, Any]
) -> None:
    path = mseed(tmp_path / "a.mseed", (START, noise(60)), rate_hz=rate_hz)

    with pytest.raises(ItemError, match="too low"):
        uploads(path, **params)


def test_the_file_follows_the_conventions(tmp_path: Path) -> None:
    (upload,) = uploads(mseed(tmp_path / "a.mseed", (START, noise(60))))
    assert isinstance(upload.body, bytes)
    (tmp_path / "a.nc").write_bytes(upload.body)

    with h5netcdf.File(tmp_path / "a.nc", "r") as file:
        assert file.attrs["Conventions"] == "CF-1.11"
        assert file.variables["psd"].dimensions == ("time", "frequency")
        assert file.variables["time"].attrs["units"] == "seconds since 1970-01-01 00:00:00"
        assert file.variables["frequency"].attrs["standard_name"] == "sound_frequency"
        bounds = file.variables[file.variables["frequency"].attrs["bounds"]][:]
        assert bounds[:2].tolist() == [[-0.5, 0.5], [0.5, 1.5]]
        assert np.isnan(file.variables["psd"].attrs["_FillValue"])


@pytest.mark.parametrize("key", ["{path}", "{parent}{stem}.mseed"])
def test_keys_of_another_type_are_refused(tmp_path: Path, key: str) -> None:
    context = JobContext("j", "n", "2026-01-31", None, tmp_path, {"destination": {"key": key}})

    with pytest.raises(ConfigError, match=r"not be named \.nc"):
        Soundscape(SoundscapeParams(), context).check()
    soundscape(tmp_path).check()
