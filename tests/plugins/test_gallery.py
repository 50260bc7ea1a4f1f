"""What the gallery's finisher writes; ``test_gallery_browser.py`` looks at it in a browser."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ingest.plugins import stored_segments
from ingest.plugins.gallery import Gallery, GalleryParams
from ingest.plugins.gallery_data import call
from ingest.plugins.stored_segments import SegmentHours, split_suffix, utc_start
from ingest.processors import Addition, Result
from tests.plugins.gallery_site import DAY, Rows, context, row


def additions(scratch: Path, rows: list[Result], **params: Any) -> dict[str, Addition]:
    made = list(Gallery(GalleryParams(**params), context(scratch / "scratch")).additions(Rows(scratch, rows)))
    assert len({each.key for each in made}) == len(made)
    return {each.key: each for each in made}


def argument(addition: Addition) -> Any:
    """What a data script hands to the page."""
    assert isinstance(addition.body, bytes)
    text = addition.body.decode()
    return json.loads(text[text.index("(") + 1 : text.rindex(")")])


def segment_rows(count: int, **facts: str) -> list[Result]:
    rows = []
    for number in range(count):
        start = DAY + timedelta(seconds=5 * number)
        stem = f"a/{start:%H_%M_%S}"
        rows += [
            row(f"{stem}.png", "picture", start, **facts),
            row(f"{stem}.wav", "clip", start, **facts),
        ]
    return rows


def test_each_hour_is_a_script_of_its_own(tmp_path: Path) -> None:
    made = additions(tmp_path, segment_rows(1441))

    index = argument(made["index_files/hours.js"])
    assert {hour: summary[0] for hour, summary in index["hours"].items()} == {
        "2019-01-12T00": 720,
        "2019-01-12T01": 720,
        "2019-01-12T02": 1,
    }
    hour = argument(made["index_files/hours/2019-01-12T01.js"])
    assert (hour["prefix"], hour["segments"][1][:2]) == ("a/01_", [5000, "00_05"])
    assert len(hour["facts"]) == 1, "facts that all have in common are written once"
    assert hour["facts"][0]["clip"] == ".wav"
    assert made["index.html"].content_type.startswith("text/html")


def test_what_cannot_be_placed_is_counted(tmp_path: Path) -> None:
    rows = [
        row("a.png", "picture", "yesterday"),
        row("b.png", "picture", "2019-01-12T00:00:00"),
        row("c.nc", "spectra", DAY),
    ]
    index = argument(additions(tmp_path, rows)["index_files/hours.js"])

    assert index["hours"] == {}
    assert index["left_out"] == {"without a start": 2, "other objects": 1}


def test_numbers_that_are_none_do_not_reach_the_page(tmp_path: Path) -> None:
    odd = {"gap_fraction": "nan", "level_min_db": "-inf", "sample_rate_hz": "fast", "duration_s": ""}
    made = additions(tmp_path, segment_rows(1, **odd))

    hour = argument(made["index_files/hours/2019-01-12T00.js"])
    assert hour["segments"][0][3:6] == [0.0, "", None]
    assert "sample_rate_hz" not in hour["facts"][0]


def test_holds_no_more_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = additions(tmp_path, segment_rows(3000))
    monkeypatch.setattr(stored_segments, "ROWS_HELD", 7)

    assert additions(tmp_path, segment_rows(3000)) == expected
    assert list((tmp_path / "scratch").iterdir()) == [], "scratch is cleaned up"


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = segment_rows(50)

    assert additions(tmp_path, rows) == additions(tmp_path, rows[::-1])


def test_a_picture_says_more_than_its_clip(tmp_path: Path) -> None:
    rows = [
        row("a.wav", "clip", DAY, clip_scale="raw", partial="clip's"),
        row("a.png", "picture", DAY, partial="why"),
    ]
    with SegmentHours(rows, tmp_path) as hours:
        ((hour, (segment,)),) = hours

    assert hour == "2019-01-12T00"
    assert (segment.facts["partial"], segment.suffixes) == ("why", {"clip": ".wav", "picture": ".png"})


def test_pages_of_one_destination_do_not_share_files(tmp_path: Path) -> None:
    made = additions(tmp_path, segment_rows(1), page="days/2019-01-12.html", title="A & B")

    assert all(key.startswith(("days/2019-01-12_files/", "days/2019-01-12.html")) for key in made)
    assert argument(made["days/2019-01-12_files/hours.js"])["root"] == "../"
    page = made["days/2019-01-12.html"].body
    assert isinstance(page, bytes)
    assert b"<title>A &amp; B</title>" in page
    assert b'src="./2019-01-12_files/app.js"' in page
    assert b"{{" not in page


@pytest.mark.parametrize("page", ["index", "/index.html", "../index.html", "a//b.html", "./a.html"])
def test_a_page_needs_a_key_of_its_own(page: str) -> None:
    with pytest.raises(ValidationError, match="no key of a page"):
        GalleryParams(page=page)


def test_a_script_of_data_holds_nothing_but_data() -> None:
    made = call("f", ["</script><!--", "\u2028é"])

    assert made == rb'f(["\u003c/script>\u003c!--","\u2028\u00e9"]);' + b"\n"


def test_suffixes_and_starts() -> None:
    assert split_suffix("a.b/c") == ("a.b/c", "")
    assert split_suffix("a/.c") == ("a/.c", "")
    assert split_suffix("a/b.c.png") == ("a/b.c", ".png")
    assert utc_start("2019-01-12T02:00:00+02:00") == datetime(2019, 1, 12, tzinfo=UTC)
