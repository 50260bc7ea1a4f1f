"""From spectra to a picture's pixels: which spectra a column shows, which bins a row, and as which index."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ingest.plugins.psd import Extremes, Spectra

FrequencyScale = Literal["linear", "log"]
Average = Literal["power", "level"]
Indices = NDArray[np.uint8]

SPECTRA_A_WINDOW = 4
"""Spectra that are closer than this share of their window tell a picture nothing new."""
_NOTHING = 1e-30
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Axes:
    """A picture's axes.

    Attributes:
        width, height: in pixels.
        freq_min_hz, freq_max_hz: the lower edge of the lowest row and the upper one of the highest.
        freq_scale: of the rows.
    """

    width: int
    height: int
    freq_min_hz: float
    freq_max_hz: float
    freq_scale: FrequencyScale

    def edges_hz(self) -> NDArray[np.float64]:
        """The rows' edges, from the lowest up: ``height`` + 1 of them."""
        space = np.geomspace if self.freq_scale == "log" else np.linspace
        return np.asarray(space(self.freq_min_hz, self.freq_max_hz, self.height + 1))


@dataclass(frozen=True, slots=True)
class Limits:
    """The levels that the first and the last colour stand for, in dB."""

    low_db: float
    high_db: float


class Painter:
    """Paints segments of one sample rate.

    A column shows what the spectra near its middle average to, weighted by a raised cosine that reaches one
    column to both sides; a row what the bins between its edges do, each weighted by its share. ``power`` averages
    densities, as Welch's method does; ``level`` averages dB, as a plotting library does that scales an image down.
    A spectrum never reaches over a gap; a column that touches one shows it.

    Args:
        spectra: makes spectra.
        axes: of the picture.
        samples: of a whole segment.
        overlap: of neighbouring windows, or None for as much as the picture shows.
        average: ``power`` or ``level``.
    """

    def __init__(
        self, spectra: Spectra, axes: Axes, samples: int, overlap: float | None, average: Average
    ) -> None:
        self._spectra = spectra
        self._axes = axes
        self._samples = samples
        self._average = average
        column = samples / axes.width
        finest = min(spectra.samples / SPECTRA_A_WINDOW, column)
        hop = finest if overlap is None else max(spectra.samples * (1 - overlap), finest)
        self._hop = max(1, math.floor(hop))
        self._bins, self._rows = _row_weights(spectra, axes)
        self.rows_seen = np.diff(self._rows.indptr) > 0
        self._columns = lru_cache(maxsize=4)(self._columns_of)

    def paint(self, pieces: Sequence[tuple[int, NDArray[Any]]], extremes: Extremes | None) -> Canvas:
        """The spectra of a segment's pieces, averaged as far as can be without limits for the levels.

        Args:
            pieces: samples, each with its place in the segment.
            extremes: takes note of all bins above 0 Hz.
        """
        canvas = Canvas(self._axes, self._rows, self._average, self.rows_seen)
        total = 0.0
        count = 0
        for place, piece in pieces:
            if len(piece) < self._spectra.samples:
                continue
            starts, shown, weights = self._columns(place, len(piece))
            if not len(shown):
                continue
            density = self._spectra.density(piece, starts, self._bins, extremes)
            total += float(density.sum(dtype=np.float64))
            count += len(starts)
            canvas.add(shown, weights, density)
        canvas.mean_square = total / count * self._spectra.bin_hz if count else 0.0
        return canvas

    def _columns_of(self, place: int, length: int) -> tuple[range, NDArray[np.intp], csr_array]:
        """For a piece: where its spectra begin, which columns it fills, and the spectra's weights in each."""
        window, column = self._spectra.samples, self._samples / self._axes.width
        spare = (length - window) % self._hop
        starts = range(spare // 2, length - window + 1, self._hop)
        numbers = np.arange(self._axes.width)
        # a segment of 10.4 samples has 10, and is whole
        inside = (numbers * column >= place) & ((numbers + 1) * column <= place + length + 1e-6)
        shown = np.flatnonzero(inside)
        middles = (shown + 0.5) * column - place
        weights = _raised_cosines(middles, np.array(starts) + window / 2, max(column, self._hop))
        return starts, shown, weights


class Canvas:
    """A segment's averaged spectra, waiting for their limits.

    Attributes:
        mean_square: of the samples within the shown frequencies, averaged over all spectra.
    """

    def __init__(self, axes: Axes, rows: csr_array, average: Average, rows_seen: NDArray[np.bool_]) -> None:
        self._axes = axes
        self._rows = rows
        self._average = average
        self._rows_seen = rows_seen
        self._parts: list[tuple[NDArray[np.intp], csr_array, NDArray[np.float32]]] = []
        self.mean_square = 0.0

    def add(self, shown: NDArray[np.intp], weights: csr_array, density: NDArray[np.float32]) -> None:
        """Take the spectra of a piece: (frames, bins)."""
        if self._average == "power":
            density = weights @ density
        self._parts.append((shown, weights, density))

    def indices(self, limits: Limits, top: int, nothing: int) -> Indices:
        """The pixels, (rows, columns) with the highest frequency first.

        A level between two indices becomes the one or the other by turns, from column to column, so that the mean of
        columns keeps it: rounded alike in all of them, a steady tone would be wrong by up to half a step throughout.

        Args:
            limits: the levels that index 0 and index ``top`` stand for; what lies beyond is cut off.
            top: the last index of the colour map.
            nothing: the index where there is no sound, or no frequency.
        """
        out = np.full((self._axes.height, self._axes.width), nothing, np.uint8)
        slope = top / (limits.high_db - limits.low_db)
        for shown, weights, density in self._parts:
            if self._average == "power":
                levels = _levels(self._rows @ density.T, slope, limits.low_db, top)
            else:
                levels = _levels(density, slope, limits.low_db, top)
                levels = self._rows @ np.ascontiguousarray((weights @ levels).T)
            levels += _turns(self._axes.width)[shown]
            pixels = levels.astype(np.uint8)
            pixels[~self._rows_seen] = nothing
            if len(shown) == self._axes.width:
                return np.ascontiguousarray(pixels[::-1])
            out[:, shown] = pixels[::-1]
        return out


@cache
def _turns(width: int) -> NDArray[np.float32]:
    """What is added to a level in each column before it is cut to an index: even over 0 to 1 in any run of columns.

    Not quite 0 to 1: a top level that float arithmetic made a little greater stays the top.
    """
    return np.asarray(0.005 + 0.99 * ((np.arange(width) + 0.5) * _GOLDEN % 1), np.float32)


def _levels(power: NDArray[np.float32], slope: float, low_db: float, top: int) -> NDArray[np.float32]:
    """Powers as places between the limits, from 0 to ``top``."""
    levels = np.log10(np.maximum(power, np.float32(_NOTHING)))
    levels *= np.float32(10 * slope)
    levels -= np.float32(low_db * slope)
    return np.clip(levels, 0, top, out=levels)


def _raised_cosines(middles: Any, centres: Any, reach: float) -> csr_array:
    """Weights (middles, centres) that fall from each middle to zero at ``reach``; where none reaches, the nearest."""
    first = np.searchsorted(centres, middles - reach, side="right")
    last = np.searchsorted(centres, middles + reach, side="left")
    nearest = np.abs(centres[np.clip(first, 0, len(centres) - 1)] - middles) > np.abs(
        centres[np.clip(first - 1, 0, len(centres) - 1)] - middles
    )
    alone = last <= first
    first = np.where(alone, np.clip(first - nearest, 0, len(centres) - 1), first)
    last = np.where(alone, first + 1, last)
    counts = last - first
    rows = np.repeat(np.arange(len(middles)), counts)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    weights = 1 + np.cos(np.pi * np.minimum(np.abs(centres[columns] - middles[rows]) / reach, 1))
    weights = np.where(np.repeat(alone, counts), 1.0, weights)
    weights /= np.repeat(np.add.reduceat(weights, np.cumsum(counts) - counts), counts) if len(rows) else 1
    return csr_array((weights.astype(np.float32), (rows, columns)), shape=(len(middles), len(centres)))


def _row_weights(spectra: Spectra, axes: Axes) -> tuple[slice, csr_array]:
    """Which bins the rows need, and their weights (rows, bins): a bin reaches half its distance to both sides.

    0 Hz, which is no sound, is left out; rows above the Nyquist frequency have no bins.
    """
    edges, width = axes.edges_hz(), spectra.bin_hz
    highest = len(spectra.frequencies_hz) - 1
    first = max(1, math.floor(edges[0] / width + 0.5))
    stop = max(first + 1, min(highest, math.ceil(edges[-1] / width - 0.5)) + 1)
    found: list[tuple[int, int, float]] = []
    for row, (low, high) in enumerate(itertools.pairwise(edges)):
        if low >= (highest + 0.5) * width:
            break
        bins = np.arange(
            max(first, math.floor(low / width + 0.5)), min(stop - 1, math.floor(high / width + 0.5)) + 1
        )
        if not len(bins):
            bins = np.array([first if low < first * width else stop - 1])
        shares = np.minimum(high, (bins + 0.5) * width) - np.maximum(low, (bins - 0.5) * width)
        shares = np.maximum(shares, 0)
        shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(bins), 1 / len(bins))
        found += [
            (row, int(one) - first, float(share))
            for one, share in zip(bins, shares, strict=True)
            if share > 0
        ]
    rows, columns, weights = zip(*found, strict=True) if found else ((), (), ())
    table = csr_array(
        (np.array(weights, np.float32), (np.array(rows, np.int64), np.array(columns, np.int64))),
        shape=(axes.height, stop - first),
    )
    return slice(first, stop), table
