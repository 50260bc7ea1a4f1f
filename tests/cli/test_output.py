"""Sizes, durations and tables as people read them."""

from __future__ import annotations

import json

import pytest

from ingest.cli.output import (
    emit_json,
    human_bytes,
    human_duration,
    human_rate,
    human_time,
    plural,
    printable,
    printable_lines,
    table,
)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_288_490_189, "1.2 GiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 << 80, "5242880.0 EiB"),
    ],
)
def test_human_bytes(size_bytes: int, text: str) -> None:
    assert human_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0.42, "0.4 s"),
        (42, "42 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (18_180, "5 h 3 min"),
        (187_200, "2 d 4 h"),
        (86_400, "1 d"),
    ],
)
def test_human_duration(duration_s: float, text: str) -> None:
    assert human_duration(duration_s) == text


@pytest.mark.parametrize(
    ("items_per_s", "text"),
    [
        (0, "0 items/s"),
        (12_345.6, "12,346 items/s"),
        (1, "1.0 items/s"),
        (0.1, "6.0 items/min"),
        (0.5, "30 items/min"),
        (1 / 7200, "0.5 items/h"),
    ],
)
def test_human_rate(items_per_s: float, text: str) -> None:
    assert human_rate(items_per_s) == text


@pytest.mark.parametrize("width", [16, 24, 80])
def test_a_narrow_terminal_folds_no_id_and_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))

    table(["job", "name", "items"], [("k7f3q2xm", "a name of many words", "12,345")], right=["items"])

    out = capsys.readouterr().out
    assert "k7f3q2xm" in out
    assert "12,345" in out


def test_human_time() -> None:
    assert human_time(1_795_849_865) == "2026-11-28 07:11 UTC"


def test_plural() -> None:
    assert [plural(1, "file"), plural(1200, "file"), plural(0, "batch", "batches")] == [
        "1 file",
        "1,200 files",
        "0 batches",
    ]


def test_what_could_steer_a_terminal_is_escaped() -> None:
    assert printable("a\x1b[31mb\udce9\tü\n\u202e") == "a\\x1b[31mb\\udce9\\tü\\n\\u202e"
    assert printable_lines("no\x07\n  hint: yes") == "no\\x07\n  hint: yes"


def test_json_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"path": "a\nb\udce9"})

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"path": "a\nb\udce9"}


def test_a_table_is_plain_columns_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    table(["name", "items"], [("a", 5), ("long name", 1200), (None, "x\ny")], right={"items"})

    assert (
        capsys.readouterr().out == "name       items\na              5\nlong name   1200\n             x y\n"
    )
