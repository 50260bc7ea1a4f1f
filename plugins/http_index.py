"""Files that a web server lists on its directory pages: the path processor ``http_index``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from ingest.errors import ConfigError, ItemError, SourceUnreadable
from ingest.items import FileItem, Item
from ingest.plugins.local import beside
from ingest.plugins.patterns import EXCLUDE, INCLUDE, Choice, Patterns, choice_of
from ingest.plugins.scratch import ScratchFiles
from ingest.plugins.web_client import AskAgain, WebClient, http_time
from ingest.plugins.web_download import Download
from ingest.plugins.web_listing import Entry, Listing, is_name, read_listing
from ingest.processors import JobContext, Params, ParamsT, PathProcessor

# What RFC 3986 allows in a segment of a path, and what servers write without a percent sign.
_SAFE = "!$&'()*+,;=:@~"


def root_url(url: str) -> str:
    """``url`` as the root of a source: http or https, without secrets, with a slash at its end.

    Its host is as servers and clients write it, in small letters and without the usual port, so that what they say lies
    below it does.

    Raises:
        ValueError: it cannot be one; the sentence says why.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a web server; expected http://host/folder/ or https://…")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password: a config goes to Redis and into the manifest")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("must not hold `?` or `#`: a token does not belong in a config")
    if any(part in (".", "..") for part in parts.path.split("/")):
        raise ValueError(f"{url!r} has a '.' or '..' in its path")
    host = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])
    return parts._replace(netloc=host, path=f"{parts.path.removesuffix('/')}/").geturl()


class WebParams(Params):
    """Parameters of every path processor that reads from a web server."""

    connections_per_host: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Connections to the server at once, over all nodes of the job. Such servers are shared: "
        "ask their operators before you raise it.",
    )
    retries: int = Field(
        default=5,
        ge=0,
        le=100,
        description="Repeats of a request after a passing fault: an answer of 5xx, a timeout, a broken "
        "connection. A download that got further in between counts them from anew.",
    )
    contact: str = Field(
        default="",
        pattern=r"^[!-~]{0,200}$",
        description="Your e-mail address or web page, which is put into the User-Agent, so that the server's "
        "operators can reach you.",
    )


class WebFiles(PathProcessor[ParamsT]):
    """What path processors of web servers share: pages, downloads, and what is known of each.

    Paths of items are relative to the root, a URL; :meth:`path` makes URLs of them. A file is downloaded to the
    scratch folder when it is opened, and removed when it has been stored; the last two are kept for a while, or
    up to ten, as neighbours are wanted again. Its manifest rows say ``source_sha256``, and ``source_etag`` and
    ``source_last_modified`` where the server does.
    """

    def __init__(self, params: ParamsT, context: JobContext) -> None:
        super().__init__(params, context)
        self.root, web = self.web()
        self.client = WebClient(
            self.root, context, at_once=web.connections_per_host, retries=web.retries, contact=web.contact
        )
        self._scratch = ScratchFiles(context.scratch_dir, self._download)

    def web(self) -> tuple[str, WebParams]:
        """The root, and the parameters that say how to treat its server."""
        raise NotImplementedError

    def url(self, path: str) -> str:
        """The URL of a path below the root; a folder's ends with a slash."""
        return self.root + quote(path, safe="/" + _SAFE, errors="surrogateescape")

    def listing(self, folder: str) -> Listing:
        """What the directory page of a folder (a path, or "" for the root) lists.

        Raises:
            SourceMissing: there is no such page.
            SourceUnreadable: the server is at fault or refuses, or what lies there is no directory page.
        """
        url = self.url(folder + "/" if folder else "")
        try:
            listing = read_listing(self.client.page(url), url)
        except ValueError as error:
            raise SourceUnreadable(f"the page {url} cannot be read: {error}") from None
        if not listing.is_listing:
            raise SourceUnreadable(
                f"{url} is a page, but no directory page",
                hint="look at it in a browser; only pages that the server itself writes are read, as Apache does",
            )
        return listing

    def path(self, item: Item) -> str:
        """The file's URL.

        Raises:
            ItemError: the item is no file, or its path leads out of the root.
        """
        if not isinstance(item, FileItem):
            raise ItemError("a web server's files serve jobs of type 'files' only")
        if not all(is_name(name) for name in item.path.split("/")):
            raise ItemError(f"{item.path!r} is no path below {self.root}")
        return self.url(item.path)

    def open(self, path: str) -> AbstractContextManager[Path]:
        """The file, downloaded whole.

        Raises:
            SourceMissing: it is not there (any more).
            SourceUnreadable: the server refuses, is at fault, or sends another number of bytes than it says.
        """
        return self._scratch.open(path, path.rpartition("/")[2])

    def _download(self, url: str, path: Path) -> Mapping[str, str]:
        return Download(self.client, url, path).whole().facts()

    def facts(self, path: str) -> Mapping[str, str]:
        """``source_sha256``, ``source_etag`` and ``source_last_modified`` (UTC), as far as the server says."""
        return self._scratch.facts(path)

    def close(self) -> None:
        """Close the connections, and remove what was downloaded."""
        self._scratch.close()
        self.client.close()

    def check_files_job(self) -> None:
        """Look whether the job is over files.

        Raises:
            ConfigError: it is over tiles.
        """
        if self.context.grid is not None:
            raise ConfigError(
                "a web server's files serve jobs of type 'files' only", place="path_processor.class"
            )

    def is_there(self, folder: str) -> None:
        """Look quickly whether the server answers, and has the page of a folder.

        Raises:
            ItemError: it does not.
        """
        try:
            self.client.look(self.url(folder + "/" if folder else ""))
        except AskAgain as fault:
            raise fault.error from fault


