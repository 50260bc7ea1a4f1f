"""From counts to pressure: a hydrophone's sensitivity by a number, a table, its deployments or StationXML."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from obspy import UTCDateTime, read_inventory
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest.config import ConfigPath
from ingest.errors import ConfigError, SourceUnreadable
from ingest.plugins.miniseed import SECOND_NS, iso_time

COUNTS = "counts"
PRESSURE_DENSITY = "dB re 1 uPa^2/Hz"
COUNT_DENSITY = "dB re 1 count^2/Hz"

_MICRO_DB = -120.0  # a microunit of amplitude, in dB
_FOREVER_NS = 1 << 62
_LEAST_DB, _MOST_DB = -300, 100  # of a sensitivity in dB re 1 V/µPa: who leaves out its minus is told
_DEPLOYMENT_TITLES = ("start", "end", "sensitivity_db", "sensitivity_csv", "channel_id", "volts_per_count")
_PASCAL = frozenset({"PA", "PASCAL", "PASCALS"})
_COUNTS = frozenset({"COUNT", "COUNTS", "DIGITAL COUNTS"})

Levels = NDArray[np.float64]
Made = TypeVar("Made")


class CalibrationParams(BaseModel):
    """How counts become pressure: by a number, a table, a table of deployments, or StationXML; one of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sensitivity_db: float | None = Field(
        default=None,
        ge=_LEAST_DB,
        le=_MOST_DB,
        description="The sensitivity in dB re 1 V/µPa, such as `-169`.",
    )
    sensitivity_csv: ConfigPath | None = Field(
        default=None,
        description="A CSV file with the columns `frequency_hz` and `sensitivity_db` (dB re 1 V/µPa); linear between.",
    )
    deployments_csv: ConfigPath | None = Field(
        default=None,
        description="A CSV file with the columns `start`, `end` (UTC; an empty end is open), `sensitivity_db` or "
        "`sensitivity_csv`, and, where they differ, `channel_id` and `volts_per_count`; no others.",
    )
    stationxml: ConfigPath | None = Field(
        default=None, description="A StationXML file with the channels' responses, from pascal to counts."
    )
    volts_per_count: float | None = Field(
        default=None, gt=0, description="What one count is, in volts; StationXML says it itself."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = ("sensitivity_db", "sensitivity_csv", "deployments_csv", "stationxml")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(sources)}; found {' and '.join(given) or 'none'}")
        if self.stationxml is not None and self.volts_per_count is not None:
            raise ValueError("volts_per_count is a part of StationXML's response; leave it out")
        if given[0].startswith("sensitivity") and self.volts_per_count is None:
            raise ValueError("volts_per_count is missing: what one count is, in volts")
        return self


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One hydrophone's, from when to when.

    Attributes:
        frequencies_hz, levels_db: in dB re 1 V/µPa; one pair is the same at all frequencies.
        volts_per_count: of its recorder.
        start_ns, end_ns: when it holds, half open, in nanoseconds since 1970 UTC.
        channel_id: whose it is; empty for all.
    """

    frequencies_hz: Levels
    levels_db: Levels
    volts_per_count: float
    start_ns: int = -_FOREVER_NS
    end_ns: int = _FOREVER_NS
    channel_id: str = ""

    def holds(self, channel_id: str, time_ns: int) -> bool:
        """Whether it is for this channel at this time."""
        return self.start_ns <= time_ns < self.end_ns and self.channel_id in ("", channel_id)

    def clashes(self, other: Sensitivity) -> bool:
        """Whether both hold for one channel at some time."""
        is_one_channel = self.channel_id == other.channel_id or not (self.channel_id and other.channel_id)
        return is_one_channel and self.start_ns < other.end_ns and other.start_ns < self.end_ns

    def gain_db(self, frequencies_hz: Levels) -> Levels:
        """What to add to levels re 1 count. Beyond the table's ends, the end's own value holds."""
        sensitivity: Levels = np.interp(frequencies_hz, self.frequencies_hz, self.levels_db)
        return 20 * math.log10(self.volts_per_count) - sensitivity


class Calibration:
    """What to add to levels re 1 count² to make levels re 1 µPa².

    Raises:
        ConfigError: a file cannot be read, or does not say what it must; ``place`` is below this place.
    """

    def __init__(self, params: CalibrationParams, place: str) -> None:
        self._params = params
        self._place = place
        self._inventory: Any = None
        self._table: list[Sensitivity] = []
        if params.stationxml is not None:
            self._inventory = self._read("stationxml", params.stationxml, _station_xml)
        elif params.deployments_csv is not None:
            self._table = self._read("deployments_csv", params.deployments_csv, self._deployments)
        elif params.sensitivity_csv is not None:
            frequencies, levels = self._read("sensitivity_csv", params.sensitivity_csv, _curve)
            self._table = [Sensitivity(frequencies, levels, self._volts())]
        else:
            assert params.sensitivity_db is not None
            self._table = [Sensitivity(np.zeros(1), np.array([params.sensitivity_db]), self._volts())]

    def gain_db(self, channel_id: str, time_ns: int, frequencies_hz: Levels) -> Levels:
        """What to add to the levels of a channel at these frequencies, in dB.

        Raises:
            SourceUnreadable: nothing says how this channel was calibrated at this time.
        """
        if self._inventory is not None:
            return _response_db(self._inventory, channel_id, time_ns, frequencies_hz)
        return self._sensitivity(channel_id, time_ns).gain_db(frequencies_hz)

    def epoch(self, channel_id: str, time_ns: int) -> tuple[str, int]:
        """Something that is equal for times of a channel with equal gains, to keep them by.

        Raises:
            SourceUnreadable: as :meth:`gain_db`.
        """
        if self._inventory is not None:
            return channel_id, _channel_epoch(self._inventory, channel_id, time_ns)
        return channel_id, self._sensitivity(channel_id, time_ns).start_ns

    def _sensitivity(self, channel_id: str, time_ns: int) -> Sensitivity:
        for one in self._table:
            if one.holds(channel_id, time_ns):
                return one
        raise SourceUnreadable(
            f"no deployment in {self._params.deployments_csv} covers {_what(channel_id, time_ns)}"
        )

    def _volts(self) -> float:
        assert self._params.volts_per_count is not None
        return self._params.volts_per_count

    def _read(self, name: str, path: Path, read: Callable[[Path], Made]) -> Made:
        try:
            return read(path)
        except (OSError, ValueError, KeyError) as error:
            what = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ConfigError(f"{path}: {what}", place=f"{self._place}.{name}") from None

    def _deployments(self, path: Path) -> list[Sensitivity]:
        rows = _rows(path)
        _check_titles(rows[0], _DEPLOYMENT_TITLES, needed=("start", "end"))
        found = []
        for number, row in enumerate(rows, 1):
            try:
                found.append(self._deployment(row, path))
            except (OSError, ValueError) as error:
                raise ValueError(f"its deployment {number}: {error}") from None
        for one, other in combinations(found, 2):
            if one.clashes(other):
                raise ValueError(f"two deployments hold at {iso_time(max(one.start_ns, other.start_ns))}")
        return found

    def _deployment(self, row: Mapping[str, str], path: Path) -> Sensitivity:
        volts = float(row["volts_per_count"]) if row.get("volts_per_count") else self._params.volts_per_count
        if volts is None or not 0 < volts < math.inf:
            raise ValueError(
                "volts_per_count is missing or no positive number, in the table and in the config"
            )
        if row.get("sensitivity_csv"):
            frequencies, levels = _curve(path.parent / row["sensitivity_csv"])
        elif row.get("sensitivity_db"):
            frequencies, levels = np.zeros(1), np.array([float(row["sensitivity_db"])])
        else:
            raise ValueError("a deployment has neither sensitivity_db nor sensitivity_csv")
        _check_levels(levels)
        end_ns = _time_ns(row["end"]) if row.get("end") else _FOREVER_NS
        start_ns = _time_ns(row["start"])
        if end_ns <= start_ns:
            raise ValueError(f"a deployment ends at {row['end']}, before it starts at {row['start']}")
        return Sensitivity(frequencies, levels, volts, start_ns, end_ns, row.get("channel_id", ""))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader((line for line in file if not line.startswith("#")), skipinitialspace=True)
        rows = [
            {(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)}
            for row in lines
        ]
    if not rows:
        raise ValueError("it has no rows below its titles")
    return rows


def _curve(path: Path) -> tuple[Levels, Levels]:
    """Frequencies and levels from a CSV file, by frequency."""
    rows = _rows(path)
    _check_titles(rows[0], needed=("frequency_hz", "sensitivity_db"))
    pairs = sorted((float(row["frequency_hz"]), float(row["sensitivity_db"])) for row in rows)
    table = np.array(pairs)
    if not np.isfinite(table).all() or (np.diff(table[:, 0]) <= 0).any() or table[0, 0] < 0:
        raise ValueError("a frequency is negative or comes twice, or a number is none")
    _check_levels(table[:, 1])
    return table[:, 0], table[:, 1]


def _check_titles(row: Mapping[str, str], known: Sequence[str] = (), *, needed: Sequence[str]) -> None:
    """Whether a table has the columns that it needs, and, where ``known`` names all, no others.

    A column with a slip in its title would leave a deployment open for ever, or make it hold for all channels.
    """
    missing = [title for title in needed if title not in row]
    if missing:
        raise ValueError(f"it has no column {' and '.join(missing)}; found {', '.join(row)}")
    strange = [title for title in row if known and title not in known]
    if strange:
        raise ValueError(f"it has the column {' and '.join(strange)}; known are {', '.join(known)}")


def _check_levels(levels_db: Levels) -> None:
    if not ((levels_db >= _LEAST_DB) & (levels_db <= _MOST_DB)).all():  # false for what is no number, too
        raise ValueError(
            f"a sensitivity_db is not between {_LEAST_DB} and {_MOST_DB} dB re 1 V/µPa; such as -169"
        )


def _time_ns(text: str) -> int:
    when = datetime.fromisoformat(text)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * SECOND_NS)


def _station_xml(path: Path) -> Any:
    try:
        return read_inventory(str(path), format="STATIONXML")
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"it is no StationXML: {error}") from error


def _found(inventory: Any, channel_id: str, time_ns: int) -> Any:
    """The channel of an inventory at a time."""
    network, station, location, channel = channel_id.split(".")
    found = inventory.select(
        network=network, station=station, location=location, channel=channel, time=UTCDateTime(ns=time_ns)
    )
    channels = [one for net in found for sta in net for one in sta if one.response is not None]
    if len(channels) > 1:  # obspy counts an epoch's end as its own, also where the next one starts there
        channels = [one for one in channels if one.end_date is None or one.end_date.ns > time_ns]
    if len(channels) != 1:
        raise SourceUnreadable(
            f"StationXML has {len(channels)} responses for {_what(channel_id, time_ns)}; expected 1"
        )
    return channels[0]


def _channel_epoch(inventory: Any, channel_id: str, time_ns: int) -> int:
    start = _found(inventory, channel_id, time_ns).start_date
    return int(start.ns) if start is not None else -_FOREVER_NS


def _response_db(inventory: Any, channel_id: str, time_ns: int, frequencies_hz: Levels) -> Levels:
    """What a response from pascal to counts adds: its stages where it has them, else its overall sensitivity."""
    response = _found(inventory, channel_id, time_ns).response
    overall = response.instrument_sensitivity
    units = (
        tuple((one or "nothing").upper() for one in (overall.input_units, overall.output_units))
        if overall
        else ()
    )
    if not units or units[0] not in _PASCAL or units[1] not in _COUNTS:
        said = f"from {units[0]} to {units[1]}" if units else "of nothing"
        raise SourceUnreadable(f"StationXML's response of {channel_id} is {said}; expected from PA to COUNTS")
    if response.response_stages:
        try:
            with np.errstate(all="ignore"):
                counts = np.abs(response.get_evalresp_response_for_frequencies(frequencies_hz, output="DEF"))
        except Exception as error:  # evalresp's own, and obspy's of several kinds
            raise SourceUnreadable(
                f"StationXML's response of {_what(channel_id, time_ns)} cannot be computed: {error}",
                hint="its stages must follow one another in number and units, and digital ones have a decimation",
            ) from error
    else:
        counts = np.full(len(frequencies_hz), abs(overall.value))
    least = np.min(counts[counts > 0], initial=np.inf)
    if not np.isfinite(least):
        raise SourceUnreadable(f"StationXML's response of {channel_id} is zero")
    # where a response is zero, as a filter's is at 0 Hz, no level can be told: it is not raised without end
    levels: Levels = -20 * np.log10(np.maximum(counts, least))
    return levels - _MICRO_DB


def _what(channel_id: str, time_ns: int) -> str:
    return f"{channel_id} at {iso_time(time_ns)}"
