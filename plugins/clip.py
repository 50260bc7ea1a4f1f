"""Sound clips: samples as WAV or FLAC, with no bit lost unless that was asked for."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from ingest.errors import SourceUnreadable

ClipFormat = Literal["wav", "flac"]
Bits = Literal[16, 24, 32]
Samples = NDArray[Any]
Pieces = Sequence[tuple[int, Samples]]

_RATE_HINT = "set tile_processor.params.clip_rate_hz"
_MOST_FLAC_HZ = 655_350
_FINE_FLAC_HZ = 65_535
_BLOCK_SAMPLES = 1 << 14


@dataclass(frozen=True, slots=True)
class ClipMaker:
    """Makes a clip of a segment's pieces; what lies between them is silence.

    Attributes:
        format: ``wav`` or ``flac``.
        bits: of each sample.
        scale: ``counts`` keeps each number as it is; a factor multiplies it; ``normalised`` makes the largest of
            the segment the largest that ``bits`` can hold.
        rate_hz: to resample to (by a polyphase filter), or None for the recorded rate.
    """

    format: ClipFormat
    bits: Bits
    scale: Literal["counts", "normalised"] | float
    rate_hz: int | None = None

    @property
    def suffix(self) -> str:
        """``.wav`` or ``.flac``."""
        return f".{self.format}"

    @property
    def content_type(self) -> str:
        """The media type."""
        return f"audio/{self.format}"

    def make(self, pieces: Pieces, samples: int, sample_rate_hz: float) -> tuple[bytes, dict[str, str]]:
        """The clip, and what was done to its samples: ``clip_scale``, in words, and ``clip_factor``, a number.

        Raises:
            SourceUnreadable: the numbers do not fit into ``bits``, or the rate not into the format.
        """
        rate_hz = self._rate(sample_rate_hz)
        done = "" if self.rate_hz is None else f"resampled from {sample_rate_hz:g} Hz; "
        if self.rate_hz is not None:
            pieces, samples = _resampled(
                pieces, samples, Fraction(rate_hz / sample_rate_hz).limit_denominator(10_000)
            )
        whole, factor = self._scaled(pieces, samples)
        how = self.scale if isinstance(self.scale, str) else "scaled"
        facts = {"clip_scale": done + how, "clip_factor": f"{factor:.9g}"}
        return self._encoded(whole, rate_hz), facts

    def _rate(self, sample_rate_hz: float) -> int:
        rate_hz = self.rate_hz if self.rate_hz is not None else round(sample_rate_hz)
        if self.rate_hz is None and abs(rate_hz - sample_rate_hz) > 1e-4 * sample_rate_hz:
            raise SourceUnreadable(
                f"a sound clip's rate is a whole number of Hz; this one's is {sample_rate_hz:g}",
                hint=_RATE_HINT,
            )
        if self.format == "flac" and rate_hz > _MOST_FLAC_HZ:
            raise SourceUnreadable(f"FLAC holds at most {_MOST_FLAC_HZ} Hz, not {rate_hz}", hint=_RATE_HINT)
        if self.format == "flac" and rate_hz > _FINE_FLAC_HZ and rate_hz % 10:
            raise SourceUnreadable(
                f"FLAC holds rates above {_FINE_FLAC_HZ} Hz in tens, not {rate_hz}",
                hint=f"{_RATE_HINT}, or clip to wav",
            )
        return rate_hz

    def _scaled(self, pieces: Pieces, samples: int) -> tuple[Samples, float]:
        """The whole clip as integers of ``bits`` bits, and what the samples were multiplied with."""
        most = (1 << (self.bits - 1)) - 1
        whole = np.zeros(samples, np.int32)
        factor = self._factor([piece for _, piece in pieces if len(piece)], most)
        for place, piece in pieces:
            _scale_into(whole[place : place + len(piece)], piece, factor)
        return whole, factor

    def _factor(self, pieces: Sequence[Samples], most: int) -> float:
        low = min((float(piece.min()) for piece in pieces), default=0.0)
        high = max((float(piece.max()) for piece in pieces), default=0.0)
        if self.scale == "normalised":
            peak = max(high, -low)
            return most / peak if peak else 1.0
        factor = 1.0 if self.scale == "counts" else self.scale
        low, high = sorted((low * factor, high * factor))
        if round(high) > most or round(low) < -most - 1:
            raise SourceUnreadable(
                f"samples reach from {low:.0f} to {high:.0f}; {self.bits} bits hold {-most - 1} to {most}",
                hint="set tile_processor.params.clip_bits or clip_scale",
            )
        return factor

    def _encoded(self, whole: Samples, rate_hz: int) -> bytes:
        """``whole`` as a file; its numbers are overwritten."""
        file = io.BytesIO()
        is_odd = self.bits // 8 * len(whole) % 2 == 1  # RIFF fills that up; wave does not
        if self.format == "wav" and not is_odd:
            with wave.open(file, "wb") as wav:
                wav.setparams((1, self.bits // 8, rate_hz, len(whole), "NONE", ""))
                wav.writeframes(_packed(whole, self.bits).data)
        else:  # libsndfile takes the upper bits of each 16- or 32-bit number it is given
            given = whole.astype(np.int16) if self.bits == 16 else np.left_shift(whole, 32 - self.bits, whole)
            soundfile.write(file, given, rate_hz, format=self.format.upper(), subtype=f"PCM_{self.bits}")
        return file.getvalue()


def _packed(whole: Samples, bits: Bits) -> Samples:
    """Integers of at most ``bits`` bits as a WAV file has them: little-endian."""
    if bits != 24:
        return whole.astype(f"<i{bits // 8}", copy=False)
    octets = whole.astype("<i4", copy=False).view(np.uint8).reshape(-1, 4)
    packed = np.empty((len(whole), 3), np.uint8)
    for place in range(3):  # numpy takes four times as long for runs of three
        packed[:, place] = octets[:, place]
    return packed


def _scale_into(out: Samples, piece: Samples, factor: float) -> None:
    """Multiply and round. Doubles hold every 32-bit integer exactly; a block of them lies in the processor's cache."""
    if factor == 1 and piece.dtype.kind == "i":
        out[:] = piece
        return
    doubles = np.empty(min(len(piece), _BLOCK_SAMPLES))
    for begin in range(0, len(piece), _BLOCK_SAMPLES):
        part = piece[begin : begin + _BLOCK_SAMPLES]
        block = np.multiply(part, factor, out=doubles[: len(part)])
        out[begin : begin + len(part)] = np.rint(block, out=block)


def _resampled(pieces: Pieces, samples: int, ratio: Fraction) -> tuple[list[tuple[int, Samples]], int]:
    """Each piece at another rate, at its new place; a gap stays silent."""
    total = round(samples * ratio)
    found: list[tuple[int, Samples]] = []
    for place, piece in pieces:
        begin = round(place * ratio)
        made = resample_poly(piece.astype(np.float64), ratio.numerator, ratio.denominator)
        end = min(total, round((place + len(piece)) * ratio))
        found.append((begin, made[: max(0, end - begin)]))
    return found, total
