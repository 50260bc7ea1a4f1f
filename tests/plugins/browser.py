"""A real browser, and what a page in it complained of."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.needs import chromium

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
]


@contextmanager
def started() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page; ``complaints`` and ``requests`` are what it said and asked for so far."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, folder: Path, address: str = "") -> None:
        """Open the gallery of a folder as a file, and wait for its first picture."""
        self.page.goto((folder / "index.html").as_uri() + address)
        self.page.wait_for_selector(".cell img")

    def until(self, expression: str) -> None:
        """Wait until an expression is true. (Playwright's own way needs `eval`, which the page forbids.)"""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"never came true: {expression}"
            self.page.wait_for_timeout(20)

    def loaded(self, selector: str) -> bool:
        """Whether the picture there comes."""
        self.until(f"document.querySelector({json.dumps(selector)})?.naturalWidth > 0")
        return True

    def await_playing(self) -> None:
        self.until("Gallery.player.playing && Gallery.player.audio.currentTime > 0.05")

    def await_text(self, text: str) -> None:
        self.until(f"document.body.innerText.includes({json.dumps(text)})")

    def chosen(self) -> str:
        """The time that the large picture shows."""
        text = self.page.locator("#stage-time").text_content()
        assert text
        return text.split()[1]

    def await_chosen(self, clock: str) -> None:
        self.until(f"document.getElementById('stage-time').textContent.includes('{clock}')")


@contextmanager
def tab(browser: Browser, width: int = 1280, height: int = 800) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": width, "height": height})
    made = Tab(context.new_page())
    made.page.on(
        "console",
        lambda said: made.complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on("request", lambda request: made.requests.append(request.url))
    yield made
    context.close()
