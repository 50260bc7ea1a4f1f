from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from obspy import UTCDateTime
from obspy.core.inventory import Channel, Inventory, Network, Response, Station
from obspy.core.inventory.response import InstrumentSensitivity, PolesZerosResponseStage
from pydantic import ValidationError

from ingest.errors import ConfigError, SourceUnreadable
from ingest.plugins.calibration import Calibration, CalibrationParams
from tests.plugins.hydrophone import CHANNEL

HZ = np.array([10.0, 100.0, 1000.0, 50_000.0])
JANUARY_NS = UTCDateTime("2019-01-12").ns
VOLTS = 1e-6


def calibration(**params: Any) -> Calibration:
    return Calibration(CalibrationParams(**params), "tile_processor.params.calibration")


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_number() -> None:
    gain_db = calibration(sensitivity_db=-169, volts_per_count=VOLTS).gain_db(CHANNEL, JANUARY_NS, HZ)
    assert gain_db == pytest.approx([169 - 120] * 4)


def test_a_table_is_linear_between_and_holds_beyond_its_ends(tmp_path: Path) -> None:
    path = table(tmp_path / "c.csv", "# by the maker\nfrequency_hz, sensitivity_db\n1000,-170\n100,-160\n")
    made = calibration(sensitivity_csv=path, volts_per_count=VOLTS)
    hz = np.array([10.0, 100, 550, 1000, 5000])
    assert made.gain_db(CHANNEL, JANUARY_NS, hz) == pytest.approx(np.array([160, 160, 165, 170, 170]) - 120)


