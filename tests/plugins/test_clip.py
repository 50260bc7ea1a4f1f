from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ingest.errors import SourceUnreadable
from ingest.plugins.clip import Bits, ClipFormat, ClipMaker
from tests.plugins.hydrophone import tone

Samples = NDArray[Any]


def read(body: bytes, bits: int) -> tuple[Samples, int, str]:
    samples, rate_hz = soundfile.read(io.BytesIO(body), dtype="int32")
    return samples >> (32 - bits), rate_hz, soundfile.info(io.BytesIO(body)).subtype


def extremes(bits: int) -> Samples:
    """Random numbers over all that so many bits can hold, both ends among them."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    random = np.random.default_rng(bits)
    return np.concatenate(([low, high, 0, 1, -1], random.integers(low, high, 5000))).astype(np.int32)


@pytest.mark.parametrize(
    ("format_", "bits"), [("wav", 16), ("wav", 24), ("wav", 32), ("flac", 16), ("flac", 24)]
)
def test_counts_come_back_to_the_last_bit(format_: ClipFormat, bits: Bits) -> None:
    samples = extremes(bits)
    body, how = ClipMaker(format_, bits, "counts").make([(0, samples)], len(samples), 64_000.0)
    back, rate_hz, subtype = read(body, bits)
    assert (back == samples).all()
    assert (rate_hz, subtype) == (64_000, f"PCM_{bits}")
    assert how == {"clip_scale": "counts", "clip_factor": "1"}


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("samples", [5, 6])
def test_a_wav_files_chunks_are_of_even_length(bits: Bits, samples: int) -> None:
    """As RIFF demands: an odd one is filled up with a byte that its own length does not count."""
    body, _ = ClipMaker("wav", bits, "counts").make(
        [(0, np.arange(samples, dtype=np.int32))], samples, 64_000.0
    )
    place, lengths = 12, {}
    while place < len(body):
        lengths[body[place : place + 4]] = length = int.from_bytes(body[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    assert place == len(body) == 8 + int.from_bytes(body[4:8], "little")
    assert lengths[b"data"] == samples * bits // 8


@pytest.mark.parametrize(("format_", "bits"), [("wav", 16), ("flac", 24), ("wav", 24)])
@pytest.mark.parametrize("number", [1, -1])
def test_counts_that_do_not_fit_are_refused(format_: ClipFormat, bits: Bits, number: int) -> None:
    largest = (1 << bits - 1) - 1 if number == 1 else -(1 << bits - 1)
    samples = np.array([0, largest + number], np.int32)
    with pytest.raises(SourceUnreadable, match=f"{bits} bits hold"):
        ClipMaker(format_, bits, "counts").make([(0, samples)], 2, 64_000.0)


def test_a_gap_is_silence() -> None:
    pieces = [(10, np.arange(1, 11, dtype=np.int32)), (30, np.arange(5, 10, dtype=np.int32))]
    back, _, _ = read(ClipMaker("wav", 16, "counts").make(pieces, 40, 64_000.0)[0], 16)
    assert back.tolist() == [0] * 10 + list(range(1, 11)) + [0] * 10 + list(range(5, 10)) + [0] * 5


def test_a_factor_and_normalising() -> None:
    samples = np.array([100, -400, 200], np.int32)
    body, how = ClipMaker("wav", 16, 2.5).make([(0, samples)], 3, 64_000.0)
    assert (read(body, 16)[0].tolist(), how["clip_factor"]) == ([250, -1000, 500], "2.5")
    body, how = ClipMaker("wav", 16, "normalised").make([(0, samples)], 3, 64_000.0)
    assert (read(body, 16)[0].tolist(), how) == (
        [8192, -32767, 16384],
        {"clip_scale": "normalised", "clip_factor": "81.9175"},
    )
    silence, how = ClipMaker("wav", 16, "normalised").make([(0, samples * 0)], 3, 64_000.0)
    assert (read(silence, 16)[0].tolist(), how["clip_factor"]) == ([0, 0, 0], "1")


def test_resampling_keeps_the_tone_and_the_gap() -> None:
    sound = tone(0.5, 1000, 5000)
    maker = ClipMaker("wav", 24, "counts", rate_hz=16_000)
    body, how = maker.make([(0, sound), (48_000, sound[:16_000])], 64_000, 64_000.0)
    back, rate_hz, _ = read(body, 24)
    assert (len(back), rate_hz, how["clip_scale"]) == (
        16_000,
        16_000,
        "resampled from 64000 Hz; counts",
    )
    assert not back[8000:12_000].any()
    expected = tone(0.5, 1000, 5000, 16_000)
    assert np.abs(back[100:7900] - expected[100:7900]).max() < 30
    with pytest.raises(SourceUnreadable, match="whole number of Hz"):
        ClipMaker("wav", 16, "counts").make([(0, sound)], len(sound), 62.5)


@pytest.mark.parametrize("rate_hz", [65_535, 65_540, 96_000, 655_350])
def test_flac_of_high_rates(rate_hz: int) -> None:
    samples = extremes(16)
    back, read_hz, _ = read(
        ClipMaker("flac", 16, "counts").make([(0, samples)], len(samples), rate_hz)[0], 16
    )
    assert (read_hz, back.tolist()) == (rate_hz, samples.tolist())


@pytest.mark.parametrize("rate_hz", [65_537, 96_006.3, 700_000])
def test_a_rate_that_flac_cannot_hold_is_named(rate_hz: float) -> None:
    with pytest.raises(SourceUnreadable, match=f"FLAC holds .* not {rate_hz:.0f}"):
        ClipMaker("flac", 16, "counts").make([(0, extremes(16))], 5005, rate_hz)
