"""The finisher ``gallery``: a page beside the data, for looking through a job's pictures and hearing its clips."""

from __future__ import annotations

import html
import posixpath
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field, field_validator

from ingest.plugins.gallery_data import call, hour_data, hour_summary
from ingest.plugins.stored_segments import SegmentHours
from ingest.processors import Addition, Finisher, Params, Results

ASSETS = files("ingest.plugins") / "gallery_assets"
TEMPLATE = "page.html"
CONTENT_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
HTML = "text/html; charset=utf-8"


class GalleryParams(Params):
    """Parameters of ``gallery``."""

    page: str = Field(
        default="index.html",
        description="Key of the page below the destination. Jobs that share a destination give each its own, "
        "such as `2019-01-12.html`; what belongs to the page lies beside it, in `2019-01-12_files/`.",
    )
    title: str = Field(default="", description="Heading of the page. Default: the job's name.")

    @field_validator("page")
    @classmethod
    def _html(cls, page: str) -> str:
        if not page.endswith(".html") or page.startswith(("/", "../")) or posixpath.normpath(page) != page:
            raise ValueError(f"{page!r} is no key of a page, such as `index.html` or `days/2019-01-12.html`")
        return page


class Gallery(Finisher[GalleryParams]):
    """A static page with all of a job's pictures by day and hour, and their clips to be heard.

    It shows uploads whose metadata has a ``start`` and is of the ``kind`` `picture` or `clip`, as those of
    ``spectrogram``. It needs no server: it works opened from a folder, and from a bucket's website.
    What else the job stored, and what failed, is counted on the page.
    """

    Params: ClassVar[type[Params]] = GalleryParams

    def additions(self, results: Results) -> Iterator[Addition]:
        """The page, its style and scripts, a script for each hour, and one that lists them."""
        folder = self.params.page.removesuffix(".html") + "_files"
        hours: dict[str, list[Any]] = {}
        with SegmentHours(results.rows(), self.context.scratch_dir) as by_hour:
            for hour, segments in by_hour:
                hours[hour] = hour_summary(segments)
                body = call("Gallery.hourLoaded", hour_data(hour, segments))
                yield Addition(f"{folder}/hours/{hour}.js", body, CONTENT_TYPES[".js"])
            left_out = dict(by_hour.left_out)
        index = {
            "id": self.context.job_id,
            "title": self._title,
            "root": "../" * self.params.page.count("/"),
            "hours": hours,
            "left_out": left_out,
            "failed_items": results.failed_items,
        }
        yield Addition(f"{folder}/hours.js", call("Gallery.indexLoaded", index), CONTENT_TYPES[".js"])
        yield from self._assets(folder)
        yield Addition(self.params.page, self._page(folder), HTML)

    @property
    def _title(self) -> str:
        return self.params.title or self.context.job_name

    def _assets(self, folder: str) -> Iterator[Addition]:
        for asset in sorted(ASSETS.iterdir(), key=lambda asset: asset.name):
            suffix = posixpath.splitext(asset.name)[1]
            if suffix in CONTENT_TYPES:
                yield Addition(f"{folder}/{asset.name}", asset.read_bytes(), CONTENT_TYPES[suffix])

    def _page(self, folder: str) -> bytes:
        page = (ASSETS / TEMPLATE).read_text(encoding="utf-8")
        page = page.replace("{{title}}", html.escape(self._title))
        return page.replace("{{files}}", quote("./" + posixpath.basename(folder))).encode()
