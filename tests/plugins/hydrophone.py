"""Synthetic hydrophone recordings as MiniSEED files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime

RATE_HZ = 64_000
CHANNEL = "OO.HYEA2..YDH"
Samples = NDArray[np.int32]


def noise(seconds: float, rate_hz: float = RATE_HZ, seed: int = 1, rms: float = 3000) -> Samples:
    """Sound as of the sea: louder at low frequencies."""
    random = np.random.default_rng(seed)
    count = round(seconds * rate_hz)
    spectrum = np.fft.rfft(random.normal(0, 1, count))
    spectrum /= np.maximum(np.fft.rfftfreq(count, 1 / rate_hz), 20) ** 0.8
    sound = np.fft.irfft(spectrum, count)
    made: Samples = np.rint(sound * (rms / sound.std())).astype(np.int32)
    return made


def sea(seconds: float, rate_hz: float = RATE_HZ, seed: int = 1) -> Samples:
    """Coloured noise with whale-like sweeps and clicks in it."""
    random = np.random.default_rng(seed + 1000)
    sound = noise(seconds, rate_hz, seed).astype(np.float64)
    time_s = np.arange(len(sound)) / rate_hz
    sweep = 300 * time_s + 150 * np.sin(2 * np.pi * 0.3 * time_s)
    sound += 4000 * np.sin(2 * np.pi * sweep) * (time_s % 3 < 1.5)
    click = np.exp(-np.arange(200) / 40)
    for at in random.uniform(0, seconds - 0.1, round(3 * seconds)):
        begin = int(at * rate_hz)
        sound[begin : begin + 200] += 20_000 * random.normal(0, 1, 200) * click
    return np.rint(sound).astype(np.int32)


def tone(seconds: float, hz: float, rms: float, rate_hz: float = RATE_HZ) -> Samples:
    """A sine of this root mean square."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    made: Samples = np.rint(np.sqrt(2) * rms * np.sin(2 * np.pi * hz * time_s)).astype(np.int32)
    return made


def trace(samples: NDArray[Any], start: str, rate_hz: float = RATE_HZ, channel_id: str = CHANNEL) -> Any:
    """Samples of a channel from a time on."""
    net, sta, loc, cha = channel_id.split(".")
    codes = {"network": net, "station": sta, "location": loc, "channel": cha}
    return Trace(samples, {"sampling_rate": rate_hz, "starttime": UTCDateTime(start), **codes})


def write(path: Path, *traces: Any, encoding: str = "STEIM2", reclen: int = 4096) -> Path:
    """Write traces to a MiniSEED file, big-endian as OOI does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Stream(list(traces)).write(str(path), format="MSEED", encoding=encoding, reclen=reclen, byteorder=">")
    return path
