"""Downloading a file whole: resumed where it broke off, its size checked, its SHA-256 taken."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from ingest.errors import NO_SPACE, SourceUnreadable, StoreFull
from ingest.plugins.web_client import HTML, AskAgain, WebClient, http_time, media_type

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
COMPRESSED = frozenset({".gz", ".tgz", ".z", ".taz", ".bz2", ".tbz", ".tbz2", ".br", ".zst", ".xz", ".svgz"})
PAGES = frozenset({"", ".html", ".htm", ".xhtml", ".shtml", ".php", ".asp", ".aspx", ".jsp"})
PARTIAL = 206
NOT_SATISFIABLE = 416


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that was downloaded whole. ``last_modified`` is as the server writes it."""

    size_bytes: int
    sha256: str
    etag: str | None
    last_modified: str | None

    def facts(self) -> dict[str, str]:
        """For the manifest."""
        facts = {"source_sha256": self.sha256}
        if self.etag is not None:
            facts["source_etag"] = self.etag
        if self.last_modified is not None:
            when = http_time(self.last_modified)
            facts["source_last_modified"] = f"{when:%Y-%m-%dT%H:%M:%SZ}" if when else self.last_modified
        return facts


class Download:
    """A download of ``url`` into ``path``. :meth:`whole` may be called once."""

    def __init__(self, client: WebClient, url: str, path: Path) -> None:
        self._client = client
        self._url = url
        self._path = path
        self._sha256 = hashlib.sha256()
        self._got_bytes = 0
        self._most_bytes = 0
        self._size_bytes: int | None = None
        self._etag: str | None = None
        self._last_modified: str | None = None
        self._is_page = False

    def whole(self) -> Downloaded:
        """Download it.

        Raises:
            SourceMissing: it is not there.
            SourceUnreadable: the server refuses, is at fault, or sends another number of bytes than it says, or a page.
            StoreFull: there is no space in the scratch folder.
            Stopped: the work was asked to stop meanwhile.
        """
        try:
            # buffered: a raw file takes less than it is given where space ends
            with self._path.open("wb") as file:
                self._client.patiently(lambda: self._try(file))
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            # This machine's trouble, and no item's: the batch goes back to the queue.
            raise StoreFull(f"the scratch folder {self._path.parent} of this machine is full") from error
        if self._is_page:
            self._refuse_page()
        return Downloaded(self._got_bytes, self._sha256.hexdigest(), self._etag, self._last_modified)

    def _refuse_page(self) -> None:
        """Refuse a page that came in a file's place, as proxies and expired logins send it, with a status of 200."""
        with self._path.open("rb") as file:
            beginning = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if self._path.suffix.lower() not in PAGES and beginning.startswith((b"<!doctype html", b"<html")):
            raise SourceUnreadable(
                f"the server sends an HTML page in place of {self._url}: a proxy's or a login page, perhaps",
                hint="open it in a browser on this machine",
            )

    def _try(self, file: BinaryIO) -> None:
        """One try: from where the last one broke off, if the server says that the file is still the same."""
        headers = self._range_headers()
        before = self._most_bytes
        try:
            with self._client.answer(self._url, headers=headers, also=(PARTIAL, NOT_SATISFIABLE)) as response:
                self._place(response, file, asked=bool(headers))
                for piece in response.iter_raw():
                    file.write(piece)
                    self._sha256.update(piece)
                    self._got_bytes += len(piece)
                    self._client.check()
        except AskAgain as fault:
            self._most_bytes = max(before, self._got_bytes)
            progress = self._most_bytes > before
            raise AskAgain(self._how_far(fault), fault.wait_s, progress=progress) from fault
        if self._got_bytes != self._size_bytes and self._size_bytes is not None:
            self._most_bytes = max(before, self._got_bytes)
            error = SourceUnreadable(self._short())
            raise AskAgain(error, progress=self._most_bytes > before)

    def _range_headers(self) -> dict[str, str]:
        """What asks for the rest, where there is something to go on from, and a way to know that it is the same."""
        strong = self._etag if self._etag and not self._etag.startswith("W/") else None
        same = strong or self._last_modified
        if not self._got_bytes or not same:
            return {}
        return {"Range": f"bytes={self._got_bytes}-", "If-Range": same}

    def _place(self, response: httpx.Response, file: BinaryIO, *, asked: bool) -> None:
        """Go to where the answer's bytes belong."""
        if response.status_code == NOT_SATISFIABLE or (response.status_code == PARTIAL and not asked):
            self._begin_anew(file)
            raise AskAgain(SourceUnreadable(f"{self._url} cannot be resumed: the server has no such part"))
        if response.status_code == PARTIAL:
            self._check_part(response)
            return
        self._begin_anew(file)
        headers = response.headers
        self._check_coding(headers.get("content-encoding", "identity").strip().lower())
        self._etag, self._last_modified = headers.get("etag"), headers.get("last-modified")
        self._is_page = media_type(headers) in HTML
        length = headers.get("content-length")
        if length is None and "chunked" not in headers.get("transfer-encoding", "").lower():
            raise SourceUnreadable(
                f"the server does not say how large {self._url} is: its end cannot be known"
            )
        self._size_bytes = int(length) if length is not None else None

    def _check_coding(self, coding: str) -> None:
        """Refuse bytes that are not the file's. What a server calls compressed is so itself, if its name says it."""
        suffix = self._path.suffix.lower()
        if coding not in ("", "identity") and suffix not in COMPRESSED:
            raise SourceUnreadable(
                f"the server sends {self._url} compressed ({coding}), though it was asked for the file as it is",
                hint="the server's operators can turn that off for such files",
            )

    def _check_part(self, response: httpx.Response) -> None:
        """See that the answer is the rest of the same file.

        Raises:
            AskAgain: it is another part, or of another file; the next try begins anew.
        """
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        total = int(found[3]) if found and found[3] != "*" else self._size_bytes
        is_rest = found is not None and int(found[1]) == self._got_bytes
        fits = total is not None and self._size_bytes in (None, total)
        if not (is_rest and fits and self._is_same(response)):
            self._got_bytes = 0
            raise AskAgain(SourceUnreadable(f"{self._url} cannot be resumed: the server sends another part"))
        self._size_bytes = total

    def _is_same(self, response: httpx.Response) -> bool:
        """Whether nothing says that it is of another file: some servers do not look at ``If-Range``."""
        said = response.headers
        etag, modified = said.get("etag", self._etag), said.get("last-modified", self._last_modified)
        return (etag, modified) == (self._etag, self._last_modified)

    def _begin_anew(self, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate()
        self._sha256 = hashlib.sha256()
        self._got_bytes = 0

    def _how_far(self, fault: AskAgain) -> SourceUnreadable:
        if not self._got_bytes or self._size_bytes is None:
            return SourceUnreadable(fault.error.what)
        return SourceUnreadable(f"{self._short()} ({fault.error.what})")

    def _short(self) -> str:
        return f"{self._url} ended after {self._got_bytes} of the {self._size_bytes} bytes that the server said it has"
