"""A day of spectra as a picture: the long-term spectral average over time, and percentiles over frequency."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from ingest.plugins.soundscape_file import Minutes

SIZE_INCHES = (12.0, 8.5)
DPI = 110
ROWS = 560
SHOWN_PERCENTILES = {95: "#b3261e", 75: "#dd8452", 50: "#14202b", 25: "#4c8fbd", 5: "#1f4e79"}
_COLOURS = "viridis"
_MISSING = "#d5dce3"


@dataclass(frozen=True)
class Limits:
    """From where on a picture shows frequencies, and between which levels its colours lie; None: by the day."""

    freq_min_hz: float
    level_min_db: float | None = None
    level_max_db: float | None = None

    def levels_db(self, shown: NDArray[np.float64]) -> tuple[float, float]:
        """The levels of the first and the last colour, in whole dB where the day gives them."""
        finite = shown[np.isfinite(shown)]
        low, high = np.percentile(finite, (1, 99)) if len(finite) else (0.0, 1.0)
        low = math.floor(low) if self.level_min_db is None else self.level_min_db
        high = math.ceil(high) if self.level_max_db is None else self.level_max_db
        return low, max(high, low + 1)


def day_picture(minutes: Minutes, percentiles: Mapping[int, NDArray[np.float32]], limits: Limits) -> bytes:
    """A PNG of a day's minutes; missing ones are grey, digital silence has the darkest colour."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    recorded = int(np.count_nonzero(minutes.effort_s))
    day = datetime.fromtimestamp(int(minutes.start_s[0]), UTC)
    figure.suptitle(
        f"{minutes.channel_id}   {day:%Y-%m-%d}   {recorded:,} of {len(minutes.start_s):,} minutes",
        fontsize=14,
        fontweight="bold",
    )
    top_hz = float(minutes.bands.edges_hz[-1])
    bottom_hz = min(limits.freq_min_hz, top_hz / 2)
    _draw_minutes(figure, above, minutes, limits, (bottom_hz, top_hz))
    _draw_percentiles(below, minutes, percentiles, (bottom_hz, top_hz))
    body = io.BytesIO()
    figure.savefig(body, format="png", metadata={"Software": None})
    return body.getvalue()


def _draw_minutes(
    figure: Any, axes: Any, minutes: Minutes, limits: Limits, span_hz: tuple[float, float]
) -> None:
    shown = rows_db(minutes, span_hz, ROWS)
    low, high = limits.levels_db(shown)
    axes.set_facecolor(_MISSING)
    image = axes.imshow(
        np.ma.masked_invalid(np.maximum(shown.T, low)),
        cmap=_COLOURS,
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        extent=(0, 24, math.log10(span_hz[0]), math.log10(span_hz[1])),
        interpolation="nearest",
    )
    axes.set_xlabel("UTC")
    axes.xaxis.set_major_locator(FixedLocator(range(0, 25, 2)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{hour:02.0f}:00"))
    ticks = _decade_ticks(*span_hz)
    axes.yaxis.set_major_locator(FixedLocator([math.log10(hz) for hz in ticks]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda place, _: _hertz(10**place)))
    axes.set_ylabel("Frequency")
    bar = figure.colorbar(image, ax=axes, pad=0.01, extend="both")
    bar.set_label(f"Level ({_pretty(minutes.units)})")


def _draw_percentiles(
    axes: Any, minutes: Minutes, percentiles: Mapping[int, NDArray[np.float32]], span_hz: tuple[float, float]
) -> None:
    centres = minutes.bands.centres_hz
    inside = (centres >= span_hz[0]) & np.isfinite(minutes.levels_db).any(axis=0)
    for percent, colour in SHOWN_PERCENTILES.items():
        width = 1.8 if percent == 50 else 1.0
        axes.plot(
            centres[inside], percentiles[percent][inside], color=colour, linewidth=width, label=f"{percent} %"
        )
    mean = 10 * np.log10(np.nanmean(10 ** (minutes.levels_db.astype(np.float64) / 10), axis=0)[inside])
    axes.plot(centres[inside], mean, color="#7a3e9d", linewidth=1.0, linestyle="--", label="mean power")
    axes.set_xscale("log")
    axes.set_xlim(*span_hz)
    axes.xaxis.set_major_locator(FixedLocator(_decade_ticks(*span_hz)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda hz, _: _hertz(hz)))
    axes.set_xlabel("Frequency")
    axes.set_ylabel(f"Level ({_pretty(minutes.units)})")
    axes.grid(color=_MISSING, linewidth=0.6)
    axes.legend(title="Minutes below", ncols=2, fontsize=9, framealpha=0.9)


def rows_db(minutes: Minutes, span_hz: tuple[float, float], rows: int) -> NDArray[np.float64]:
    """Levels on ``rows`` rows of equal height on a logarithmic axis: the mean power of the bands that each touches."""
    edges = np.geomspace(*span_hz, rows + 1)
    bands = minutes.bands
    first = np.searchsorted(bands.edges_hz, edges[:-1], side="right") - 1
    last = np.maximum(np.searchsorted(bands.edges_hz, edges[1:], side="left"), first + 1)
    power = 10 ** (minutes.levels_db.astype(np.float64) / 10) * bands.widths_hz
    summed = np.stack([power[:, a:b].sum(axis=1) for a, b in zip(first, last, strict=True)], axis=1)
    widths = bands.edges_hz[last] - bands.edges_hz[first]
    with np.errstate(divide="ignore"):
        levels: NDArray[np.float64] = 10 * np.log10(summed / widths)
    return levels


def _decade_ticks(low_hz: float, high_hz: float) -> list[float]:
    decades = range(math.floor(math.log10(low_hz)), math.ceil(math.log10(high_hz)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [hz for hz in ticks if low_hz * 0.999 <= hz <= high_hz * 1.001]


def _hertz(hz: float) -> str:
    return f"{hz / 1000:g} kHz" if hz >= 999.5 else f"{hz:.3g} Hz"


def _pretty(units: str) -> str:
    return units.replace("uPa^2", "µPa²").replace("count^2", "count²")
