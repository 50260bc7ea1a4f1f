"""Hybrid millidecade bands: 1 Hz wide up to 434 Hz, and a thousandth of a decade above.

After Martin et al. 2021, "Hybrid millidecade spectra: A practical format for exchange of long-term ambient sound
data", JASA Express Letters 1, 011203 (https://doi.org/10.1121/10.0003324), with the edges of its erratum in the
same volume (081201) and the code published with it: millidecades begin and end at ``10 ** (k / 1000)`` Hz for whole
``k``, as IEC 61260-1:2014 has it for an even number of bands. They take over at 434.51 Hz, where they become wider
than 1 Hz; the last band of 1 Hz ends there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Values = NDArray[np.float64]

PER_DECADE = 1000
FIRST_MILLIDECADE = 2638
LINEAR_BANDS = 435


@dataclass(frozen=True)
class Bands:
    """The bands from 0 Hz to the Nyquist frequency, which cuts the last one short.

    Attributes:
        edges_hz: one more than there are bands; the first is -0.5, for the band around 0 Hz.
        centres_hz: whole numbers up to 434, then each band's geometric middle, but no more than the Nyquist
            frequency.
    """

    edges_hz: Values
    centres_hz: Values

    @property
    def widths_hz(self) -> Values:
        """How wide each band is."""
        return np.diff(self.edges_hz)

    def weights(self, bins: int, bin_hz: float) -> Any:
        """What makes a spectrum's bins into bands: a sparse matrix of (bands, bins).

        Multiplied with power spectral density it gives each band's mean density. A bin is taken to hold its power
        evenly from half a bin below its frequency to half a bin above; where a band ends within it, it is shared.
        The last bin reaches up to its own frequency alone, and gives all its power, so that none is lost.

        Args:
            bins: how many there are, from 0 Hz to the Nyquist frequency.
            bin_hz: their distance.
        """
        below = (np.arange(bins) - 0.5) * bin_hz
        above = np.minimum(below + bin_hz, self.edges_hz[-1])
        above[-1] = self.edges_hz[-1]
        below[0] = self.edges_hz[0]
        first = np.searchsorted(self.edges_hz, below, side="right") - 1
        last = np.searchsorted(self.edges_hz, above, side="left") - 1
        counts = last - first + 1
        column = np.repeat(np.arange(bins), counts)
        band = first[column] + np.arange(len(column)) - np.repeat(np.cumsum(counts) - counts, counts)
        shared = np.minimum(above[column], self.edges_hz[band + 1]) - np.maximum(
            below[column], self.edges_hz[band]
        )
        share = shared / (above - below)[column]
        weights = share * bin_hz / self.widths_hz[band]
        return scipy.sparse.csr_array((weights, (band, column)), shape=(len(self.centres_hz), bins))


@lru_cache(maxsize=8)
def hybrid_millidecades(nyquist_hz: float) -> Bands:
    """The bands up to a Nyquist frequency (half the sample rate).

    Raises:
        ValueError: it is below 1 Hz.
    """
    if nyquist_hz < 1:
        raise ValueError(f"there are no bands below a Nyquist frequency of {nyquist_hz:g} Hz")
    linear = np.arange(LINEAR_BANDS) - 0.5
    last = math.ceil(PER_DECADE * math.log10(nyquist_hz)) + 1
    millidecades = 10 ** (np.arange(FIRST_MILLIDECADE, max(last, FIRST_MILLIDECADE + 1)) / PER_DECADE)
    edges = np.concatenate((linear, millidecades))
    edges = np.append(edges[edges < nyquist_hz * (1 - 1e-12)], nyquist_hz)
    ones = min(LINEAR_BANDS, len(edges) - 1)
    middles = 10 ** ((np.arange(len(edges) - 1 - ones) + FIRST_MILLIDECADE + 0.5) / PER_DECADE)
    centres = np.concatenate((np.arange(ones), middles))
    return Bands(edges, np.minimum(centres, nyquist_hz))
