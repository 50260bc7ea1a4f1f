"""Power spectral density of sound: windows, FFTs, and their scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.signal import get_window

from ingest.errors import SourceUnreadable

WindowName = Literal["hann", "hamming", "blackman", "blackmanharris", "boxcar"]
WINDOWS: tuple[WindowName, ...] = get_args(WindowName)
LEAST_WINDOW_SAMPLES = 8
_BLOCK_SAMPLES = 1 << 18  # few enough for the cache, and enough to be worth a call
_MOST_SINGLE = 1 << 17  # beside greater numbers, rounding to 32 bits would be heard in a sound of one count

Floats = NDArray[np.float32]
Weights = NDArray[np.float64]
Samples = NDArray[Any]


def window_samples(window_s: float, sample_rate_hz: float, *, power_of_two: bool) -> int:
    """The length of a window in samples; ``power_of_two`` takes the nearest one.

    Raises:
        SourceUnreadable: at this rate it has too few samples for a spectrum.
    """
    exact = window_s * sample_rate_hz
    samples = round(exact)
    if power_of_two and exact >= 1:
        below = 1 << math.floor(math.log2(exact))
        samples = below if exact - below <= 2 * below - exact else 2 * below
    if samples < LEAST_WINDOW_SAMPLES:
        raise SourceUnreadable(
            f"a window of {window_s:g} s has {samples} samples at {sample_rate_hz:g} Hz; "
            f"{LEAST_WINDOW_SAMPLES} are the least",
            hint="set tile_processor.params.window_s (and segment_s) for this sample rate",
        )
    return samples


@dataclass(slots=True)
class Extremes:
    """The least and the greatest density of all bins above 0 Hz that were computed, as linear power."""

    least: float = math.inf
    greatest: float = 0.0

    def see(self, density: Floats) -> None:
        """Take these (frames, bins) into account."""
        above = density[:, 1:]  # row by row, as numpy takes longer for a whole table that is not in one piece
        self.least = min(self.least, float(above.min(axis=1).min()))
        self.greatest = max(self.greatest, float(above.max(axis=1).max()))


@dataclass(frozen=True)
class Spectra:
    """One-sided power spectral density of windowed frames, in squared units of the samples per Hz.

    The scaling is that of ``scipy.signal.welch`` and ``scipy.signal.spectrogram`` with ``scaling="density"``
    and ``detrend=False``: ``|X|**2 / (rate * sum(window**2))``, doubled but for 0 Hz and the Nyquist
    frequency (https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.welch.html). Summed over bins
    and multiplied with ``bin_hz`` it is the mean square of the frame.

    Attributes:
        sample_rate_hz: samples in a second.
        window: the window's type.
        samples: its length.
        fft_size: the FFT's length, at least ``samples``; what is more is filled with zeros.
        gain_db: added to the levels of each bin, such as a calibration; one number, or one a bin.
    """

    sample_rate_hz: float
    window: WindowName
    samples: int
    fft_size: int
    gain_db: float | NDArray[np.float64] = 0.0
    _weights: Weights = field(init=False, repr=False)
    _single_weights: Floats = field(init=False, repr=False)
    _scale: Floats = field(init=False, repr=False)
    _is_flat: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = get_window(self.window, self.samples)
        scale = np.full(self.fft_size // 2 + 1, 2 / (self.sample_rate_hz * np.sum(weights**2)))
        scale[0] /= 2
        if self.fft_size % 2 == 0:
            scale[-1] /= 2
        scale *= 10 ** (np.asarray(self.gain_db) / 10)
        if np.ndim(self.gain_db) == 0:  # one number for all bins but the outermost is in the window already
            common = scale[1]
            weights, scale = weights * np.sqrt(common), scale / common
        object.__setattr__(self, "_is_flat", np.ndim(self.gain_db) == 0)
        object.__setattr__(self, "_weights", weights)
        object.__setattr__(self, "_single_weights", weights.astype(np.float32))
        object.__setattr__(self, "_scale", scale.astype(np.float32))

    @property
    def bin_hz(self) -> float:
        """The distance of two bins."""
        return self.sample_rate_hz / self.fft_size

    @property
    def frequencies_hz(self) -> NDArray[np.float64]:
        """The bins' centres, from 0 to the Nyquist frequency."""
        return np.arange(self.fft_size // 2 + 1, dtype=np.float64) * np.float64(self.bin_hz)

    def density(
        self,
        samples: Samples,
        starts: range,
        bins: slice = slice(None),
        extremes: Extremes | None = None,
    ) -> Floats:
        """The density in each frame: (frames, bins) of 32-bit floats.

        It is computed in 32 bits, and in 64 where a sample is so great (an offset, a swell) that it would matter.

        Args:
            samples: of any real type; only a block of frames at a time is made into floats.
            starts: each frame's first sample, ascending; each frame lies within ``samples``.
            bins: which bins are wanted.
            extremes: takes note of all bins.
        """
        wanted = len(range(*bins.indices(len(self._scale))))
        out = np.empty((len(starts), wanted), np.float32)
        block = max(1, _BLOCK_SAMPLES // self.fft_size)
        weights = self._weights if _peak(samples) > _MOST_SINGLE else self._single_weights
        frames = np.zeros((block, self.fft_size), weights.dtype)
        for first in range(0, len(starts), block):
            some = starts[first : first + block]
            _fill(frames, samples, some, weights)
            spectrum = scipy.fft.rfft(frames[: len(some)])
            out[first : first + len(some)] = self._power(spectrum, bins, extremes)
        return out

    def _power(self, spectrum: Any, bins: slice, extremes: Extremes | None) -> Floats:
        """Density from spectra."""
        if extremes is not None:
            power = self._scaled(spectrum, slice(None))
            extremes.see(power)
            return power[:, bins]
        return self._scaled(spectrum[:, bins], bins)

    def _scaled(self, spectrum: Any, bins: slice) -> Floats:
        """The density of these bins."""
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        scale = self._scale[bins]
        if not self._is_flat:
            power *= scale
        elif len(scale):
            power[:, 0] *= scale[0]
            if len(scale) > 1:
                power[:, -1] *= scale[-1]
        density: Floats = power.astype(np.float32, copy=False)
        return density


def _peak(samples: Samples) -> float:
    """The greatest magnitude."""
    return max(float(samples.max()), -float(samples.min())) if len(samples) else 0.0


def _fill(frames: NDArray[Any], samples: Samples, starts: range, weights: NDArray[Any]) -> None:
    """Window the frames that begin at ``starts`` into the first rows of ``frames``, as floats of its kind."""
    near = samples[starts[0] : starts[-1] + len(weights)].astype(frames.dtype)
    strides = (starts.step * near.itemsize, near.itemsize)
    overlapping: NDArray[Any] = np.ndarray((len(starts), len(weights)), frames.dtype, near, strides=strides)
    np.multiply(overlapping, weights, out=frames[: len(starts), : len(weights)])


def to_db(power: Any) -> Any:
    """Levels of powers, in dB; nothing at all is -inf."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power)
