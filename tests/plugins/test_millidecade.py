from __future__ import annotations

import json

import numpy as np
import pytest

from ingest.plugins.millidecade import hybrid_millidecades
from ingest.plugins.psd import to_db
from ingest.plugins.soundscape import Analyser
from tests.plugins.pypam_levels import RECORDED, SAMPLE_RATE_HZ, sound

PEER = json.loads(RECORDED.read_text())


def test_bands_are_the_published_ones() -> None:
    bands = hybrid_millidecades(32_000)

    assert len(bands.centres_hz) == 2303
    assert bands.centres_hz[:3].tolist() == [0, 1, 2]
    assert bands.edges_hz[433:437] == pytest.approx([432.5, 433.5, 10**2.638, 10**2.639])
    assert bands.centres_hz[435] == pytest.approx(10**2.6385)
    assert np.isclose(bands.edges_hz, 1000, rtol=1e-12).any(), "decades are edges"
    assert bands.edges_hz[-2:] == pytest.approx([10**4.505, 32_000]), "the last band ends with the sound"
    assert bands.centres_hz[-1] == 32_000


def test_bands_are_those_of_pypam() -> None:
    assert hybrid_millidecades(SAMPLE_RATE_HZ / 2).edges_hz == pytest.approx(PEER["edges_hz"], rel=1e-8)


def test_levels_are_those_of_pypam() -> None:
    _, density = Analyser(SAMPLE_RATE_HZ).minute([(0, sound())])

    # PyPAM leaves a part of the Nyquist frequency's power out of the last band
    difference_db = to_db(density)[:-1] - PEER["levels_db"][:-1]
    assert np.abs(difference_db).max() < 0.001


@pytest.mark.parametrize("rate_hz", [20, 872, 1000, 999.7, 8001, 64_000.3, 256_000])
def test_bands_keep_all_power(rate_hz: float) -> None:
    size = round(rate_hz)
    power = np.random.default_rng(1).random(size // 2 + 1)
    bands = hybrid_millidecades(rate_hz / 2)
    density = bands.weights(len(power), rate_hz / size) @ power

    assert (density * bands.widths_hz).sum() == pytest.approx(power.sum() * rate_hz / size, rel=1e-12)


def test_a_bin_is_shared_where_a_band_ends_within_it() -> None:
    bands = hybrid_millidecades(4000)
    power = np.zeros(4001)
    power[1000] = 1
    shares = bands.weights(4001, 1) @ power * bands.widths_hz

    assert np.flatnonzero(shares).tolist() == [796, 797]
    assert shares[796:798] == pytest.approx([0.5, 0.5]), "a decade is an edge, and halves the bin at 1000 Hz"


def test_there_are_no_bands_below_a_hertz() -> None:
    with pytest.raises(ValueError, match=r"0\.5 Hz"):
        hybrid_millidecades(0.5)
