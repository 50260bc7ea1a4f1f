from __future__ import annotations

import importlib
import io
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from obspy import UTCDateTime
from PIL import Image
from pydantic import ValidationError

from ingest.config import FilesJob, KeyTemplate, Settings, parse_config
from ingest.errors import ConfigError, ItemError, SourceUnreadable
from ingest.items import FileItem
from ingest.plugin_loader import resolve_processors
from ingest.plugins.spectrogram import Spectrogram
from ingest.plugins.spectrogram_params import SpectrogramParams
from ingest.processors import Source, Upload
from ingest.workers.batch import do_batch
from tests.plugins.hydrophone import CHANNEL, RATE_HZ, noise, sea, tone, trace, write
from tests.plugins.making import context, tiles_job
from tests.workers.making import bench

START = "2019-01-12T15:10:00"
PASCAL = {"sensitivity_db": -169, "volts_per_count": 3.6e-7}
Opener = Callable[[], AbstractContextManager[Path]]


def opener(path: Path | None) -> Opener | None:
    return (lambda: nullcontext(path)) if path else None


def uploads(
    path: Path,
    *,
    previous: Opener | Path | None = None,
    following: Opener | Path | None = None,
    **params: Any,
) -> list[Upload]:
    processor = Spectrogram(SpectrogramParams(**params), context(path.parent))
    processor.check()
    before, after = (opener(one) if isinstance(one, Path) else one for one in (previous, following))
    made = list(processor.uploads(Source(FileItem(path.name), path, previous=before, following=after)))
    processor.close()
    return made


def pictures(made: list[Upload]) -> list[Upload]:
    return [upload for upload in made if upload.metadata["kind"] == "picture"]


def clips(made: list[Upload]) -> list[Upload]:
    return [upload for upload in made if upload.metadata["kind"] == "clip"]


def starts(made: list[Upload]) -> list[str]:
    return [upload.metadata["start"][11:19] for upload in pictures(made)]


def opened(upload: Upload) -> Image.Image:
    assert isinstance(upload.body, bytes)
    return Image.open(io.BytesIO(upload.body))


def indices(upload: Upload) -> NDArray[np.uint8]:
    return np.asarray(opened(upload))


def sound_of(upload: Upload) -> NDArray[Any]:
    assert isinstance(upload.body, bytes)
    return np.asarray(soundfile.read(io.BytesIO(upload.body), dtype="int32")[0])


def _counts(level_db: float) -> float:
    """The root mean square in counts of a sound of this level in dB re 1 uPa, by PASCAL."""
    return float(10 ** ((level_db - 169 - 20 * np.log10(3.6e-7)) / 20))


def _levels_of(upload: Upload) -> tuple[NDArray[np.float64], float]:
    """What a picture's pixels stand for in dB, as its metadata says, and how much an index more is."""
    low_db, high_db = (float(upload.metadata[name]) for name in ("level_min_db", "level_max_db"))
    step_db = (high_db - low_db) / 254
    return np.asarray(low_db + indices(upload) * step_db, np.float64), step_db


class TestGrid:
    def test_cells_are_multiples_of_their_length(self, tmp_path: Path) -> None:
        made = uploads(write(tmp_path / "a.mseed", trace(noise(7), "2019-01-12T15:10:03.5")), segment_s=2)
        assert starts(made) == ["15:10:02", "15:10:04", "15:10:06", "15:10:08", "15:10:10"]
        gaps = [float(upload.metadata["gap_fraction"]) for upload in pictures(made)]
        assert gaps == pytest.approx([0.75, 0, 0, 0, 0.75], abs=1e-4)

    def test_a_clip_has_its_own_samples_alone(self, tmp_path: Path) -> None:
        sound = noise(6)
        path = write(tmp_path / "a.mseed", trace(sound, START))
        made = clips(uploads(path, segment_s=2, clip_bits=32, clip_scale="counts"))
        assert (np.concatenate([sound_of(upload) for upload in made]) == sound).all()

    def test_cells_with_nothing_are_counted_and_never_visited(self, tmp_path: Path) -> None:
        """A clock that jumps eleven years leaves a gap of 173 million cells."""
        path = write(tmp_path / "a.mseed", trace(noise(2), "2008-01-01"), trace(noise(2), "2019-01-12"))
        made = uploads(path, segment_s=2)
        assert [upload.metadata["start"][:10] for upload in pictures(made)] == ["2008-01-01", "2019-01-12"]
        cells = (UTCDateTime("2019-01-12") - UTCDateTime("2008-01-01")) / 2
        assert made[0].metadata["segments_empty"] == f"{cells - 1:.0f}"

    def test_each_channel_by_itself(self, tmp_path: Path) -> None:
        other = "OO.HYEA2..YDX"
        path = write(
            tmp_path / "a.mseed", trace(noise(2), START), trace(noise(2, 128_000), START, 128_000, other)
        )
        made = pictures(uploads(path, segment_s=2))
        assert [(one.metadata["channel_id"], one.metadata["sample_rate_hz"]) for one in made] == [
            (CHANNEL, "64000"),
            (other, "128000"),
        ]


