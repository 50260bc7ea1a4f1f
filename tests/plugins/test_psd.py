from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from ingest.errors import SourceUnreadable
from ingest.plugins.psd import WINDOWS, Extremes, Spectra, WindowName, to_db, window_samples
from tests.plugins.hydrophone import RATE_HZ, noise, tone


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("samples", "fft_size"), [(256, 256), (250, 375), (100, 256)])
def test_density_is_scipys(window: WindowName, samples: int, fft_size: int) -> None:
    sound = noise(0.5)
    spectra = Spectra(RATE_HZ, window, samples, fft_size)
    starts = range(0, len(sound) - samples + 1, samples // 2)
    hz, expected = signal.welch(
        sound, RATE_HZ, window, samples, samples - samples // 2, fft_size, detrend=False, average="mean"
    )
    assert spectra.density(sound, starts).mean(axis=0) == pytest.approx(expected, rel=1e-4)
    assert spectra.frequencies_hz == pytest.approx(hz)


@pytest.mark.parametrize(("swell", "offset"), [(2_000_000, 0), (0, -8_000_000)])
def test_a_quiet_sound_keeps_its_level_under_a_swell_or_an_offset(swell: int, offset: int) -> None:
    """Rounded to 32 bits, single bins of the quiet sound were 24 dB too loud, and all of them 1.9 dB."""
    random = np.random.default_rng(3)
    time_s = np.arange(4 * RATE_HZ) / RATE_HZ
    loud = swell * np.sin(2 * np.pi * 0.15 * time_s) + offset
    sound = np.rint(loud + random.normal(0, 1, len(time_s))).astype(np.int32)
    window = RATE_HZ
    _, expected = signal.welch(sound.astype(float), RATE_HZ, "hann", window, window // 2, detrend=False)
    made = Spectra(RATE_HZ, "hann", window, window).density(sound, range(0, 3 * window + 1, window // 2))
    difference_db = to_db(made.mean(axis=0) / expected)
    assert np.abs(difference_db).max() < 0.01


def test_bins_and_extremes_are_those_of_the_whole() -> None:
    sound = noise(0.5)
    spectra = Spectra(RATE_HZ, "hann", 1024, 1024)
    starts = range(0, 30_000, 300)
    extremes = Extremes()
    whole = spectra.density(sound, starts)
    assert (spectra.density(sound, starts, slice(3, 100), extremes) == whole[:, 3:100]).all()
    assert (spectra.density(sound, starts, slice(3, 100)) == whole[:, 3:100]).all()
    assert (extremes.least, extremes.greatest) == (whole[:, 1:].min(), whole[:, 1:].max())


def test_a_tones_bins_sum_to_its_mean_square() -> None:
    spectra = Spectra(RATE_HZ, "hann", 4096, 4096)
    density = spectra.density(tone(1, 1234.5, 10_000), range(0, 59_000, 1000))
    assert to_db(density.sum(axis=1) * spectra.bin_hz) == pytest.approx(80.0, abs=0.02)


def test_a_gain_raises_each_bin() -> None:
    gain_db = np.linspace(-40, 40, 513)
    plain, raised = (Spectra(RATE_HZ, "hann", 1024, 1024, gain) for gain in (0.0, gain_db))
    sound = noise(0.1)
    difference = to_db(raised.density(sound, range(0, 501, 500))) - to_db(
        plain.density(sound, range(0, 501, 500))
    )
    assert difference == pytest.approx(np.broadcast_to(gain_db, (2, 513)), abs=1e-3)


def test_windows_lengths() -> None:
    assert window_samples(0.056, 64_000, power_of_two=True) == 4096
    assert window_samples(0.056, 128_000, power_of_two=True) == 8192
    assert window_samples(0.056, 64_000, power_of_two=False) == 3584
    assert window_samples(0.047, 64_000, power_of_two=True) == 2048
    with pytest.raises(SourceUnreadable, match=r"a window of 0.056 s has 4 samples at 100 Hz"):
        window_samples(0.056, 100, power_of_two=True)
