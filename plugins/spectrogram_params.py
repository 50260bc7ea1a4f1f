"""The parameters of ``spectrogram``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ingest.plugins.calibration import CalibrationParams
from ingest.plugins.clip import Bits
from ingest.plugins.picture import ColourMap
from ingest.plugins.pixels import Average, FrequencyScale
from ingest.plugins.psd import WindowName
from ingest.processors import Params

PRESETS: dict[str, dict[str, Any]] = {
    "whaledr": {
        "window": "hann",
        "window_s": 0.056,
        "power_of_two": True,
        "freq_min_hz": 0,
        "freq_max_hz": 8000,
        "freq_scale": "linear",
        "average": "level",
        "colour_map": "bone",
        "limits": "per_segment",
        "range_from": 0.50,
        "range_to": 0.95,
    }
}
LEAST_FIGURE_PX = 100
_CODE = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class SpectrogramParams(Params):
    """Parameters of ``spectrogram``."""

    preset: Literal["whaledr"] | None = Field(
        default=None,
        description="Values for what is not given: `whaledr` is a Hann window of 0.056 s to the nearest power of "
        "two, 0 to 8000 Hz, colour map `bone`, limits at 0.50 and 0.95 of each segment's range in dB.",
    )
    segment_s: float = Field(
        default=5,
        ge=0.1,
        le=600,
        description="Seconds of a segment, on a grid that begins at 1970-01-01 UTC.",
    )
    style: Literal["image", "figure", "none"] = Field(
        default="image",
        description="`image` is the bare picture, `figure` has axes, a colour bar and a title (and "
        "room for them from 100 x 100 pixels on), `none` is no picture.",
    )
    width_px: int = Field(
        default=512, ge=16, le=8192, description="Width of the picture in pixels, without axes."
    )
    height_px: int = Field(
        default=512, ge=16, le=8192, description="Height of the picture in pixels, without axes."
    )
    colour_map: ColourMap = Field(
        default="bone", description="The colours, from the lowest level to the highest."
    )
    window: WindowName = Field(default="hann", description="The window's type.")
    window_s: float = Field(default=0.056, gt=0, le=60, description="Seconds of a window.")
    power_of_two: bool = Field(
        default=True, description="Take the number of samples nearest to `window_s` that is a power of two."
    )
    fft_size: int | None = Field(
        default=None,
        ge=8,
        le=1 << 20,
        description="The FFT's length; default: the window's. More is filled with zeros.",
    )
    overlap: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="The share of a window that the next one takes too. Default: as much as the picture can show "
        "(windows a quarter of a window or a column apart); more is not computed.",
    )
    average: Average = Field(
        default="power",
        description="How spectra that share a pixel are averaged: `power`, as Welch's method does, or `level`, in dB.",
    )
    freq_min_hz: float = Field(default=0, ge=0, description="The picture's lower edge.")
    freq_max_hz: float | None = Field(
        default=None, gt=0, description="The picture's upper edge. Default: half the sample rate."
    )
    freq_scale: FrequencyScale = Field(default="linear", description="The picture's frequency axis.")
    limits: Literal["fixed", "per_segment"] = Field(
        default="fixed",
        description="Colour limits: `fixed`, so that pictures compare, or `per_segment`, by its own range.",
    )
    level_min_db: float | None = Field(
        default=None,
        description="The level of the first colour, with `fixed`. Default: 30 dB re 1 µPa²/Hz; "
        "without `calibration` -10 dB re 1 count²/Hz.",
    )
    level_max_db: float | None = Field(
        default=None,
        description="The level of the last colour, with `fixed`. Default: 110 dB re 1 µPa²/Hz; "
        "without `calibration` 70 dB re 1 count²/Hz.",
    )
    range_from: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Where in the segment's range in dB the colours begin, with `per_segment`.",
    )
    range_to: float = Field(
        default=1,
        ge=0,
        le=1,
        description="Where in the segment's range in dB the colours end, with `per_segment`.",
    )
    clip: Literal["wav", "flac", "none"] = Field(
        default="wav", description="The sound clip beside each picture."
    )
    clip_bits: Bits = Field(default=16, description="Bits of a clip's samples; FLAC has no 32.")
    clip_scale: Literal["counts", "normalised"] | float = Field(
        default="normalised",
        description="`counts` keeps the recorded numbers, a number multiplies them, `normalised` makes the largest of "
        "each segment the largest there can be. Numbers that do not fit into `clip_bits` fail the item.",
    )
    clip_rate_hz: int | None = Field(
        default=None,
        ge=8,
        le=1_000_000,
        description="Resample clips to this rate. Default: the recorded rate.",
    )
    calibration: CalibrationParams | None = Field(
        default=None,
        description="How counts become pressure; without it levels are of counts: `sensitivity_db` (dB re 1 V/µPa), "
        "`sensitivity_csv`, `deployments_csv` or `stationxml`, and `volts_per_count`.",
    )
    folder: str = Field(default="spectrograms", pattern=_CODE, description="The key template's `{folder}`.")
    instrument: str | None = Field(
        default=None,
        pattern=_CODE,
        description="The key template's `{instrument}`. Default: what the path processor says, "
        "else the station's code.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        preset = PRESETS.get(str(given.get("preset"))) if isinstance(given, dict) else None
        return preset | given if preset else given

    @field_validator("segment_s")
    @classmethod
    def _whole_milliseconds(cls, segment_s: float) -> float:
        if abs(segment_s * 1000 - round(segment_s * 1000)) > 1e-6:
            raise ValueError(
                f"{segment_s} is no whole number of milliseconds, which keys tell segments apart by"
            )
        return segment_s

    @field_validator("clip_scale")
    @classmethod
    def _positive(cls, scale: str | float) -> str | float:
        if not isinstance(scale, str) and not 0 < scale < float("inf"):
            raise ValueError(f"{scale} is no factor; expected a positive number, `counts` or `normalised`")
        return scale

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.window_s > self.segment_s:
            raise ValueError(f"window_s ({self.window_s:g}) is longer than segment_s ({self.segment_s:g})")
        if self.freq_max_hz is not None and self.freq_max_hz <= self.freq_min_hz:
            raise ValueError(
                f"freq_max_hz ({self.freq_max_hz:g}) is not above freq_min_hz ({self.freq_min_hz:g})"
            )
        if self.freq_scale == "log" and self.freq_min_hz == 0:
            raise ValueError("a log axis has no 0 Hz; give freq_min_hz")
        if self.range_to <= self.range_from:
            raise ValueError(f"range_to ({self.range_to:g}) is not above range_from ({self.range_from:g})")
        low, high = self.fixed_limits_db
        if high <= low:
            raise ValueError(f"level_max_db ({high:g}) is not above level_min_db ({low:g})")
        if self.style == "figure" and min(self.width_px, self.height_px) < LEAST_FIGURE_PX:
            raise ValueError(
                f"a figure has room for its words from {LEAST_FIGURE_PX} x {LEAST_FIGURE_PX} pixels on"
            )
        if self.clip == "flac" and self.clip_bits == 32:
            raise ValueError("clip_bits is 32; FLAC holds 16 or 24")
        if self.clip == "none" and self.style == "none":
            raise ValueError("clip and style are both none: nothing would be stored")
        return self

    @property
    def fixed_limits_db(self) -> tuple[float, float]:
        """The limits in force, with ``fixed``."""
        low, high = (30.0, 110.0) if self.calibration is not None else (-10.0, 70.0)
        return (
            low if self.level_min_db is None else self.level_min_db,
            high if self.level_max_db is None else self.level_max_db,
        )