class TestNeighbours:
    @pytest.fixture
    def three(self, tmp_path: Path) -> list[Path]:
        """Three files that follow one another, parted within cells of 2 s."""
        sound = noise(15)
        bounds = [0, 5, 9, 15]
        return [
            write(
                tmp_path / f"{number}.mseed",
                trace(sound[a * RATE_HZ : b * RATE_HZ], str(UTCDateTime("2019-01-12T15:10:00") + a)),
            )
            for number, (a, b) in enumerate(pairwise(bounds))
        ]

    def test_every_cell_comes_once_and_whole(self, three: list[Path], tmp_path: Path) -> None:
        made: list[Upload] = []
        for number, path in enumerate(three):
            previous = three[number - 1] if number else None
            following = three[number + 1] if number < 2 else None
            made += uploads(path, previous=previous, following=following, segment_s=2)
        whole = uploads(write(tmp_path / "all.mseed", trace(noise(15), START)), segment_s=2)
        assert [(one.body, one.fields, one.metadata) for one in made] == [
            (one.body, one.fields, one.metadata) for one in whole
        ]

    def test_without_them_what_is_missing_is_said(self, three: list[Path]) -> None:
        first, *_, last = pictures(uploads(three[1], segment_s=2))
        assert first.metadata["partial"] == "its file begins within it, and none comes before"
        assert last.metadata["partial"] == "its file ends within it, and none follows"
        assert float(last.metadata["gap_fraction"]) == pytest.approx(0.5)

    def test_neighbours_that_cannot_be_read_make_it_partial(self, three: list[Path], tmp_path: Path) -> None:
        def away() -> AbstractContextManager[Path]:
            raise SourceUnreadable("the server has a cold")

        broken = tmp_path / "broken.mseed"
        broken.write_bytes(three[2].read_bytes()[:-7])
        first, *_, last = pictures(uploads(three[1], previous=away, following=broken, segment_s=2))
        assert first.metadata["partial"].endswith("the one before cannot be read: the server has a cold")
        assert "follows cannot be read: it is truncated" in last.metadata["partial"]

    def test_a_real_gap_between_files_is_not_partial(self, three: list[Path]) -> None:
        *_, last = pictures(uploads(three[0], following=three[2], segment_s=2))
        assert "partial" not in last.metadata
        assert float(last.metadata["gap_fraction"]) == pytest.approx(0.5)

    def test_a_file_within_one_cell_of_another_has_nothing_of_its_own(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.mseed", trace(noise(3), START))
        second = write(tmp_path / "b.mseed", trace(noise(1), "2019-01-12T15:10:03"))
        assert uploads(second, previous=first) == []
        assert starts(uploads(first, following=second)) == ["15:10:00"]


class TestGaps:
    def test_a_gap_is_seen_through_and_silent(self, tmp_path: Path) -> None:
        sound = noise(4)
        later = trace(sound[3 * RATE_HZ :], "2019-01-12T15:10:03")
        path = write(tmp_path / "a.mseed", trace(sound[: 2 * RATE_HZ], START), later)
        made = uploads(path, segment_s=4, clip_bits=32, clip_scale="counts")
        image = opened(made[0]).convert("RGBA")
        alpha = np.asarray(image)[:, :, 3]
        assert (
            (alpha[:, :256] == 255).all() and (alpha[:, 256:384] == 0).all() and (alpha[:, 384:] == 255).all()
        )
        clip = sound_of(made[1])
        assert (clip[: 2 * RATE_HZ] == sound[: 2 * RATE_HZ]).all()
        assert not clip[2 * RATE_HZ : 3 * RATE_HZ].any()
        assert made[0].metadata["gap_fraction"] == "0.25"

    def test_one_missing_sample_shows(self, tmp_path: Path) -> None:
        sound = noise(2)
        later = trace(sound[50_001:], str(UTCDateTime(START) + 50_001 / RATE_HZ))
        path = write(tmp_path / "a.mseed", trace(sound[:50_000], START), later)
        seen_through = (indices(uploads(path, segment_s=2)[0]) == 255).all(axis=0)
        assert np.flatnonzero(seen_through).tolist() == [50_000 * 512 // 128_000]

    def test_what_comes_twice_is_taken_once(self, tmp_path: Path) -> None:
        sound = noise(4)
        path = write(
            tmp_path / "a.mseed",
            trace(sound[: 2 * RATE_HZ], START),
            trace(sound[RATE_HZ:], "2019-01-12T15:10:01"),
        )
        made = uploads(path, segment_s=4, clip_bits=32, clip_scale="counts")
        assert (sound_of(made[1]) == sound).all()
        assert (made[0].metadata["gap_fraction"], made[0].metadata["overlap_samples"]) == ("0", str(RATE_HZ))

    def test_silence_in_digits_is_drawn(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mseed", trace(noise(2) * 0, START), encoding="INT32")
        for limits in ("fixed", "per_segment"):
            assert indices(uploads(path, segment_s=2, limits=limits)[0]).max() < 255


class TestPicture:
    def test_whaledrs_preset_agrees_with_its_method(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Grey levels of the image's pixels, without the edges that theirs leaves white: half a window."""
        monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        method = importlib.import_module("spectrogram")
        segment_s = 2
        sound = sea(segment_s, seed=3)
        method.their_picture(sound, tmp_path / "theirs.png")
        path = write(tmp_path / "a.mseed", trace(sound, START))
        ours = uploads(path, preset="whaledr", segment_s=segment_s, clip="none")[0]
        edge = -(-4096 * 512 // (2 * segment_s * RATE_HZ)) + 1
        ours_grey, theirs_grey = (
            np.asarray(image.convert("L"), np.float64)[:, edge:-edge].ravel()
            for image in (opened(ours), Image.open(tmp_path / "theirs.png"))
        )
        assert np.corrcoef(ours_grey, theirs_grey)[0, 1] >= 0.99

    @pytest.mark.parametrize("average", ["power", "level"])
    @pytest.mark.parametrize("freq_scale", ["linear", "log"])
    def test_a_calibrated_tone_reads_its_level(self, tmp_path: Path, average: str, freq_scale: str) -> None:
        """120 dB re 1 uPa at 2 kHz: as the rows' densities times their widths, and in the metadata."""
        level_db = 120.0
        rms = 10 ** ((level_db - 169 - 20 * np.log10(3.6e-7)) / 20)
        path = write(tmp_path / "a.mseed", trace(tone(2, 2000, rms), START))
        limits: dict[str, Any] = {"level_min_db": 80, "level_max_db": 112}
        axis: dict[str, Any] = {"freq_scale": freq_scale, "freq_min_hz": 1000, "freq_max_hz": 4000}
        upload = uploads(path, segment_s=2, calibration=PASCAL, average=average, **limits, **axis)[0]
        assert upload.metadata["units"] == "dB re 1 uPa^2/Hz"
        assert float(upload.metadata["band_level_db"]) == pytest.approx(level_db, abs=0.1)
        space = np.geomspace if freq_scale == "log" else np.linspace
        widths = np.diff(space(1000, 4000, 513))[::-1]
        pixels = indices(upload).astype(np.float64)
        density = np.where(pixels > 0, 10 ** ((80 + pixels / 254 * 32) / 10), 0)
        measured = 10 * np.log10((density[:, 20:-20] * widths[:, None]).sum(axis=0).mean())
        tolerance = 0.1 if average == "power" else 0.6  # dB averaged over bins are not the dB of their power
        assert measured == pytest.approx(level_db, abs=tolerance)

    @pytest.mark.parametrize("level_db", [100, 105.05, 117.3, 120])
    @pytest.mark.parametrize("hz", [2000, 2017.3, 5031.25])
    def test_with_defaults_a_tones_level_is_in_its_pixels(
        self, tmp_path: Path, level_db: float, hz: float
    ) -> None:
        """Over columns within 0.1 dB, though a step is 0.31; in each column within a step."""
        path = write(tmp_path / "a.mseed", trace(tone(2, hz, _counts(level_db)), START))
        upload = uploads(path, segment_s=2, calibration=PASCAL, clip="none")[0]
        levels, step_db = _levels_of(upload)
        row = 511 - int(hz / 62.5)
        powers = 62.5 * 10 ** (levels[row - 2 : row + 3, 20:-20] / 10)
        assert step_db == pytest.approx(80 / 254)
        assert 10 * np.log10(powers.mean(axis=1).sum()) == pytest.approx(level_db, abs=0.1)
        assert 10 * np.log10(powers.sum(axis=0)) == pytest.approx(level_db, abs=step_db + 0.01)

    @pytest.mark.parametrize("level_db", [112, 115, 121.3])
    def test_with_whaledrs_preset_a_tones_level_is_in_its_pixels(
        self, tmp_path: Path, level_db: float
    ) -> None:
        """A row is as high as a bin, lies half in each of two, and shows the mean of their dB.

        A tone on a bin has 1 / (1.5 * 15.625 Hz) of its power in it, by Hann's noise bandwidth, and 6.02 dB less in
        each bin beside it. A louder tone, which the limits cut off, keeps this one within them.
        """
        sound = tone(2, 2000, _counts(level_db)) + tone(2, 5000, _counts(135)) + noise(2, rms=100)
        path = write(tmp_path / "a.mseed", trace(sound, START))
        upload = uploads(path, preset="whaledr", segment_s=2, calibration=PASCAL, clip="none")[0]
        levels, step_db = _levels_of(upload)
        below_db = 10 * np.log10(1.5 * 15.625) + 20 * np.log10(2) / 2
        for row in (511 - 127, 511 - 128):
            tone_db = levels[row, 20:-20] + below_db
            assert tone_db.mean() == pytest.approx(level_db, abs=0.1)
            assert tone_db == pytest.approx(level_db, abs=step_db + 0.1)
        assert (indices(upload)[511 - 320, 20:-20] == 254).all()
        assert float(upload.metadata["band_level_db"]) == pytest.approx(135, abs=0.25), "both tones"

    def test_without_calibration_levels_are_of_counts(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mseed", trace(tone(2, 2000, 1000), START))
        metadata = uploads(path, segment_s=2)[0].metadata
        assert (metadata["units"], metadata["level_min_db"], metadata["level_max_db"]) == (
            "counts",
            "-10.00",
            "70.00",
        )
        assert float(metadata["band_level_db"]) == pytest.approx(60, abs=0.1)

    @pytest.mark.parametrize(("freq_scale", "expected"), [("linear", 0.25), ("log", 0.75)])
    def test_a_tone_lies_in_its_row(self, tmp_path: Path, freq_scale: str, expected: float) -> None:
        path = write(tmp_path / "a.mseed", trace(tone(2, 1000 * 2 ** (3 * expected), 1000), START))
        axis: dict[str, Any] = {"freq_scale": freq_scale, "freq_min_hz": 1000, "freq_max_hz": 8000}
        hz = 1000 * 2 ** (3 * expected)
        place = expected if freq_scale == "log" else (hz - 1000) / 7000
        pixels = indices(uploads(path, segment_s=2, **axis)[0]).astype(int)
        assert abs(int(pixels.sum(axis=1).argmax()) - (1 - place) * 512) < 3

    def test_frequencies_above_half_the_rate_are_seen_through(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mseed", trace(noise(2, 8000), START, 8000))
        pixels = indices(uploads(path, preset="whaledr", segment_s=2)[0])
        assert (pixels[:255] == 255).all() and (pixels[258:] < 255).all()

    @pytest.mark.parametrize("style", ["image", "figure"])
    def test_the_same_bytes_each_time(self, tmp_path: Path, style: str) -> None:
        path = write(tmp_path / "a.mseed", trace(sea(4), START))
        first, second = (uploads(path, segment_s=2, style=style, clip="flac") for _ in range(2))
        assert [one.body for one in first] == [one.body for one in second]
        assert {opened(one).mode for one in pictures(first)} == {"P"}

    def test_a_figure_shows_the_same_picture_within_axes(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mseed", trace(sea(2), START))
        bare, figure = (
            np.asarray(opened(uploads(path, segment_s=2, style=style)[0]).convert("L"), np.float64)
            for style in ("image", "figure")
        )
        assert bare.shape == (512, 512)
        assert figure.shape[0] > 560 and figure.shape[1] > 600
        assert np.corrcoef(figure[34:546, 72:584].ravel(), bare.ravel())[0, 1] > 0.999


class TestBounds:
    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        """40 s of 256 kHz are 41 MB of samples; a segment and what is made of it is all that is held."""
        path = write(tmp_path / "a.mseed", trace(noise(40, 256_000), START, 256_000))
        processor = Spectrogram(SpectrogramParams(preset="whaledr", segment_s=2), context(tmp_path))
        tracemalloc.start()
        count = sum(1 for _ in processor.uploads(Source(FileItem(path.name), path)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 40
        assert peak_bytes < 20 << 20

    @pytest.mark.parametrize(
        ("params", "says"),
        [
            ({"segment_s": 0.5, "window_s": 1}, "longer than segment_s"),
            ({"segment_s": 1.0005}, "whole number of milliseconds"),
            ({"freq_scale": "log"}, "no 0 Hz"),
            ({"freq_min_hz": 10, "freq_max_hz": 5}, "not above freq_min_hz"),
            ({"level_min_db": 90}, "not above level_min_db"),
            ({"style": "figure", "width_px": 64}, "100 x 100 pixels"),
            ({"clip": "flac", "clip_bits": 32}, "FLAC holds 16 or 24"),
            ({"clip": "none", "style": "none"}, "nothing would be stored"),
            ({"clip_scale": -1}, "no factor"),
            ({"folder": "../up"}, "folder"),
        ],
    )
    def test_parameters_that_make_no_sense(self, params: dict[str, Any], says: str) -> None:
        with pytest.raises(ValidationError, match=says):
            SpectrogramParams(**params)

    def test_a_preset_gives_way_and_survives_being_written_out(self) -> None:
        params = SpectrogramParams(preset="whaledr", colour_map="viridis")
        assert (params.freq_max_hz, params.range_to, params.colour_map) == (8000, 0.95, "viridis")
        assert SpectrogramParams(**params.model_dump(mode="json")) == params

    def test_jobs_over_tiles_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="files"):
            Spectrogram(SpectrogramParams(), context(tmp_path, tiles_job())).check()


class TestJob:
    PARAMS: dict[str, Any] = {"segment_s": 600, "window_s": 8, "clip": "wav", "clip_rate_hz": 100}  # noqa: RUF012

    def test_keys_are_whaledrs(self, tmp_path: Path) -> None:
        (tmp_path / "source").mkdir()
        write(tmp_path / "source" / "a.mseed", trace(noise(4), "2019-01-12T15:10:02.5"))
        tile = {
            "class": "spectrogram",
            "params": {"segment_s": 2.5, "folder": "megaptera", "instrument": "LJ01C"},
        }
        config = parse_config(
            {
                "name": "whales",
                "ingest_job": {"type": "files"},
                "path_processor": {"class": "folder", "params": {"root_dir": str(tmp_path / "source")}},
                "tile_processor": tile,
                "destination": {"url": str(tmp_path / "stored")},
            }
        )
        assert isinstance(config.ingest_job, FilesJob)
        template = resolve_processors(config, Settings(), None).key_template
        assert template == KeyTemplate(Spectrogram.default_key or "")
        with bench(tmp_path, key=str(template), tile_processor=tile) as made:
            result = do_batch(made.batch(), made.kit)
            assert not result.failures
            stem = "megaptera/LJ01C/2019_01_12/OO_HYEA2__YDH_2019_01_12T15_10_0"
            names = {f"{stem}{rest}{suffix}" for rest in ("2_500", "5_000") for suffix in (".png", ".wav")}
            assert set(made.objects()) == names

    def test_bad_files_fail_and_the_others_go_on(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        good = write(source / "good.mseed", trace(noise(4), START))
        (source / "page.mseed").write_text("<html>503 Service Unavailable</html>")
        (source / "empty.mseed").write_bytes(b"")
        (source / "short.mseed").write_bytes(good.read_bytes()[:-100])
        template = "{path}/" + (Spectrogram.default_key or "")
        with bench(tmp_path, key=template, tile_processor={"class": "spectrogram"}) as made:
            batch = made.batch()
            result = do_batch(batch, made.kit)
            failed = {failure.item.name for failure in result.failures.values()}
            assert failed == {"page.mseed", "empty.mseed", "short.mseed"}
            assert len([key for key in made.objects() if key.startswith("good")]) == 2


def test_a_rate_of_less_than_a_sample_a_segment(tmp_path: Path) -> None:
    """A small file may be of years; its empty cells are not gone through."""
    path = write(tmp_path / "a.mseed", trace(noise(500, 100), "1990-01-01", 0.0001))
    with pytest.raises(ItemError, match=r"a segment of 5 s holds no sample at 0.0001 Hz"):
        uploads(path)


def test_errors_are_the_items(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mseed", trace(noise(1, 100), START, 100))
    with pytest.raises(ItemError, match="4 samples at 100 Hz"):
        uploads(path)
