"""The gallery in a real Chromium: opened from a folder, and from a web server as a bucket has one."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ingest.plugins.gallery import GalleryParams
from tests.plugins.browser import Tab, started, tab
from tests.plugins.gallery_site import (
    DAY,
    Rows,
    clip_wav,
    finish,
    make_site,
    picture_png,
    row,
    served,
    stem,
)

CURSOR = "parseFloat(document.getElementById('stage-cursor').style.getPropertyValue('--at'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def whole_day(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "day"
    make_site(folder, 17_280)
    return folder


@pytest.fixture
def page(browser: Browser) -> Iterator[Tab]:
    with tab(browser) as made:
        yield made
        assert made.complaints == []


def small_site(folder: Path, keys: list[str], **facts: str) -> Path:
    """A gallery of segments with these stems, five seconds apart from midnight on."""
    rows = []
    for number, key in enumerate(keys):
        for kind, suffix, body in (
            ("picture", ".png", picture_png(number)),
            ("clip", ".wav", clip_wav(number)),
        ):
            path = folder / (key + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            rows.append(row(key + suffix, kind, DAY + timedelta(seconds=5 * number), **facts))
    finish(folder, Rows(folder, rows), GalleryParams())
    return folder


class TestWholeDay:
    def test_opens_from_a_folder_and_asks_nothing_of_the_outside(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day)

        assert page.loaded(".cell img")
        assert "17,040 segments" in (page.page.locator("#summary").text_content() or "")
        assert page.page.locator(".bar:enabled").count() == 24
        assert {url.split(":")[0] for url in page.requests} <= {"file", "data"}

    def test_loads_pictures_only_as_they_come_into_view(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day)
        page.page.wait_for_load_state("networkidle")
        pictures = [url for url in page.requests if url.endswith(".png")]
        assert 20 < len(pictures) < 400

        page.page.locator("[data-hour='2019-01-12T22']").first.click()
        page.await_chosen("22:00:00")

        assert page.loaded("#stage-img")
        assert page.page.locator(".cell").count() < 4 * 720, "hours out of view let go of their elements"
        assert not any("T12_30" in url for url in page.requests), "what was passed over is not loaded"

    def test_a_click_plays_the_clip_with_a_moving_cursor(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day)
        page.page.locator(".cell").nth(7).click()
        page.await_playing()

        assert page.chosen() == "00:00:35"
        before = page.page.evaluate(CURSOR)
        page.until(f"{CURSOR} > {before + 3}")
        assert "cursor" in page.page.locator(".cell[aria-current] .cursor").get_attribute("class")  # type: ignore[operator]
        page.page.keyboard.press(" ")
        page.until("!Gallery.player.playing")

    def test_a_position_asked_for_in_a_clip_that_loads_is_not_another_clips(
        self, page: Tab, whole_day: Path
    ) -> None:
        page.open(whole_day)
        page.page.evaluate("""() => {
            const cells = document.querySelectorAll(".cell");
            cells[3].click();
            Gallery.player.seek(0.9);
            cells[5].click();
            Gallery.player.audio.addEventListener("playing", () => (window.began ??= Gallery.player.fraction));
        }""")

        page.until("window.began !== undefined")

        assert page.page.evaluate("window.began") < 0.5

    def test_a_click_into_the_large_picture_plays_from_there(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day, "#2019-01-12T03:00:05Z")
        page.await_chosen("03:00:05")
        box = page.page.locator("#stage-picture").bounding_box()
        assert box
        page.page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + 50)
        page.await_playing()

        assert 58 < page.page.evaluate(CURSOR) < 75

    def test_plays_on_to_the_next(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day)
        page.page.locator(".cell").nth(0).click()
        page.page.locator("#play-on").check()
        page.page.locator("#speed").select_option("8")

        page.await_chosen("00:00:10")

    def test_arrow_keys_walk_and_play_while_one_plays(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day)
        page.page.locator(".cell").nth(0).click()
        page.await_playing()
        page.page.keyboard.press("ArrowRight")
        page.await_chosen("00:00:05")
        page.await_playing()
        columns = page.page.evaluate("Gallery.grid.rowLength()")
        page.page.keyboard.press("ArrowDown")

        page.await_chosen(f"00:{(5 * columns + 5) // 60:02d}:{(5 * columns + 5) % 60:02d}")

    def test_walks_through_the_borders_of_hours(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day, "#2019-01-12T06:59:55Z")
        page.await_chosen("06:59:55")
        page.page.keyboard.press("ArrowRight")
        page.await_chosen("07:00:00")
        page.page.keyboard.press("End")
        page.await_chosen("07:59:55")
        page.page.keyboard.press("PageDown")
        page.await_chosen("08:00:00")
        page.page.keyboard.press("ArrowLeft")
        page.await_chosen("07:59:55")

    def test_says_where_the_day_ends(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day, "#2019-01-12T23:59:55Z")
        page.await_chosen("23:59:55")
        page.page.keyboard.press("ArrowRight")

        page.until("document.getElementById('live').textContent.includes('last segment')")

    def test_gaps_and_what_is_partial_are_told(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day, "#2019-01-12T00:08:00Z")
        page.await_chosen("00:08:00")
        assert "35 %" in (page.page.locator("#facts").text_content() or "")

        page.open(whole_day, "#2019-01-12T00:17:30Z")
        page.await_chosen("00:17:30")
        assert "the next file was not at hand" in (page.page.locator("#facts").text_content() or "")

    def test_fits_a_small_screen(self, browser: Browser, whole_day: Path) -> None:
        with tab(browser, 360, 640) as page:
            page.open(whole_day)
            page.page.locator(".cell").nth(4).click()
            page.await_chosen("00:00:20")

            assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
            bars = page.page.locator("#hours .bar:enabled .fill")
            feet = {
                bar["bottom"]
                for bar in bars.evaluate_all("all => all.map(each => each.getBoundingClientRect())")
            }
            assert len(feet) == 1, "the hours stand on one line"
            cell = page.page.locator(".cell[aria-current]").bounding_box()
            stage = page.page.locator("#stage").bounding_box()
            assert cell and stage and cell["y"] < stage["y"], "the chosen one is not behind the large one"

    def test_everything_to_press_has_a_name(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day)
        page.page.locator(".cell").nth(3).click()

        nameless = page.page.evaluate(
            """[...document.querySelectorAll("button, select, input, textarea, a[href]")].filter(each =>
               !(each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.length)).length"""
        )
        assert nameless == 0
        assert page.page.evaluate("document.querySelectorAll('.cell[tabindex=\"0\"]').length") == 1


class TestMarks:
    def test_stay_and_can_be_filtered_for(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day, "#2019-01-12T05:00:10Z")
        page.await_chosen("05:00:10")
        page.page.keyboard.press("m")
        page.page.keyboard.press("ArrowRight")
        page.await_chosen("05:00:15")
        page.page.keyboard.press("m")
        page.page.keyboard.press("m")
        page.page.reload()
        page.page.wait_for_selector(".cell img")
        page.page.keyboard.press("f")

        page.until("document.querySelectorAll('.cell.marked').length === 1")
        assert page.page.locator("#marked-count").text_content() == "1"
        assert page.page.locator(".bar:enabled").count() == 1

    def test_are_exported_with_their_notes(self, page: Tab, whole_day: Path) -> None:
        page.open(whole_day, "#2019-01-12T05:00:10Z")
        page.await_chosen("05:00:10")
        page.page.keyboard.press("n")
        page.page.keyboard.type('=HUMPBACK(1), "far"')
        page.page.keyboard.press("Enter")
        page.page.locator("#open-marks").click()
        with page.page.expect_download() as saving:
            page.page.locator("#marks-save").click()

        (mark,) = csv.DictReader(io.StringIO(saving.value.path().read_text()))
        assert mark["note"] == '\'=HUMPBACK(1), "far"', "no spreadsheet takes it for a formula"
        assert (mark["start"], mark["channel_id"]) == ("2019-01-12T05:00:10.000Z", "OO.HYEA2..YDH")
        assert mark["picture"] == stem(DAY + timedelta(hours=5, seconds=10)) + ".png"
        page.page.locator("#marks-form").select_option("json")
        (mark,) = json.loads(page.page.locator("#marks-text").input_value())
        assert mark["note"] == '=HUMPBACK(1), "far"'

    def test_of_another_browser_can_be_read_in(self, page: Tab, whole_day: Path, tmp_path: Path) -> None:
        given = tmp_path / "marks.json"
        given.write_text(json.dumps([{"stem": stem(DAY), "start": "2019-01-12T00:00:00.000Z", "note": "n"}]))
        page.open(whole_day)
        page.page.locator("#open-marks").click()
        page.page.set_input_files("#marks-read", given)
        page.until("document.querySelectorAll('.cell.marked').length === 1")

        given.write_text('{"no": "list"}')
        page.page.set_input_files("#marks-read", given)
        page.until("document.getElementById('marks-about').textContent.includes('no list')")


class TestKeys:
    KEYS = ("100% sure?/a#1 b", "ünder+the=sea/'quoted'&amp;", 'plain/"x"')

    @pytest.mark.parametrize("way", ["folder", "server"])
    def test_of_any_kind_are_found(self, page: Tab, tmp_path: Path, way: str) -> None:
        folder = small_site(tmp_path / "odd #1 100%", list(self.KEYS))
        with served(tmp_path) as url:
            if way == "folder":
                page.open(folder)
            else:
                page.page.goto(f"{url}/odd%20%231%20100%25/index.html")
            for number in range(len(self.KEYS)):
                page.page.locator(".cell").nth(number).click()
                page.await_playing()
                page.loaded(".cell[aria-current] img")
                assert page.loaded("#stage-img")

    def test_a_page_in_a_folder_of_its_own_finds_the_data(self, page: Tab, tmp_path: Path) -> None:
        folder = small_site(tmp_path / "site", ["a/b"])
        rows = [row("a/b.png", "picture", DAY), row("a/b.wav", "clip", DAY)]
        finish(folder, Rows(folder, rows), GalleryParams(page="pages/day 1.html"))
        page.page.goto((folder / "pages" / "day 1.html").as_uri())
        page.page.locator(".cell").first.click()

        page.await_playing()
        assert page.loaded("#stage-img")


def test_over_a_figure_the_cursor_stays_within_the_plot(page: Tab, tmp_path: Path) -> None:
    page.open(small_site(tmp_path / "site", ["a/1"], plot_box="0.2,0.1,0.7,0.9"))
    page.page.locator(".cell").click()
    page.await_playing()

    assert 20 < page.page.evaluate(CURSOR) < 45
    assert page.page.locator("#axis-x span").count() == 0, "a figure brings its own axes"
    page.until("Gallery.player.audio.ended")
    page.until(f"Math.abs({CURSOR} - 70) < 0.5")


EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028\"'"


def test_text_of_the_data_is_text(page: Tab, tmp_path: Path) -> None:
    folder = small_site(
        tmp_path / "site", ["a/<b onmouseover=hacked=1>"], channel_id=EVIL, partial=EVIL, units=EVIL
    )
    rows = [row("a/<b onmouseover=hacked=1>.png", "picture", DAY, channel_id=EVIL, partial=EVIL)]
    finish(folder, Rows(folder, rows), GalleryParams(title=EVIL))
    page.open(folder)
    page.page.locator(".cell").first.click()
    page.page.keyboard.press("m")
    page.page.locator("#open-marks").click()

    assert page.page.evaluate("window.hacked") is None
    assert page.page.locator("#stage-channel").text_content() == EVIL
    assert page.page.title().startswith("</script>")
    assert page.page.locator("h1").text_content() == EVIL


def test_several_channels_can_be_told_apart(page: Tab, tmp_path: Path) -> None:
    folder = small_site(tmp_path / "site", ["a/1", "a/2"], channel_id="AA.B..C")
    rows = [row("a/1.png", "picture", DAY, channel_id="A"), row("a/2.png", "picture", DAY, channel_id="B")]
    finish(folder, Rows(folder, rows), GalleryParams())
    page.open(folder)
    assert page.page.locator(".cell").count() == 2
    page.page.locator("#channel").select_option("B")

    page.until("document.querySelectorAll('.cell').length === 1")
    page.page.locator(".cell").click()
    assert page.page.locator("#stage-channel").text_content() == "B"
    assert page.page.locator("#play").is_disabled(), "there is no clip"


Damage = Callable[[Path], None]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "a/1.wav").write_bytes(b"no sound"), "of a form that this browser"),
        (lambda folder: (folder / "a/1.wav").unlink(), "The clip is not there"),
        (lambda folder: (folder / "a/1.png").unlink(), "The picture is not there"),
        (lambda folder: shutil.rmtree(folder / "index_files" / "hours"), "could not be loaded"),
    ],
    ids=["damaged clip", "no clip", "no picture", "no hour"],
)
def test_what_is_missing_is_said(browser: Browser, tmp_path: Path, damage: Damage, said: str) -> None:
    folder = small_site(tmp_path / "site", ["a/1"])
    damage(folder)
    with tab(browser) as page:
        page.page.goto((folder / "index.html").as_uri())
        page.page.wait_for_selector(".cell, .empty button")
        if page.page.locator(".cell").count():
            page.page.locator(".cell").click()

        page.await_text(said)


def test_a_job_without_pictures_says_so(page: Tab, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    finish(folder, Rows(folder, [], failed_items=3), GalleryParams())
    page.page.goto((folder / "index.html").as_uri())

    assert "stored no pictures or clips" in (page.page.locator("#pictures").text_content() or "")
    assert "3 items of the job failed" in (page.page.locator("#summary").text_content() or "")
