"""Spectrograms and sound clips of MiniSEED: the tile processor ``spectrogram``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar, NamedTuple

import scipy.fft

from ingest.errors import ConfigError, SourceUnreadable
from ingest.plugins.calibration import COUNT_DENSITY, COUNTS, PRESSURE_DENSITY, Calibration
from ingest.plugins.clip import ClipMaker
from ingest.plugins.figure import GAP, MAP_COLOURS, Labels, figure_png, plot_box
from ingest.plugins.miniseed import Recording, iso_time
from ingest.plugins.picture import colours, png
from ingest.plugins.pixels import Axes, Canvas, Limits, Painter
from ingest.plugins.psd import Extremes, Spectra, to_db, window_samples
from ingest.plugins.segments import Cutter, Segment, Sound
from ingest.plugins.spectrogram_params import SpectrogramParams
from ingest.processors import JobContext, Params, Source, TileProcessor, Upload

_IMAGE_COLOURS = 255
_IMAGE_GAP = 255
_SEE_THROUGH = (255, 255, 255)
_SILENCE = Limits(-1.0, 1.0)
_MOST_KITS = 16


class _Kit(NamedTuple):
    """What paints the segments of one channel at one rate."""

    painter: Painter
    axes: Axes


class Spectrogram(TileProcessor[SpectrogramParams]):
    """MiniSEED cut into segments on the UTC grid: a spectrogram picture and a sound clip of each.

    Levels are power spectral densities in dB re 1 count²/Hz, or re 1 µPa²/Hz with ``calibration``. A gap is
    transparent in a picture (grey in a figure) and silence in a clip; a cell of the grid without any sound is skipped
    and counted (``segments_empty``). A segment that crosses two files belongs to the first, and is filled up from the
    second; where that cannot be had, ``partial`` says why. In a folder the files of channels may alternate, with
    up to 16 of others between two of one. Nothing is interpolated.

    Rate, length and channels come from the headers; each channel of a file has its own segments.

    Errors: SourceUnreadable for what is no MiniSEED, truncated, corrupt, of floats or text, of rate 0, from the
    future, or changes its rate; with what and where.
    """

    Params: ClassVar[type[Params]] = SpectrogramParams
    uses_neighbours: ClassVar[bool] = True
    looks_beside: ClassVar[bool] = True
    default_key: ClassVar[str | None] = (
        "{folder}/{instrument}/{YYYY_MM_DD}/{net}_{sta}_{loc}_{cha}_{YYYY_MM_DD}T{HH_MM_SS}_{mmm}{suffix}"
    )
    key_fields = {  # noqa: RUF012
        "folder": "the parameter `folder`",
        "instrument": "the parameter `instrument`, or what the path processor says, or the station's code",
        "net": "the network's code",
        "sta": "the station's code",
        "loc": "the location's code, often empty",
        "cha": "the channel's code",
        "YYYY_MM_DD": "the UTC day on which the segment begins, as `2019_01_12`",
        "HH_MM_SS": "the time at which it begins, as `15_10_00`",
        "mmm": "the milliseconds of that time",
        "suffix": "`.png`, `.wav` or `.flac`",
    }

    def __init__(self, params: SpectrogramParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._calibration = (
            Calibration(params.calibration, "tile_processor.params.calibration")
            if params.calibration
            else None
        )
        self._clips = (
            ClipMaker(params.clip, params.clip_bits, params.clip_scale, params.clip_rate_hz)
            if params.clip != "none"
            else None
        )
        self._kits: dict[tuple[object, float, int], _Kit] = {}
        self._sound = Sound()

    def check(self) -> None:
        """Look whether the job is over files."""
        if self.context.grid is not None:
            raise ConfigError("'spectrogram' serves jobs of type 'files' only", place="ingest_job.type")

    def uploads(self, source: Source) -> Iterator[Upload]:
        """For each segment its picture and its clip, which differ in their suffix."""
        recording = Recording(source.path)
        segment_ns = round(self.params.segment_s * 1000) * 1_000_000
        empty: dict[str, str] = {}
        beside, name = source.beside, source.item.name.rpartition("/")[2]
        with Cutter(
            recording, segment_ns, source.previous, source.following, self._sound, beside, name
        ) as cutter:
            for segment in cutter.segments():
                channel_id = segment.channel_id
                if channel_id not in empty:
                    empty[channel_id] = str(cutter.empty_cells(channel_id))
                yield from self._of_segment(segment, source, empty[channel_id])

    def close(self) -> None:
        """Let go of the painters."""
        self._kits.clear()

    def _of_segment(self, segment: Segment, source: Source, segments_empty: str) -> Iterator[Upload]:
        fields = self._fields(segment, source)
        facts = self._facts(segment) | {"segments_empty": segments_empty}
        if self.params.style != "none":
            body, levels = self._picture(segment)
            metadata = facts | {"kind": "picture"} | levels
            yield Upload(body, "image/png", fields | {"suffix": ".png"}, metadata)
        if self._clips is not None:
            body, done = self._clips.make(segment.pieces, segment.samples, segment.sample_rate_hz)
            metadata = facts | {"kind": "clip"} | done
            yield Upload(body, self._clips.content_type, fields | {"suffix": self._clips.suffix}, metadata)

    def _fields(self, segment: Segment, source: Source) -> dict[str, str | int]:
        net, sta, loc, cha = segment.channel_id.split(".")
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=segment.start_ns // 1_000_000)
        instrument = self.params.instrument or source.facts.get("instrument") or sta
        return {
            "folder": self.params.folder,
            "instrument": instrument,
            "net": net,
            "sta": sta,
            "loc": loc,
            "cha": cha,
            "YYYY_MM_DD": f"{start:%Y_%m_%d}",
            "HH_MM_SS": f"{start:%H_%M_%S}",
            "mmm": f"{start.microsecond // 1000:03d}",
        }

    def _facts(self, segment: Segment) -> dict[str, str]:
        """What is written on a segment's picture and clip alike."""
        facts = {
            "start": iso_time(segment.start_ns),
            "duration_s": f"{self.params.segment_s:g}",
            "sample_rate_hz": f"{segment.sample_rate_hz:.10g}",
            "channel_id": segment.channel_id,
            "gap_fraction": f"{max(0.0, segment.gap_fraction):.6g}",
            "units": COUNTS if self._calibration is None else PRESSURE_DENSITY,
        }
        if segment.overlap_samples:
            facts["overlap_samples"] = str(segment.overlap_samples)
        if segment.partial:
            facts["partial"] = segment.partial
        return facts

    def _picture(self, segment: Segment) -> tuple[bytes, dict[str, str]]:
        """The picture's file, and what its levels are."""
        kit = self._kit_of(segment)
        extremes = Extremes() if self.params.limits == "per_segment" else None
        canvas = kit.painter.paint(segment.pieces, extremes)
        limits = self._limits(extremes)
        facts = {
            "level_min_db": f"{limits.low_db:.2f}",
            "level_max_db": f"{limits.high_db:.2f}",
            "freq_min_hz": f"{kit.axes.freq_min_hz:g}",
            "freq_max_hz": f"{kit.axes.freq_max_hz:g}",
            "freq_scale": kit.axes.freq_scale,
        }
        if canvas.mean_square > 0:
            facts["band_level_db"] = f"{to_db(canvas.mean_square):.3f}"
        if self.params.style == "figure":
            facts["plot_box"] = ",".join(f"{share:.5f}" for share in plot_box(kit.axes))
            return self._figure(segment, canvas, kit.axes, limits), facts
        pixels = canvas.indices(limits, _IMAGE_COLOURS - 1, _IMAGE_GAP)
        palette = (*colours(self.params.colour_map, _IMAGE_COLOURS), _SEE_THROUGH)
        is_whole = kit.painter.rows_seen.all() and not (pixels == _IMAGE_GAP).any()
        return png(pixels, palette, None if is_whole else _IMAGE_GAP), facts

    def _figure(self, segment: Segment, canvas: Canvas, axes: Axes, limits: Limits) -> bytes:
        pixels = canvas.indices(limits, MAP_COLOURS - 1, GAP)
        title = f"{segment.channel_id}   {iso_time(segment.start_ns)[:10]}"
        unit = COUNT_DENSITY if self._calibration is None else PRESSURE_DENSITY
        labels = Labels(
            title, segment.start_ns, self.params.segment_s, unit.replace("^2", "²").replace("uPa", "µPa")
        )
        return figure_png(pixels, axes, limits, labels, self.params.colour_map)

    def _limits(self, extremes: Extremes | None) -> Limits:
        if extremes is None:
            return Limits(*self.params.fixed_limits_db)
        if not 0 < extremes.least < extremes.greatest:
            least = extremes.greatest * 1e-12  # digital silence somewhere: its level has no number
            if not least:
                return _SILENCE
        else:
            least = extremes.least
        low, high = float(to_db(least)), float(to_db(extremes.greatest))
        span = high - low
        return Limits(low + self.params.range_from * span, low + self.params.range_to * span)

    def _kit_of(self, segment: Segment) -> _Kit:
        """What paints this segment; made once for all that are alike."""
        calibration, rate_hz = self._calibration, segment.sample_rate_hz
        epoch = calibration.epoch(segment.channel_id, segment.start_ns) if calibration else None
        alike = (epoch, rate_hz, segment.samples)
        kit = self._kits.pop(alike, None) or self._make_kit(segment)
        self._kits[alike] = kit
        if len(self._kits) > _MOST_KITS:
            del self._kits[next(iter(self._kits))]
        return kit

    def _make_kit(self, segment: Segment) -> _Kit:
        params, rate_hz = self.params, segment.sample_rate_hz
        samples = window_samples(params.window_s, rate_hz, power_of_two=params.power_of_two)
        fft_size = params.fft_size or int(scipy.fft.next_fast_len(samples, real=True))
        if fft_size < samples:
            raise SourceUnreadable(
                f"a window of {samples} samples (at {rate_hz:g} Hz) is longer than fft_size ({fft_size})",
                hint="set tile_processor.params.fft_size or window_s",
            )
        if samples > segment.samples:
            raise SourceUnreadable(
                f"a window of {samples} samples (at {rate_hz:g} Hz) is longer than a segment of {segment.samples}",
                hint="set tile_processor.params.segment_s or window_s",
            )
        spectra = Spectra(rate_hz, params.window, samples, fft_size)
        if self._calibration is not None:
            gain_db = self._calibration.gain_db(segment.channel_id, segment.start_ns, spectra.frequencies_hz)
            spectra = replace(spectra, gain_db=gain_db)
        axes = self._axes(rate_hz)
        return _Kit(Painter(spectra, axes, segment.samples, params.overlap, params.average), axes)

    def _axes(self, rate_hz: float) -> Axes:
        params = self.params
        freq_max_hz = params.freq_max_hz or rate_hz / 2
        if freq_max_hz <= params.freq_min_hz:
            raise SourceUnreadable(
                f"half its sample rate is {freq_max_hz:g} Hz, which is not above freq_min_hz ({params.freq_min_hz:g})",
                hint="set tile_processor.params.freq_min_hz",
            )
        return Axes(params.width_px, params.height_px, params.freq_min_hz, freq_max_hz, params.freq_scale)
