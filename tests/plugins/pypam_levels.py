"""What PyPAM makes of a sound, for a comparison: writes ``data/pypam_levels.json``.

Run it where PyPAM is installed (``pip install lifewatch-pypam``; it brings numba, librosa and an older xarray, and so
has an environment of its own): ``python tests/plugins/pypam_levels.py``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECORDED = Path(__file__).parent / "data" / "pypam_levels.json"
SAMPLE_RATE_HZ = 8000


def sound() -> NDArray[np.int32]:
    """A minute of red noise with two tones, in counts."""
    noise = np.random.default_rng(2019).standard_normal(60 * SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(noise)
    spectrum /= np.sqrt(1 + np.arange(len(spectrum)) / 6000)
    seconds = np.arange(len(noise)) / SAMPLE_RATE_HZ
    tones = 500 * np.sin(2 * np.pi * 20 * seconds) + 90 * np.sin(2 * np.pi * 1234.5 * seconds)
    samples: NDArray[np.int32] = np.round(1000 * np.fft.irfft(spectrum, len(noise)) + tones).astype(np.int32)
    return samples


def levels() -> dict[str, Any]:
    """PyPAM's bands and levels, in dB re 1 count²/Hz."""
    import xarray
    from pypam import utils
    from pypam.signal import Signal

    samples = sound().astype(float)
    frequencies, density, _ = Signal(samples, SAMPLE_RATE_HZ).spectrum(
        nfft=SAMPLE_RATE_HZ, overlap=0.5, db=False
    )
    edges, centres = utils.get_hybrid_millidecade_limits([0, SAMPLE_RATE_HZ / 2], nfft=SAMPLE_RATE_HZ)
    spectrum = xarray.DataArray(
        [density], coords={"id": [0], "frequency": frequencies}, dims=["id", "frequency"]
    )
    made = utils.spectra_ds_to_bands(spectrum, edges, centres, fft_bin_width=1.0)
    return {
        "pypam": version("lifewatch-pypam"),
        "edges_hz": [float(f"{edge:.9g}") for edge in edges],
        "levels_db": [round(float(level), 4) for level in made.values[0]],
    }


if __name__ == "__main__":
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(levels()) + "\n")
    print("wrote", RECORDED)
