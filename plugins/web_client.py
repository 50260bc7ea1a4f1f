"""Asking a web server politely: few connections at once over all nodes, patience, and words for what it answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.processors import JobContext
from ingest.version import __version__

T = TypeVar("T")

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
LONGEST_RETRY_AFTER_S = 120.0
REDIRECTS = 3
PAGE_BYTES = 64 << 20
LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 508, 509})
REFUSALS = frozenset({401, 403, 407, 451})
NO_HEAD = (405, 501)
HTML = frozenset({"text/html", "application/xhtml+xml"})


class AskAgain(Exception):
    """A passing fault: the request may be repeated.

    Attributes:
        error: what it becomes where it does not pass.
        wait_s: how long the server asks to wait, or None.
        progress: whether more of the answer came than ever before.
    """

    def __init__(self, error: ItemError, wait_s: float | None = None, *, progress: bool = False) -> None:
        super().__init__(error.what)
        self.error = error
        self.wait_s = wait_s
        self.progress = progress


class WebClient:
    """A client of one server, for what lies below ``root``, a URL that ends with a slash.

    It follows a redirection only if that leads below the root, too. It belongs to one process, and opens no
    connection before it is asked for something.

    Args:
        at_once: connections at once, over all nodes of the job.
        retries: how often a request is repeated for a passing fault (5xx, a timeout, a broken connection).
        contact: an address for the server's operators, which goes into the User-Agent.

    Raises:
        ConfigError: the environment names proxies that cannot be used.
    """

    def __init__(self, root: str, context: JobContext, *, at_once: int, retries: int, contact: str) -> None:
        self.root = root
        self._context = context
        self._at_once = at_once
        self._retries = retries
        self._slots = f"connections to {urlsplit(root).netloc.lower()}"
        agent = f"ingest/{__version__}" + (f" (+{contact})" if contact else "")
        headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        # An idle connection is one too: each ends with its answer, or more would be open than slots are taken.
        limits = httpx.Limits(max_keepalive_connections=0)
        try:
            self._client = httpx.Client(
                headers=headers, timeout=TIMEOUT, limits=limits, follow_redirects=False
            )
        except (httpx.InvalidURL, ImportError, ValueError) as error:
            # What is no URL may hold a password, and is not repeated.
            why = str(error) if isinstance(error, ImportError) else "one of them is no address of a proxy"
            raise ConfigError(
                f"the proxies that this machine names cannot be used: {why}",
                hint="look at the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
            ) from None

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Stopped: the work was asked to stop.
        """
        self._context.check()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def patiently(self, ask: Callable[[], T]) -> T:
        """The result of ``ask``, which is repeated while it raises :class:`AskAgain`.

        Tries count from anew after one that made progress.

        Raises:
            ItemError: the fault did not pass.
            Stopped: the work was asked to stop meanwhile.
        """
        tries = 0
        while True:
            try:
                return ask()
            except AskAgain as fault:
                tries = 1 if fault.progress else tries + 1
                if tries > self._retries:
                    raise fault.error from fault
                self._sleep(_wait_s(tries, fault.wait_s))

    def _sleep(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        with self._context.waiting():
            while (left_s := until_s - time.monotonic()) > 0:
                self._context.check()
                time.sleep(min(left_s, 0.5))
        self._context.check()

    @contextmanager
    def answer(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> Iterator[httpx.Response]:
        """One try at a request: an answer of 200 (or one of ``also``), whose body is still to be read.

        Raises:
            AskAgain: a passing fault, also while the body is read.
            SourceMissing: there is nothing at ``url``.
            SourceUnreadable: the server refuses, leads elsewhere, or answers what cannot be used.
        """
        self._check_below(url)
        with self._context.slots.take(self._slots, self._at_once):
            try:
                with self._stream(url, method, headers or {}) as response:
                    self._check_status(response, url, also)
                    yield response
            except (httpx.RequestError, httpx.StreamError) as error:
                raise AskAgain(SourceUnreadable(f"{url} cannot be read: {_reason(error)}")) from error
            except httpx.InvalidURL as error:
                raise SourceUnreadable(f"{url[:200]} cannot be asked for: {error}") from error

    @contextmanager
    def _stream(self, url: str, method: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        target = url
        for _ in range(REDIRECTS + 1):
            with self._client.stream(method, target, headers=headers) as response:
                if not response.is_redirect:
                    yield response
                    return
                location = response.headers.get("location", "")
                try:
                    target = urljoin(target, location)
                    is_below = self._is_below(target)
                except ValueError:  # it is no URL at all
                    target, is_below = location, False
                if not is_below:
                    raise SourceUnreadable(
                        f"{url} is redirected to {target}, which does not lie below {self.root}",
                        hint="if that is where the data lies now, give it as the URL",
                    )
        raise SourceUnreadable(f"{url} is redirected again and again, at last to {target}")

    def _is_below(self, url: str) -> bool:
        names = unquote(urlsplit(url).path).split("/")
        return url.startswith(self.root) and "." not in names and ".." not in names

    def _check_below(self, url: str) -> None:
        if not self._is_below(url):
            raise SourceUnreadable(f"{url} does not lie below {self.root}")

    def _check_status(self, response: httpx.Response, url: str, also: tuple[int, ...]) -> None:
        status = response.status_code
        if status == HTTPStatus.OK or status in also:
            return
        words = f"{status} {response.reason_phrase}".strip()
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise SourceMissing(f"there is no {url}: the server answers {words}")
        if status in REFUSALS:
            raise SourceUnreadable(f"the server refuses {url}: {words}")
        if status in LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            error = SourceUnreadable(f"the server is at fault, and answers {words} to {url}")
            raise AskAgain(error, _retry_after_s(response.headers.get("retry-after")))
        raise SourceUnreadable(f"the server answers {words} to {url}")

    def page(self, url: str) -> str:
        """The text of an HTML page.

        Raises:
            SourceMissing: there is none.
            SourceUnreadable: the server is at fault or refuses, or what lies there is no page.
        """
        return self.patiently(lambda: self._page(url))

    def _page(self, url: str) -> str:
        with self.answer(url) as response:
            kind = media_type(response.headers)
            if kind not in HTML:
                raise SourceUnreadable(f"{url} is no directory page: its type is {kind or 'not given'}")
            body = bytearray()
            for piece in response.iter_bytes():
                self._context.check()
                body += piece
                if len(body) > PAGE_BYTES:
                    raise SourceUnreadable(
                        f"{url} is no directory page: it is larger than {PAGE_BYTES >> 20} MiB"
                    )
            charset = response.charset_encoding or "utf-8"
        return _text(body, charset)

    def look(self, url: str) -> httpx.Headers:
        """What the server says of ``url``, at the first try; without sending it, if it can do that.

        Raises:
            AskAgain, SourceMissing, SourceUnreadable: as :meth:`answer`.
        """
        with self.answer(url, "HEAD", also=NO_HEAD) as response:
            if response.status_code == HTTPStatus.OK:
                return response.headers
        with self.answer(url) as response:
            return response.headers


def _text(body: bytes | bytearray, charset: str) -> str:
    """A page's text: in the charset that the server names, if that is one that gives text; else in UTF-8."""
    try:
        text = body.decode(charset, errors="surrogateescape")
        text.encode(errors="surrogateescape")
    except (LookupError, ValueError):  # such as "idna", and half of a character in UTF-7
        return body.decode("utf-8", errors="surrogateescape")
    return text


def _wait_s(tries: int, asked_s: float | None) -> float:
    """Seconds to wait before a try is repeated: as the server asks, but bounded; else doubling, with jitter."""
    if asked_s is not None:
        return min(asked_s, LONGEST_RETRY_AFTER_S)
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)


def _retry_after_s(text: str | None) -> float | None:
    """``Retry-After`` in seconds, or None where there is none that can be read."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    when = http_time(text)
    return None if when is None else max(0.0, (when - datetime.now(UTC)).total_seconds())


def http_time(text: str | None) -> datetime | None:
    """The moment that a header such as ``Last-Modified`` names, in UTC, or None. One without a zone is in UTC too."""
    try:
        when = parsedate_to_datetime(text or "")
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def media_type(headers: httpx.Headers) -> str:
    """Such as ``text/html``; "" where it is not given."""
    text: str = headers.get("content-type", "")
    return text.partition(";")[0].strip().lower()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
