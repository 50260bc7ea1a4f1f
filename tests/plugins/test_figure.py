"""A figure's labels have room, whatever its size and its axes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ingest.plugins.figure import _LABEL_HEIGHT_PX, Labels, _clock, _font, _frequency_ticks, _times
from ingest.plugins.pixels import Axes

SECOND_NS = 1_000_000_000
START_NS = 1_582_934_394 * SECOND_NS
"""2020-02-28T23:59:54"""


@pytest.mark.parametrize("width_px", [100, 128, 300, 512, 3000])
@pytest.mark.parametrize("duration_s", [0.1, 0.25, 1, 5, 7, 10, 60, 600])
@pytest.mark.parametrize("start_ns", [START_NS, START_NS + 123_000_000])
def test_times_have_room_beside_each_other(width_px: int, duration_s: float, start_ns: int) -> None:
    axes = Axes(width_px, 100, 0, 32_000, "linear")
    times_ns, decimals = _times(axes, Labels("", start_ns, duration_s, ""))
    labels = [_clock(time_ns, decimals) for time_ns in times_ns]
    assert 1 <= len(labels) == len(set(labels)) <= 7
    for one, other in pairwise(times_ns):
        apart_px = (other - one) / SECOND_NS / duration_s * width_px
        assert apart_px > _font(12).getlength(labels[0]) + 4, labels
    for time_ns in times_ns:
        assert 0 <= time_ns - start_ns <= duration_s * SECOND_NS
        assert time_ns % 10 ** (9 - decimals) == 0, "a label says the whole time"


@pytest.mark.parametrize("height_px", [100, 200, 512, 2000])
@pytest.mark.parametrize(
    "edges_hz",
    [(10, 128_000), (1, 500), (10, 32_000), (11, 19), (15, 25), (51, 199), (2.1, 9.9), (400, 8000)],
)
@pytest.mark.parametrize("freq_scale", ["linear", "log"])
def test_frequencies_have_room_above_each_other(
    height_px: int, edges_hz: tuple[float, float], freq_scale: str
) -> None:
    axes = Axes(height_px, height_px, *edges_hz, freq_scale)  # type: ignore[arg-type]
    ticks = _frequency_ticks(axes)
    assert len(ticks) >= 2, "one label alone does not make an axis"
    assert all(0 <= place <= 1 for _, place in ticks)
    assert all((high - low) * height_px > _LABEL_HEIGHT_PX - 4 for (_, low), (_, high) in pairwise(ticks)), (
        ticks
    )
