"""Reading a directory page of a web server (Apache's, nginx's and others'): what it lists, and what is no such page."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

_TITLE = re.compile(r"\s*(index of|directory listing)\b", re.IGNORECASE)
_SORT_QUERY = re.compile(r"C=[NMSD](;|&|$)|O=[AD]\b|[NMSD]=[AD]\b|sort=[a-z]+&order=(asc|desc)\b")
_MOST_UNREAD = 512
_EXACT_BYTES = re.compile(r"\s+\d{2}-[A-Z][a-z]{2}-\d{4} \d{2}:\d{2}\s+(\d+)\s*$")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a page lists: a name (decoded; bytes that are not UTF-8 are surrogate escapes) and its size, where exact."""

    name: str
    is_folder: bool
    size_bytes: int | None = None


@dataclass(slots=True)
class Listing:
    """A page, read.

    Attributes:
        is_listing: whether it is a directory page at all, by its heading or its links for sorting.
        entries: by name, each once, in the order of their names' bytes.
        left_out: links that lead elsewhere than one step down from the page, which are never followed.
    """

    is_listing: bool = False
    entries: list[Entry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class _Links(HTMLParser):
    """Collects headings, and links with the text that follows each up to the next tag."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self._in_heading = False
        self._after_link = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._after_link = False
        if tag in ("title", "h1"):
            self._in_heading = True
            self.headings.append("")
        href = dict(attrs).get("href") if tag == "a" else None
        if href:
            self.links.append((href, ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_heading = self._in_heading and tag not in ("title", "h1")
        self._after_link = tag == "a"

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings[-1] += data
        elif self._after_link and self.links:
            href, text = self.links[-1]
            self.links[-1] = href, text + data


def read_listing(page: str, url: str) -> Listing:
    """What the directory page at ``url``, which ends with a slash, lists.

    Raises:
        ValueError: it breaks off within a tag, or is garbled.
    """
    parser = _Links()
    try:
        parser.feed(page)
        # What is left begins where a tag does not end. To look for more in it takes the square of its length.
        if "<" in parser.rawdata and len(parser.rawdata) > _MOST_UNREAD:
            raise ValueError(f"it is garbled after {parser.rawdata[:40]!r}")
        parser.close()
    except AssertionError as error:  # the library's word for a declaration that makes no sense
        raise ValueError(f"it is garbled: {error}") from None
    listing = Listing(is_listing=any(_is_title(heading, url) for heading in parser.headings))
    found: dict[str, Entry] = {}
    for href, text in parser.links:
        kind, entry = _entry(href, text, url)
        listing.is_listing = listing.is_listing or kind == "sort"
        if kind == "elsewhere":
            listing.left_out["link that leads elsewhere"] += 1
        if entry is not None:
            found.setdefault(entry.name, entry)
    listing.entries = sorted(found.values(), key=lambda entry: entry.name.encode(errors="surrogateescape"))
    return listing


def _is_title(heading: str, url: str) -> bool:
    """Whether a heading is a directory page's: IIS writes ``host - /folder/``, others begin with the same words."""
    page = urlsplit(url)
    iis = f"{page.hostname} - {_decoded(page.path)}"
    return _TITLE.match(heading) is not None or heading.strip().lower() == iis.lower()


def _entry(href: str, text: str, url: str) -> tuple[str, Entry | None]:
    """The kind of a link (``sort``, ``parent``, ``elsewhere``, ``entry``), and what it lists."""
    address, mark, query = href.strip().partition("?")
    try:
        # urljoin drops a semicolon at the end, which is a name's own.
        target, page = urlsplit(urljoin(url, address.replace(";", "%3B") + mark + query)), urlsplit(url)
        port, page_port = target.port, page.port
    except ValueError:
        return "elsewhere", None
    if (target.scheme, target.hostname, port) != (page.scheme, page.hostname, page_port):
        return "elsewhere", None
    path, here = _decoded(target.path), _decoded(page.path)
    if target.query:
        return ("sort" if path == here and _SORT_QUERY.match(target.query) else "elsewhere"), None
    if here.startswith(path) and path.endswith("/"):
        return "parent", None
    name = path.removeprefix(here)
    is_folder = name.endswith("/")
    name = name.removesuffix("/")
    if not path.startswith(here) or not is_name(name):
        return "elsewhere", None
    exact = None if is_folder else _EXACT_BYTES.match(text)
    return "entry", Entry(name, is_folder, int(exact[1]) if exact else None)


def _decoded(path: str) -> str:
    return unquote(path, errors="surrogateescape")


def is_name(name: str) -> bool:
    """Whether this can be the name of a file or folder, and leads nowhere else."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
