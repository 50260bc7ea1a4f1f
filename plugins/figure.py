"""A spectrogram as a figure: axes in UTC and Hz, a colour bar and a title around the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ingest.plugins.miniseed import SECOND_NS
from ingest.plugins.picture import ColourMap, Palette, colours, png
from ingest.plugins.pixels import Axes, Limits

Indices = NDArray[np.uint8]

MAP_COLOURS = 239
"""The rest of the palette is for a gap and for ink, from white to black."""
GAP = MAP_COLOURS
_WHITE, _BLACK = MAP_COLOURS + 1, 255
_GAP_COLOUR = (222, 222, 222)
_LEFT, _TOP, _RIGHT, _BOTTOM = 72, 34, 112, 52
_BAR_GAP, _BAR_WIDTH, _TICK = 18, 16, 5
_FONT_PX, _TITLE_PX = 12, 14
_LABEL_HEIGHT_PX, _LABEL_GAP_PX = 14, 8
_MOST_LABELS, _MOST_TIMES = 8, 6
_STEPS = (1, 2, 2.5, 5)
_TIME_STEPS_S = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600,
)  # fmt: skip


class Labels(NamedTuple):
    """What a figure says.

    Attributes:
        title: above the picture.
        start_ns: when the picture begins, in nanoseconds since 1970 UTC.
        duration_s: how long it is.
        unit: of the colour bar.
    """

    title: str
    start_ns: int
    duration_s: float
    unit: str


def figure_png(pixels: Indices, axes: Axes, limits: Limits, labels: Labels, colour_map: ColourMap) -> bytes:
    """A figure of a picture's pixels, whose indices are those of ``MAP_COLOURS`` colours and ``GAP``."""
    frame = _frame(axes, limits, labels.unit).copy()
    whole = Image.fromarray(frame, "L")
    draw = ImageDraw.Draw(whole)
    _draw_times(draw, axes, labels)
    room_px = whole.width - _LABEL_GAP_PX - _font(_TITLE_PX).getlength(labels.title)
    draw.text((min(_LEFT, room_px), _TOP - 10), labels.title, _BLACK, _font(_TITLE_PX), anchor="ls")
    frame = np.asarray(whole).copy()
    frame[_TOP : _TOP + axes.height, _LEFT : _LEFT + axes.width] = pixels
    return png(frame, _palette(colour_map))


def plot_box(axes: Axes) -> tuple[float, float, float, float]:
    """Where in a figure the picture itself lies: left, top, right and bottom, as shares of the figure's size."""
    width, height = _LEFT + axes.width + _RIGHT, _TOP + axes.height + _BOTTOM
    return _LEFT / width, _TOP / height, (_LEFT + axes.width) / width, (_TOP + axes.height) / height


@cache
def _palette(colour_map: ColourMap) -> Palette:
    ink = [round(255 * (_BLACK - index) / (_BLACK - _WHITE)) for index in range(_WHITE, _BLACK + 1)]
    return (*colours(colour_map, MAP_COLOURS), _GAP_COLOUR, *((grey, grey, grey) for grey in ink))


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has no ² and no µ
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size_px)


