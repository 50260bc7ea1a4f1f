"""The finisher ``soundscape_day``: what ``soundscape`` stored, joined into one file and one picture a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ingest.errors import SourceUnreadable
from ingest.plugins.soundscape_file import MEDIA_TYPE, MINUTE_S, Minutes, from_netcdf, to_netcdf
from ingest.plugins.soundscape_picture import Limits, day_picture
from ingest.plugins.stored_segments import utc_start
from ingest.processors import Addition, Finisher, Params, Result, Results

KIND = "soundscape"
DAY_S = 86_400
_SILENCE_DB = -1e6
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


class SoundscapeDayParams(Params):
    """Parameters of ``soundscape_day``."""

    folder: str = Field(
        default="soundscape",
        min_length=1,
        description="Folder below the destination; a day is `CHANNEL/2019-01-12.nc` and `.png` in it.",
    )
    picture: bool = Field(default=True, description="Draw each day too.")
    freq_min_hz: float = Field(default=10.0, gt=0, description="The lowest frequency of the picture.")
    level_min_db: float | None = Field(
        default=None,
        description="The level of the darkest colour. Default: 1 % of the day's levels are below it.",
    )
    level_max_db: float | None = Field(
        default=None,
        description="The level of the brightest colour. Default: 1 % of the day's levels are above it.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.level_min_db, self.level_max_db
        if low is not None and high is not None and low >= high:
            raise ValueError(f"level_min_db ({low:g}) must be less than level_max_db ({high:g})")
        return self


@dataclass(frozen=True, order=True)
class _Day:
    """A day of a channel at a sample rate: what is joined."""

    channel_id: str
    day: date
    sample_rate_hz: float

    @property
    def start_s(self) -> int:
        midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return round(midnight.timestamp())


class SoundscapeDay(Finisher[SoundscapeDayParams]):
    """One NetCDF file for each channel and UTC day, and a picture of it.

    All 1,440 minutes are there; one that was not recorded, or whose file failed, has an ``effort`` of 0 s and NaN for
    its levels. Where two files have the same minute, that of the greater effort is taken. The file has percentiles of
    the day's minutes in each band; the picture shows them below the long-term spectral average.
    """

    Params: ClassVar[type[Params]] = SoundscapeDayParams

    def additions(self, results: Results) -> Iterator[Addition]:
        """The days, one after the other; one is held at a time."""
        days = _keys_by_day(results)
        rates: dict[tuple[str, date], int] = {}
        for day in days:
            rates[day.channel_id, day.day] = rates.get((day.channel_id, day.day), 0) + 1
        for day in sorted(days):
            minutes = _joined(day, days[day], results)
            if not minutes.effort_s.any():
                continue
            name = f"{self.params.folder.strip('/')}/{day.channel_id}/{day.day:%Y-%m-%d}"
            if rates[day.channel_id, day.day] > 1:
                name += f"_{day.sample_rate_hz:g}Hz"
            yield from self._day(name, minutes)

    def _day(self, name: str, minutes: Minutes) -> Iterator[Addition]:
        recorded = minutes.levels_db[minutes.effort_s > 0]
        percentiles = dict(zip(PERCENTILES, percentiles_db(recorded), strict=True))
        title = f"Hybrid millidecade spectra of {minutes.channel_id}, {name.rpartition('/')[2]}"
        yield Addition(f"{name}.nc", to_netcdf(minutes, {"title": title}, percentiles), MEDIA_TYPE)
        if self.params.picture:
            limits = Limits(self.params.freq_min_hz, self.params.level_min_db, self.params.level_max_db)
            yield Addition(f"{name}.png", day_picture(minutes, percentiles, limits), "image/png")


def percentiles_db(levels_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """Percentiles of minutes in each band. Digital silence, -inf dB, is below all sound, and nothing lies between."""
    least = np.where(np.isfinite(levels_db), levels_db, np.float32(np.inf)).min(axis=0)
    table = np.percentile(np.maximum(levels_db, np.float32(_SILENCE_DB)), PERCENTILES, axis=0)
    return np.where(table < least, -np.inf, table).astype(np.float32)


def _keys_by_day(results: Results) -> dict[_Day, list[str]]:
    """The stored files that have minutes of each day."""
    days: dict[_Day, list[str]] = {}
    for row in results.rows():
        if row.metadata.get("kind") == KIND:
            for day in _days_of(row):
                days.setdefault(day, []).append(row.key)
    return days


def _days_of(row: Result) -> Iterator[_Day]:
    start = utc_start(row.metadata.get("start", ""))
    if start is None:
        raise SourceUnreadable(f"the manifest's row of {row.key} does not say when it starts")
    end = start + timedelta(seconds=float(row.metadata["duration_s"]), microseconds=-1)
    day = start.date()
    while day <= end.date():
        yield _Day(row.metadata["channel_id"], day, float(row.metadata["sample_rate_hz"]))
        day += timedelta(days=1)


def _joined(day: _Day, keys: list[str], results: Results) -> Minutes:
    """All minutes of a day."""
    joined: Minutes | None = None
    for key in keys:
        minutes = _read(key, results)
        if joined is None:
            joined = _empty_day(day, minutes)
        _take(joined, minutes)
    assert joined is not None
    return joined


def _read(key: str, results: Results) -> Minutes:
    with results.open(key) as path:
        try:
            return from_netcdf(path)
        except (OSError, KeyError) as error:
            raise SourceUnreadable(f"{key} is no file of spectra any more: {error}") from error


def _empty_day(day: _Day, like: Minutes) -> Minutes:
    count = DAY_S // MINUTE_S
    start_s = day.start_s + MINUTE_S * np.arange(count)
    levels_db: NDArray[np.float32] = np.full((count, like.levels_db.shape[1]), np.nan, np.float32)
    effort_s = np.zeros(count, np.float32)
    return Minutes(like.channel_id, like.sample_rate_hz, like.units, start_s, effort_s, levels_db)


def _take(joined: Minutes, minutes: Minutes) -> None:
    """Put the minutes of a file that are of this day into it, where they have more than what is there."""
    places = (minutes.start_s - joined.start_s[0]) // MINUTE_S
    ours = np.flatnonzero((places >= 0) & (places < len(joined.start_s)))
    better = ours[minutes.effort_s[ours] > joined.effort_s[places[ours]]]
    joined.effort_s[places[better]] = minutes.effort_s[better]
    joined.levels_db[places[better]] = minutes.levels_db[better]