def test_deployments_go_by_their_dates(tmp_path: Path) -> None:
    table(tmp_path / "third.csv", "frequency_hz,sensitivity_db\n1,-150\n")
    text = (
        "start,end,sensitivity_db,sensitivity_csv,volts_per_count,channel_id\n"
        "2018-01-01,2019-01-12,-160,,,\n"
        f"2019-01-12,2020-01-01T00:00:00Z,-170,,1e-5,{CHANNEL}\n"
        "2020-01-01,,,third.csv,,\n"
    )
    made = calibration(deployments_csv=table(tmp_path / "d.csv", text), volts_per_count=VOLTS)
    gains = [
        made.gain_db(CHANNEL, UTCDateTime(when).ns, HZ)[0]
        for when in ("2018-06-01", "2019-01-12", "2024-01-01")
    ]
    assert gains == pytest.approx([160 - 120, 170 - 100, 150 - 120])
    with pytest.raises(SourceUnreadable, match=r"no deployment in .*d\.csv covers OO\.HYEA2\.\.YDH at 2017"):
        made.gain_db(CHANNEL, UTCDateTime("2017-01-01").ns, HZ)
    with pytest.raises(SourceUnreadable, match="no deployment"):
        made.gain_db("OO.OTHER..YDH", JANUARY_NS, HZ)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "start,end,sensitivity_db\n2018-01-01,,-160\n2019-01-01,,-170\n",
            "two deployments hold at 2019-01-01",
        ),
        ("start,end,sensitivity_db\n2018-01-01,2017-01-01,-160\n", "before it starts"),
        ("start,end,sensitivity_db\nsoon,,-160\n", "soon"),
        ("start,end,sensitivity_db\n2018-01-01,,\n", "neither"),
        ("start,end,sensitivity_db\n2018-01-01,,nan\n", "not between -300 and 100 dB"),
        ("start,end,sensitivity_db\n2018-01-01,,169\n", "deployment 1: .* not between -300 and 100 dB"),
        ("start,stop,sensitivity_db\n2018-01-01,2019-01-01,-160\n", "no column end"),
        ("start,end,sensitivity_db,channel\n2018-01-01,,-160,a.b..c\n", "the column channel; known are"),
        (
            "start,end,sensitivity_csv\n2018-01-01,2019-01-01,none.csv\n",
            r"deployment 1: .*none\.csv",
        ),
        ("start,end,sensitivity_db,volts_per_count\n2018-01-01,,-169,nan\n", "no positive number"),
        ("start,end,sensitivity_db\n", "no rows"),
    ],
)
def test_deployments_that_make_no_sense(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        calibration(deployments_csv=table(tmp_path / "d.csv", text), volts_per_count=VOLTS)


def test_files_that_are_not_there_or_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"calibration\.sensitivity_csv: .*No such file"):
        calibration(sensitivity_csv=tmp_path / "none.csv", volts_per_count=VOLTS)
    with pytest.raises(ConfigError, match="no column frequency_hz"):
        calibration(
            sensitivity_csv=table(tmp_path / "c.csv", "hz,sensitivity_db\n1,2\n"), volts_per_count=VOLTS
        )
    with pytest.raises(ConfigError, match="not between -300 and 100 dB"):
        calibration(
            sensitivity_csv=table(tmp_path / "p.csv", "frequency_hz,sensitivity_db\n1,169\n"),
            volts_per_count=VOLTS,
        )
    with pytest.raises(ConfigError, match="no StationXML"):
        calibration(stationxml=table(tmp_path / "s.xml", "<html/>"))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"sensitivity_db": -169},
        {"sensitivity_db": -169, "stationxml": "s.xml"},
        {"stationxml": "s.xml", "volts_per_count": 1},
    ],
)
def test_one_source_with_what_it_needs(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CalibrationParams(**params)


def station_xml(path: Path, response: Response) -> Path:
    channel = Channel("YDH", "", 44.5, -125.4, -2900, 2900, sample_rate=64_000, response=response)
    channel.start_date, channel.end_date = UTCDateTime("2018-01-01"), UTCDateTime("2020-01-01")
    network = Network("OO", [Station("HYEA2", 44.5, -125.4, -2900, [channel])])
    Inventory([network], "test").write(str(path), format="STATIONXML")
    return path


def test_stationxml_with_an_overall_sensitivity(tmp_path: Path) -> None:
    counts_per_pascal = 10 ** ((-169 + 120 + 120) / 20)
    response = Response(instrument_sensitivity=InstrumentSensitivity(counts_per_pascal, 1000, "PA", "COUNTS"))
    made = calibration(stationxml=station_xml(tmp_path / "s.xml", response))
    assert made.gain_db(CHANNEL, JANUARY_NS, HZ) == pytest.approx([169 - 120] * 4)
    with pytest.raises(SourceUnreadable, match="0 responses for OO"):
        made.gain_db(CHANNEL, UTCDateTime("2021-01-01").ns, HZ)


def test_stationxml_with_a_filter(tmp_path: Path) -> None:
    """One pole at 100 Hz: 3 dB less there, and 6 dB less an octave far below."""
    stage = PolesZerosResponseStage(
        1,
        500.0,
        10_000.0,
        "PA",
        "COUNTS",
        "LAPLACE (RADIANS/SECOND)",
        10_000.0,
        [0j],
        [complex(-2 * math.pi * 100)],
    )
    response = Response(
        instrument_sensitivity=InstrumentSensitivity(500.0, 10_000, "PA", "COUNTS"), response_stages=[stage]
    )
    made = calibration(stationxml=station_xml(tmp_path / "s.xml", response))
    gain_db = made.gain_db(CHANNEL, JANUARY_NS, np.array([0.0, 10.0, 100.0, 10_000.0]))
    flat = 120 - 20 * math.log10(500)
    expected = [flat + 20.04, flat + 3.01, flat]
    assert gain_db[1:] == pytest.approx(expected, abs=0.02)
    assert gain_db[0] == gain_db[1]


def test_stationxml_whose_stages_do_not_fit_names_the_channel(tmp_path: Path) -> None:
    poles: Any = "LAPLACE (RADIANS/SECOND)", 1.0, [], [-1 + 0j]
    stages = [
        PolesZerosResponseStage(number, 500.0, 1.0, *units, *poles)
        for number, units in ((1, ("PA", "V")), (2, ("M", "COUNTS")))
    ]
    overall = InstrumentSensitivity(500.0, 1, "PA", "COUNTS")
    made = calibration(
        stationxml=station_xml(tmp_path / "s.xml", Response(None, overall, response_stages=stages))
    )
    with pytest.raises(
        SourceUnreadable, match=f"response of {CHANNEL} at 2019.* cannot be computed: check_channel"
    ):
        made.gain_db(CHANNEL, JANUARY_NS, HZ)


def test_stationxml_that_ends_in_volts_is_no_calibration_of_counts(tmp_path: Path) -> None:
    """A hydrophone's own response without its recorder's: levels would be wrong by what a count is in volts."""
    response = Response(instrument_sensitivity=InstrumentSensitivity(0.002, 1, "PA", "V"))
    made = calibration(stationxml=station_xml(tmp_path / "s.xml", response))
    with pytest.raises(SourceUnreadable, match="is from PA to V; expected from PA to COUNTS"):
        made.gain_db(CHANNEL, JANUARY_NS, HZ)


def test_stationxml_of_no_pressure(tmp_path: Path) -> None:
    response = Response(instrument_sensitivity=InstrumentSensitivity(500.0, 1, "M/S", "COUNTS"))
    made = calibration(stationxml=station_xml(tmp_path / "s.xml", response))
    with pytest.raises(SourceUnreadable, match="is from M/S to COUNTS; expected from PA"):
        made.gain_db(CHANNEL, JANUARY_NS, HZ)


def test_where_one_epoch_of_stationxml_ends_the_next_one_holds(tmp_path: Path) -> None:
    turn = UTCDateTime("2019-01-12T12:00:00")
    channels = [
        Channel(
            "YDH",
            "",
            0,
            0,
            0,
            0,
            start_date=start,
            end_date=end,
            response=Response(instrument_sensitivity=said),
        )
        for start, end, said in (
            (UTCDateTime("2018-01-01"), turn, InstrumentSensitivity(1e6, 100, "PA", "COUNTS")),
            (turn, None, InstrumentSensitivity(1e7, 100, "PA", "COUNTS")),
        )
    ]
    path = tmp_path / "s.xml"
    station = Station("HYEA2", 0, 0, 0, channels=channels)
    Inventory([Network("OO", stations=[station])], "us").write(str(path), "STATIONXML")
    made = calibration(stationxml=path)

    levels = [made.gain_db(CHANNEL, (turn + s).ns, np.array([100.0]))[0] for s in (-5, 0, 5)]

    assert levels == pytest.approx([0, -20, -20])
