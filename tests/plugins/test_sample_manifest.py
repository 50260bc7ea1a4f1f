from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.plugins.sample_manifest import SampleManifest, SampleManifestParams
from ingest.processors import Result
from tests.plugins.gallery_site import DAY, Rows, context, row

STEM = "megaptera/HYDBBA105/2019_01_14/OO_HYEA1__YDH_2019_01_14T00_00_05_000"


def listed(scratch: Path, rows: list[Result], **params: Any) -> list[str]:
    finisher = SampleManifest(SampleManifestParams(**params), context(scratch / "scratch"))
    (addition,) = [
        (each.key, each.content_type, each.body.read_text() if isinstance(each.body, Path) else "")
        for each in finisher.additions(Rows(scratch, rows))
    ]
    assert addition[:2] == (params.get("key", "whalemanifest.json"), "application/json")
    assert list((scratch / "scratch").iterdir()) == []
    found: list[str] = json.loads(addition[2])
    return found


def test_lists_pictures_as_whaledr_does(tmp_path: Path) -> None:
    rows = [row(STEM + ".png", "picture", DAY), row(STEM + ".wav", "clip", DAY)]

    assert listed(tmp_path, rows, below="megaptera/", key="megaptera/whalemanifest.json") == [
        "HYDBBA105___2019_01_14___OO_HYEA1__YDH_2019_01_14T00_00_05_000"
    ]
    assert listed(tmp_path, rows) == [STEM.replace("/", "___")]


def test_keeps_the_order_and_other_delimiters(tmp_path: Path) -> None:
    rows = [row(f"a/{number}.b.png", "picture", DAY) for number in (3, 1, 2)]

    assert listed(tmp_path, rows, delimiter="____") == ["a____3.b", "a____1.b", "a____2.b"]


def test_an_empty_list_is_one(tmp_path: Path) -> None:
    assert listed(tmp_path, [row("x/a.png", "picture", DAY)], below="megaptera") == []


def test_says_where_a_name_holds_the_delimiter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert listed(tmp_path, [row("a/OO___YDH.png", "picture", DAY)]) == ["a___OO___YDH"]

    assert "1 name holds '___'" in caplog.text