@lru_cache(maxsize=4)
def _frame(axes: Axes, limits: Limits, unit: str) -> Indices:
    """All that does not change from segment to segment, on white. Its numbers are palette indices.

    Ink is drawn on white in grey levels; both ends of the palette's greys lie at its end, so that the edges
    of letters, which are mixtures of both, stay greys.
    """
    size = (_LEFT + axes.width + _RIGHT, _TOP + axes.height + _BOTTOM)
    image = Image.new("L", size, _WHITE)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = _LEFT, _TOP, _LEFT + axes.width, _TOP + axes.height
    draw.rectangle((left - 1, top - 1, right, bottom), outline=_BLACK)
    for hz, place in _frequency_ticks(axes):
        y = bottom - 0.5 - place * axes.height
        draw.line((left - 1 - _TICK, y, left - 2, y), fill=_BLACK)
        draw.text((left - _TICK - 5, y), f"{hz:g}", _BLACK, _font(_FONT_PX), anchor="rm")
    _draw_upright(image, "Frequency (Hz)", 9, (top + bottom) // 2)
    draw.text(((left + right) // 2, size[1] - 8), "Time (UTC)", _BLACK, _font(_FONT_PX), anchor="ms")
    _draw_bar(image, draw, axes, limits, unit)
    return np.asarray(image).copy()


def _draw_bar(image: Image.Image, draw: ImageDraw.ImageDraw, axes: Axes, limits: Limits, unit: str) -> None:
    left, top, bottom = _LEFT + axes.width + _BAR_GAP, _TOP, _TOP + axes.height
    ramp = np.linspace(MAP_COLOURS - 1, 0, axes.height).round().astype(np.uint8)
    image.paste(Image.fromarray(np.repeat(ramp[:, None], _BAR_WIDTH, axis=1), "L"), (left, top))
    draw.rectangle((left - 1, top - 1, left + _BAR_WIDTH, bottom), outline=_BLACK)
    for level in _round_numbers(limits.low_db, limits.high_db, _most_labels(axes)):
        y = bottom - 0.5 - (level - limits.low_db) / (limits.high_db - limits.low_db) * axes.height
        draw.line((left + _BAR_WIDTH + 1, y, left + _BAR_WIDTH + _TICK, y), fill=_BLACK)
        draw.text((left + _BAR_WIDTH + _TICK + 4, y), f"{level:g}", _BLACK, _font(_FONT_PX), anchor="lm")
    _draw_upright(image, unit, left + _BAR_WIDTH + 54, (top + bottom) // 2)


def _draw_upright(image: Image.Image, text: str, x: int, y: int) -> None:
    """Text that reads upwards, with its middle at a point."""
    left, top, right, bottom = map(round, _font(_FONT_PX).getbbox(text))
    line = Image.new("L", (right - left + 2, bottom - top + 2), _WHITE)
    ImageDraw.Draw(line).text((1 - left, 1 - top), text, _BLACK, _font(_FONT_PX))
    line = line.transpose(Image.Transpose.ROTATE_90)
    image.paste(line, (x - line.width // 2, y - line.height // 2))


def _draw_times(draw: ImageDraw.ImageDraw, axes: Axes, labels: Labels) -> None:
    bottom = _TOP + axes.height
    times_ns, decimals = _times(axes, labels)
    for time_ns in times_ns:
        x = _LEFT + (time_ns - labels.start_ns) / SECOND_NS / labels.duration_s * axes.width
        draw.line((x, bottom + 1, x, bottom + _TICK), fill=_BLACK)
        draw.text((x, bottom + _TICK + 4), _clock(time_ns, decimals), _BLACK, _font(_FONT_PX), anchor="mt")


def _times(axes: Axes, labels: Labels) -> tuple[Sequence[int], int]:
    """The round times that have room for their labels, and their decimals; where there is none, the start alone."""
    start_ns, end_ns = labels.start_ns, labels.start_ns + round(labels.duration_s * SECOND_NS)
    for step_s in _TIME_STEPS_S:
        decimals = max(0, -math.floor(math.log10(step_s)))
        room_px = _font(_FONT_PX).getlength(_clock(0, decimals)) + _LABEL_GAP_PX
        if labels.duration_s / step_s > min(_MOST_TIMES, axes.width / room_px):
            continue
        step_ns = round(step_s * SECOND_NS)
        times_ns = range(-(-start_ns // step_ns) * step_ns, end_ns + 1, step_ns)
        if times_ns:
            return times_ns, decimals
    return [start_ns], 3 if start_ns % SECOND_NS else 0


def _clock(time_ns: int, decimals: int) -> str:
    seconds, rest_ns = divmod(time_ns, SECOND_NS)
    text = f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%H:%M:%S}"
    return text + (f".{rest_ns:09d}"[: decimals + 1] if decimals else "")


def _frequency_ticks(axes: Axes) -> list[tuple[float, float]]:
    """Round frequencies, and their places between the lower edge (0) and the upper one (1)."""
    low, high = axes.freq_min_hz, axes.freq_max_hz
    if axes.freq_scale == "linear":
        return [(hz, (hz - low) / (high - low)) for hz in _round_numbers(low, high, _most_labels(axes))]
    span = math.log(high / low)
    return [(hz, math.log(hz / low) / span) for hz in _log_frequencies(axes)]


def _log_frequencies(axes: Axes) -> list[float]:
    """1, 2 and 5 of each decade, where they have room; 1 alone, where not; in a narrow band, more than these."""
    low, high = axes.freq_min_hz, axes.freq_max_hz
    decades = math.log10(high / low)
    digits = (1, 2, 5) if math.log10(2) / decades * axes.height >= _LABEL_HEIGHT_PX else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [hz for power in powers for digit in digits if low <= (hz := digit * 10.0**power) <= high]
    return found if len(found) > 2 or decades > 1 else _round_numbers(low, high, _most_labels(axes))


def _most_labels(axes: Axes) -> int:
    """How many labels have room above each other."""
    return max(1, min(_MOST_LABELS, axes.height // _LABEL_HEIGHT_PX))


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers from ``low`` to ``high``."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in _STEPS if factor * power >= rough), 10 * power)
    return [
        round(n * step, 9) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
