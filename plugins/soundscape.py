"""The tile processor ``soundscape``: a spectrum a minute, in hybrid millidecade bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ingest.errors import ConfigError, SourceUnreadable
from ingest.items import Item
from ingest.plugins.calibration import COUNT_DENSITY, PRESSURE_DENSITY, Calibration, CalibrationParams
from ingest.plugins.millidecade import Bands, hybrid_millidecades
from ingest.plugins.miniseed import SECOND_NS, Recording, iso_time
from ingest.plugins.psd import LEAST_WINDOW_SAMPLES, Spectra, to_db
from ingest.plugins.segments import Cutter, Segment, Sound
from ingest.plugins.soundscape_file import MEDIA_TYPE, MINUTE_S, Minutes, to_netcdf
from ingest.processors import JobContext, Params, Source, TileProcessor, Upload

MINUTE_NS = MINUTE_S * SECOND_NS
KIND = "soundscape"
ANALYSERS_KEPT = 8


class SoundscapeParams(Params):
    """Parameters of ``soundscape``."""

    calibration: CalibrationParams | None = Field(
        default=None, description="How counts become pressure. Without it, levels are re 1 count²/Hz."
    )


class Soundscape(TileProcessor[SoundscapeParams]):
    """Spectra of each UTC minute of a MiniSEED file, one NetCDF file for each channel of it.

    Windows of 1 s (Hann, half overlapping) are averaged over the minute, in power, and summed into hybrid millidecade
    bands: 1 Hz wide up to 434 Hz, then a thousandth of a decade. A window that a gap touches is left out;
    ``effort`` says how many seconds of sound a minute's spectrum is made of. A minute belongs to the first file that
    has a sample in it, and is filled up from the file that follows. Minutes without a whole second are left out.
    """

    Params: ClassVar[type[Params]] = SoundscapeParams
    key_fields: ClassVar[dict[str, str]] = {"channel_id": "the channel, as `OO.HYEA2..YDH`"}
    uses_neighbours: ClassVar[bool] = True
    looks_beside: ClassVar[bool] = True
    default_key: ClassVar[str | None] = "{parent}{stem}_{channel_id}{suffix}"

    def __init__(self, params: SoundscapeParams, context: JobContext) -> None:
        super().__init__(params, context)
        place = "tile_processor.params.calibration"
        self._calibration = Calibration(params.calibration, place) if params.calibration else None
        self._analysers: dict[tuple[float, object], Analyser] = {}
        self._sound = Sound()

    def check(self) -> None:
        """Refuse a job over tiles, and keys that would name NetCDF files as something else."""
        if self.context.grid is not None:
            raise ConfigError("'soundscape' serves jobs of type 'files' only", place="ingest_job.type")
        key = str(self.context.config.get("destination", {}).get("key") or self.default_key)
        if "{suffix}" not in key and not key.endswith(".nc"):
            raise ConfigError(
                f"the key template {key!r} has no {{suffix}}: its objects would not be named .nc",
                place="destination.key",
                hint="set '{parent}{stem}{suffix}', or '{parent}{stem}_{channel_id}{suffix}' for several channels",
            )

    def suffix(self, item: Item) -> str | None:
        """Always ``.nc``."""
        return ".nc"

    @property
    def units(self) -> str:
        """What levels are relative to."""
        return PRESSURE_DENSITY if self._calibration else COUNT_DENSITY

    def uploads(self, source: Source) -> Iterator[Upload]:
        recording = Recording(source.path)
        beside, name = source.beside, source.item.name.rpartition("/")[2]
        with Cutter(
            recording, MINUTE_NS, source.previous, source.following, self._sound, beside, name
        ) as cutter:
            for channel_id, segments in groupby(cutter.segments(), lambda segment: segment.channel_id):
                yield from self._channel(channel_id, segments)

    def _channel(self, channel_id: str, segments: Iterator[Segment]) -> Iterator[Upload]:
        starts: list[int] = []
        efforts: list[float] = []
        levels: list[NDArray[np.float32]] = []
        partial: list[str] = []
        too_short, rate_hz = 0, 0.0
        for segment in segments:
            analyser, rate_hz = self._analyser(segment), segment.sample_rate_hz
            effort_s, density = analyser.minute(segment.pieces)
            if density is None:
                too_short += 1
                continue
            starts.append(segment.start_ns // SECOND_NS)
            efforts.append(effort_s)
            levels.append(to_db(density).astype(np.float32))
            if segment.partial:
                partial.append(f"{iso_time(segment.start_ns)[:16]}: {segment.partial}")
        if not starts:
            return
        minutes = Minutes(
            channel_id, rate_hz, self.units, np.array(starts), np.array(efforts, np.float32), np.stack(levels)
        )
        metadata = _metadata(minutes, partial, too_short)
        body = to_netcdf(minutes, {"partial": metadata["partial"]} if partial else {})
        yield Upload(body, MEDIA_TYPE, {"channel_id": channel_id}, metadata)

    def _analyser(self, segment: Segment) -> Analyser:
        """One that fits the segment; the last ones are kept, as neighbours have the rate and calibration in common."""
        epoch: object = None
        if self._calibration:
            epoch = self._calibration.epoch(segment.channel_id, segment.start_ns)
        key = segment.sample_rate_hz, epoch
        if key not in self._analysers:
            if len(self._analysers) >= ANALYSERS_KEPT:
                self._analysers.pop(next(iter(self._analysers)))
            self._analysers[key] = self._new_analyser(segment)
        return self._analysers[key]

    def _new_analyser(self, segment: Segment) -> Analyser:
        if self._calibration is None:
            return Analyser(segment.sample_rate_hz)
        window = window_of_a_second(segment.sample_rate_hz)
        frequencies = np.arange(window // 2 + 1, dtype=np.float64) * np.float64(
            segment.sample_rate_hz / window
        )
        gain_db = self._calibration.gain_db(segment.channel_id, segment.start_ns, frequencies)
        return Analyser(segment.sample_rate_hz, gain_db)


def window_of_a_second(sample_rate_hz: float) -> int:
    """How many samples a window has.

    Raises:
        SourceUnreadable: too few for a spectrum.
    """
    samples = round(sample_rate_hz)
    if samples < LEAST_WINDOW_SAMPLES:
        raise SourceUnreadable(f"a rate of {sample_rate_hz:g} Hz is too low for spectra of 1 Hz")
    return samples


class Analyser:
    """Makes spectra of minutes at one sample rate with one calibration.

    Raises:
        SourceUnreadable: the rate is too low for windows of a second.
    """

    def __init__(self, sample_rate_hz: float, gain_db: float | NDArray[np.float64] = 0.0) -> None:
        self._window = window_of_a_second(sample_rate_hz)
        self._rate_hz = sample_rate_hz
        self._spectra = Spectra(sample_rate_hz, "hann", self._window, self._window, gain_db)
        bands = hybrid_millidecades(sample_rate_hz / 2)
        self._weights = bands.weights(self._window // 2 + 1, self._spectra.bin_hz)

    def minute(self, pieces: Sequence[tuple[int, NDArray[Any]]]) -> tuple[float, NDArray[np.float64] | None]:
        """How many seconds went into it, and the mean density in each band; None where no piece has a second."""
        frames, samples_used = 0, 0
        total = np.zeros(self._window // 2 + 1)
        for _, samples in pieces:
            starts = range(0, len(samples) - self._window + 1, self._window // 2)
            if starts:
                total += self._spectra.density(samples, starts).sum(axis=0, dtype=np.float64)
                frames += len(starts)
                samples_used += starts[-1] + self._window
        if not frames:
            return 0.0, None
        density: NDArray[np.float64] = self._weights @ (total / frames)
        return samples_used / self._rate_hz, density


def _metadata(minutes: Minutes, partial: list[str], too_short: int) -> dict[str, str]:
    first, last = int(minutes.start_s[0]), int(minutes.start_s[-1])
    metadata = {
        "kind": KIND,
        "start": iso_time(first * SECOND_NS),
        "duration_s": str(last - first + MINUTE_S),
        "channel_id": minutes.channel_id,
        "sample_rate_hz": f"{minutes.sample_rate_hz:.15g}",
        "units": minutes.units,
        "minutes": str(len(minutes.start_s)),
        "effort_s": f"{float(minutes.effort_s.sum()):.6g}",
        "broadband_db": f"{broadband_db(minutes):.3f}",
    }
    if too_short:
        metadata["minutes_empty"] = str(too_short)
    if partial:
        metadata["partial"] = "; ".join(partial)
    return metadata


def broadband_db(minutes: Minutes) -> float:
    """The level of all sound above half a hertz, its power averaged over the minutes by their effort.

    It is re 1 µPa, or re 1 count.
    """
    bands: Bands = minutes.bands
    power = (10 ** (minutes.levels_db[:, 1:].astype(np.float64) / 10)) @ bands.widths_hz[1:]
    return float(to_db(np.average(power, weights=minutes.effort_s)))
