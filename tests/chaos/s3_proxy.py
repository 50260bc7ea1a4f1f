"""A proxy before an S3 server: it counts what is stored, and delays, refuses, breaks off or tampers as told."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from tests.chaos.tcp_proxy import Listener, Loop, Streams, reset

MAX_HEAD_BYTES = 1 << 16
_BODILESS = (204, 304)
_SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>told to</Message></Error>'
_CODES = {500: b"InternalError", 503: b"SlowDown"}


class BrokenOff(ConnectionError):
    """The connection is to be reset now."""


@dataclass
class S3Faults:
    """What the proxy does to requests from now on; shares are of the requests that ``hits`` is true of."""

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    refused: float = 0.0
    status: int = 503
    retry_after_s: int | None = None
    reset_in_body: float = 0.0
    reset_in_answer: float = 0.0
    tampered: float = 0.0
    mute: bool = False
    hits: Callable[[Request], bool] = lambda request: True


@dataclass(frozen=True)
class Request:
    """The first lines of a request; its body follows."""

    method: str
    target: str
    headers: dict[bytes, bytes]
    head: bytes

    @property
    def key(self) -> str:
        """The key that it names, behind the bucket, or ""."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[2]

    @property
    def part(self) -> int | None:
        """The number of the part that it sends."""
        found = parse_qs(urlsplit(self.target).query).get("partNumber")
        return int(found[0]) if found else None

    @property
    def is_data(self) -> bool:
        """Whether it stores an item's object, or a part of one."""
        return self.method == "PUT" and self._is_items

    @property
    def is_reading(self) -> bool:
        """Whether it reads an item's object."""
        return self.method == "GET" and self._is_items

    @property
    def _is_items(self) -> bool:
        return bool(self.key) and ".ingest/" not in self.key


@dataclass
class Seen:
    """What passed: for each object and part, how often the server stored it, and how often objects were read; and what
    faults did.

    ``left_alone_s`` are the times from a refusal that boto3 got to the same request's return: it alone is told
    for how long to wait.
    """

    stored: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    stored_s: list[float] = field(default_factory=list)
    read: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refused_s: dict[str, float] = field(default_factory=dict)
    left_alone_s: list[float] = field(default_factory=list)

    def stored_twice(self) -> int:
        """How many objects and parts were stored beyond the first time."""
        return sum(self.stored.values()) - len(self.stored)


class S3Proxy(Listener):
    """Before one S3 server. A request is read whole, sent on whole, and so is its answer."""

    def __init__(self, loop: Loop, server_port: int, seed: int) -> None:
        super().__init__(loop)
        self._server_port = server_port
        self._random = random.Random(seed)
        self.faults = S3Faults()
        self.seen = Seen()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """No more faults; connections without an answer are reset."""
        was_mute, self.faults = self.faults.mute, S3Faults()
        if was_mute:
            self._loop.do(self._forget())

    async def _forget(self) -> None:
        self._reset_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: Streams | None = None
        try:
            while head := await _head(reader):
                request = _request(head)
                faults = self.faults
                hit = faults.hits(request)
                if hit and self._is_hit(faults.reset_in_body, "reset in its body", request.method == "PUT"):
                    await reader.readexactly(int(request.headers.get(b"content-length", b"0")) // 2)
                    raise BrokenOff
                body = await self._body(reader, writer, request, faults)
                if faults.mute:
                    self.seen.faults["never answered"] += 1
                    await asyncio.Event().wait()
                self._note_return(request)
                if hit and self._is_hit(faults.refused, f"answered {faults.status}"):
                    if faults.retry_after_s is not None and b"boto" in request.headers[b"user-agent"].lower():
                        self.seen.refused_s[f"{request.method} {request.target}"] = time.monotonic()
                    writer.write(_refusal(faults, request.method))
                    await writer.drain()
                    continue
                server = server or await asyncio.open_connection(
                    "127.0.0.1", self._server_port, limit=MAX_HEAD_BYTES
                )
                self._writers.add(server[1])
                answer = await _exchange(server, request, body)
                self._note(request, answer)
                if hit and self._is_hit(faults.reset_in_answer, "reset in its answer"):
                    writer.write(answer[: len(answer) // 2])
                    await writer.drain()
                    raise BrokenOff
                if hit and request.is_data and self._is_hit(faults.tampered, "ETag tampered with"):
                    answer = _with_other_etag(answer)
                writer.write(answer)
                await writer.drain()
        finally:
            if server is not None:
                self._writers.discard(server[1])
                reset(server[1])

    def _is_hit(self, share: float, fault: str, possible: bool = True) -> bool:
        hit = possible and self._random.random() < share
        self.seen.faults[fault] += hit
        return hit

    async def _body(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request,
        faults: S3Faults,
    ) -> bytes:
        if request.headers.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _read_body(reader, request.headers)
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s * self._random.uniform(0.5, 1.5))
        if faults.bytes_per_s:
            await asyncio.sleep(len(body) / faults.bytes_per_s)
        return body

    def _note(self, request: Request, answer: bytes) -> None:
        if request.is_data and answer.startswith(b"HTTP/1.1 200"):
            self.seen.stored[request.key, request.part] += 1
            self.seen.stored_s.append(time.monotonic())
        self.seen.read += request.is_reading and answer.startswith(b"HTTP/1.1 200")

    def _note_return(self, request: Request) -> None:
        refused_s = self.seen.refused_s.pop(f"{request.method} {request.target}", None)
        if refused_s is not None:
            self.seen.left_alone_s.append(time.monotonic() - refused_s)


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The lines of a request up to the empty one; b"" at the end of the connection."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _headers(head: bytes) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


def _request(head: bytes) -> Request:
    method, target, _ = head.partition(b"\r\n")[0].split(b" ")
    return Request(method.decode(), target.decode(), _headers(head), head)


async def _read_body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
    """A body as it is on the wire."""
    if b"chunked" not in headers.get(b"transfer-encoding", b""):
        return await reader.readexactly(int(headers.get(b"content-length", b"0")))
    chunks = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size_bytes = int(line.split(b";")[0], 16)
        chunks += line + await reader.readexactly(size_bytes + 2)
        if size_bytes == 0:
            return bytes(chunks)


async def _exchange(server: Streams, request: Request, body: bytes) -> bytes:
    """Send a request on; the whole answer."""
    reader, writer = server
    writer.write(re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", request.head) + body)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if request.method == "HEAD" or status in _BODILESS:
        return head
    return head + await _read_body(reader, _headers(head))


def _refusal(faults: S3Faults, method: str) -> bytes:
    body = _SLOW_DOWN % _CODES.get(faults.status, b"ServiceUnavailable")
    lines = [b"HTTP/1.1 %d Told To" % faults.status, b"Content-Type: application/xml"]
    lines.append(b"Content-Length: %d" % len(body))
    if faults.retry_after_s is not None:
        lines.append(b"Retry-After: %d" % faults.retry_after_s)
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if method == "HEAD" else body)


def _with_other_etag(answer: bytes) -> bytes:
    return re.sub(rb'(?i)(\r\netag: *"?)[0-9a-f]{8}', rb"\g<1>00000000", answer, count=1)
