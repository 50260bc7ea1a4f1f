"""Spectra of minutes as NetCDF: dimensions ``time`` and ``frequency``, attributes after the CF conventions.

h5netcdf writes NetCDF 4 with h5py alone. The netCDF4 package would bring a second HDF5 library and 12 MB of wheels,
for 5 MB.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
from numpy.typing import NDArray

from ingest.plugins.millidecade import Bands, hybrid_millidecades
from ingest.version import __version__

MINUTE_S = 60
MEDIA_TYPE = "application/x-netcdf"
REFERENCES = (
    "Martin, S. B., et al. (2021). Hybrid millidecade spectra: A practical format for exchange of long-term ambient "
    "sound data. JASA Express Letters 1, 011203, and its erratum 1, 081201. https://doi.org/10.1121/10.0003324"
)
METHOD = (
    "Mean over a minute of the power spectral density in windows of 1 s (Hann, 50 % overlap), without those that a "
    "gap touches; summed into hybrid millidecade bands and divided by their widths."
)
_COMPRESSED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


@dataclass(frozen=True)
class Minutes:
    """Spectra of minutes of one channel.

    Attributes:
        channel_id: ``NET.STA.LOC.CHA``.
        sample_rate_hz: of the sound.
        units: of ``levels_db``, such as ``dB re 1 uPa^2/Hz``.
        start_s: when each minute starts, in whole seconds since 1970 UTC, ascending.
        effort_s: how many seconds of sound each spectrum is made of.
        levels_db: (minutes, bands) of power spectral density; NaN where a minute has none.
    """

    channel_id: str
    sample_rate_hz: float
    units: str
    start_s: NDArray[np.int64]
    effort_s: NDArray[np.float32]
    levels_db: NDArray[np.float32]

    @property
    def bands(self) -> Bands:
        """The bands that the levels are of."""
        return hybrid_millidecades(self.sample_rate_hz / 2)


def to_netcdf(
    minutes: Minutes,
    attributes: Mapping[str, str],
    percentiles: Mapping[int, NDArray[np.float32]] | None = None,
) -> bytes:
    """A NetCDF file of these minutes; equal minutes give equal bytes.

    Args:
        minutes: at least one.
        attributes: further global attributes.
        percentiles: of the minutes' levels in each band, by per cent.
    """
    body = io.BytesIO()
    with h5netcdf.File(body, "w") as file:
        shape = minutes.levels_db.shape
        file.dimensions = {"time": shape[0], "frequency": shape[1], "bound": 2}
        file.attrs.update(_global_attributes(minutes) | dict(attributes))
        _write_axes(file, minutes)
        chunks = (min(shape[0], MINUTE_S), shape[1])
        psd = _variable(
            file, "psd", ("time", "frequency"), minutes.levels_db, chunks=chunks, fillvalue=np.float32("nan")
        )
        _describe(psd, long_name="power spectral density level of sound", units=minutes.units)
        _describe(psd, ancillary_variables="effort", cell_methods="time: mean frequency: mean")
        effort = _variable(file, "effort", ("time",), minutes.effort_s)
        _describe(effort, long_name="seconds of sound that the spectrum is made of", units="s")
        if percentiles:
            _write_percentiles(file, minutes.units, percentiles)
    return body.getvalue()


def _global_attributes(minutes: Minutes) -> dict[str, str | float]:
    return {
        "Conventions": "CF-1.11",
        "title": f"Hybrid millidecade spectra of {minutes.channel_id}",
        "source": "recording in MiniSEED",
        "history": f"spectra made by Ingest {__version__}",
        "references": REFERENCES,
        "comment": METHOD,
        "channel_id": minutes.channel_id,
        "sample_rate_hz": minutes.sample_rate_hz,
    }


def _write_axes(file: Any, minutes: Minutes) -> None:
    bands = minutes.bands
    time = _variable(file, "time", ("time",), minutes.start_s)
    _describe(time, standard_name="time", long_name="start of the minute", axis="T", bounds="time_bounds")
    _describe(time, units="seconds since 1970-01-01 00:00:00", calendar="standard")
    ends = np.stack((minutes.start_s, minutes.start_s + MINUTE_S), axis=1)
    _variable(file, "time_bounds", ("time", "bound"), ends)
    frequency = _variable(file, "frequency", ("frequency",), bands.centres_hz)
    _describe(frequency, standard_name="sound_frequency", long_name="centre of the band", units="Hz")
    _describe(frequency, bounds="frequency_bounds")
    edges = np.stack((bands.edges_hz[:-1], bands.edges_hz[1:]), axis=1)
    _variable(file, "frequency_bounds", ("frequency", "bound"), edges)


def _write_percentiles(file: Any, units: str, percentiles: Mapping[int, NDArray[np.float32]]) -> None:
    file.dimensions["percentile"] = len(percentiles)
    percent = _variable(file, "percentile", ("percentile",), np.array(list(percentiles), np.float32))
    _describe(percent, long_name="per cent of the minutes whose level is lower", units="percent")
    table = np.stack(list(percentiles.values()))
    levels = _variable(
        file, "psd_percentile", ("percentile", "frequency"), table, fillvalue=np.float32("nan")
    )
    _describe(levels, long_name="percentiles of the minutes' levels", units=units)


def _variable(file: Any, name: str, dimensions: tuple[str, ...], values: NDArray[Any], **options: Any) -> Any:
    return file.create_variable(name, dimensions, values.dtype, data=values, **_COMPRESSED, **options)


def _describe(variable: Any, **attributes: str) -> None:
    variable.attrs.update(attributes)


def from_netcdf(path: Path) -> Minutes:
    """The minutes of a file that :func:`to_netcdf` made.

    Raises:
        OSError, KeyError: it is none.
    """
    with h5netcdf.File(path, "r") as file:
        return Minutes(
            channel_id=str(file.attrs["channel_id"]),
            sample_rate_hz=float(file.attrs["sample_rate_hz"]),
            units=str(file.variables["psd"].attrs["units"]),
            start_s=file.variables["time"][:],
            effort_s=file.variables["effort"][:],
            levels_db=file.variables["psd"][:],
        )