class HttpIndexParams(WebParams):
    """Parameters of ``http_index``."""

    url: str = Field(
        description="The directory page: `https://host/folder/`. All that is taken lies below it."
    )
    depth: int = Field(
        default=0, ge=0, le=32, description="How many levels of folders are followed; 0 is the page alone."
    )
    include: Patterns = Field(default=(), description=INCLUDE)
    exclude: Patterns = Field(default=(), description=EXCLUDE)
    ask_sizes: bool = Field(
        default=False,
        description="Ask for the size and time of each file where its page does not say them exactly: a request "
        "a file while the job is listed. Without, they are not known before it is downloaded.",
    )

    _root_url = field_validator("url")(root_url)


class HttpIndex(WebFiles[HttpIndexParams]):
    """The files on a web server's directory pages, as Apache, nginx and others make them; depth first, by their names'
    bytes.

    Links to parent folders and for sorting are passed over; one that leads anywhere but one step down is never
    followed. What is left out is counted by kind: ``excluded``, ``not included``, ``folder below depth`` and ``link
    that leads elsewhere``. Sizes are taken from a page only where it gives them in bytes; times never, as pages do
    not say their zone.

    Errors: a page that is not there, one that the server fails to make, one that lists nothing, and one that is no
    directory page are told apart. While the server is away, the job waits.
    """

    Params: ClassVar[type[Params]] = HttpIndexParams
    _was_there = False
    _files_last: tuple[str | None, list[str]] = None, []

    @cached_property
    def _choice(self) -> Choice:
        return choice_of(self.params.include, self.params.exclude)

    def web(self) -> tuple[str, WebParams]:
        """The directory page is the root."""
        return self.params.url, self.params

    def check(self) -> None:
        """Look whether the page is there and lists something; later, whether the server still answers."""
        self.check_files_job()
        try:
            if self._was_there:
                self.is_there("")
                return
            if not self.listing("").entries:
                raise SourceUnreadable(f"the directory page {self.root} lists nothing")
        except ItemError as error:
            place = "path_processor.params.url"
            raise ConfigError(error.what, place=place, hint=error.hint) from error
        self._was_there = True

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        """The files, lazily: only the pages of one folder at each level are held in memory."""
        self.left_out.clear()
        yield from self._below("", after, self.left_out)

    def _below(self, folder: str, after: str | None, left_out: Counter[str]) -> Iterator[FileItem]:
        listing = self.listing(folder)
        left_out.update(listing.left_out)
        prefix = folder + "/" if folder else ""
        for entry in listing.entries:
            path = prefix + entry.name
            if after is not None and _comes_before(path, after):
                continue
            kind = self._kind(path, entry)
            if kind is not None:
                left_out[kind] += 1
            elif entry.is_folder:
                yield from self._below(path, after, left_out)
            elif after is None or path != after:
                yield self._item(path, entry)

    def _kind(self, path: str, entry: Entry) -> str | None:
        """The kind under which this is left out, or None."""
        kind = self._choice(path, entry.is_folder)
        if kind is None and entry.is_folder and path.count("/") >= self.params.depth:
            return "folder below depth"
        return kind

    def _item(self, path: str, entry: Entry) -> FileItem:
        if not self.params.ask_sizes or entry.size_bytes is not None:
            return FileItem(path, entry.size_bytes)
        headers = self.client.patiently(lambda: self.client.look(self.url(path)))
        length, modified = headers.get("content-length", ""), http_time(headers.get("last-modified"))
        mtime_ns = int(modified.timestamp()) * 1_000_000_000 if modified else None
        return FileItem(path, int(length) if length.isdecimal() else None, mtime_ns)

    def neighbours(self, item: FileItem) -> tuple[FileItem | None, FileItem | None]:
        """The files before and after this one on its page, of those that :meth:`paths` lists."""
        return beside(item.path, self._files_in(item.path.rpartition("/")[0]))

    def beside(self, item: FileItem) -> Sequence[FileItem]:
        """The files on this one's page that :meth:`paths` lists; without sizes."""
        return [FileItem(path) for path in self._files_in(item.path.rpartition("/")[0])]

    def _files_in(self, folder: str) -> list[str]:
        """A page's files. It is read once for neighbours, which come together."""
        if folder != self._files_last[0]:
            prefix = folder + "/" if folder else ""
            entries = [entry for entry in self.listing(folder).entries if not entry.is_folder]
            paths = [prefix + entry.name for entry in entries]
            self._files_last = folder, [path for path in paths if self._choice(path, False) is None]
        return self._files_last[1]


def _comes_before(path: str, after: str) -> bool:
    """Whether all at or below ``path`` comes before ``after``, in the order of a walk, depth first."""
    one, other = _segments(path), _segments(after)
    return one < other[: len(one)]


def _segments(path: str) -> list[bytes]:
    return path.encode(errors="surrogateescape").split(b"/")
