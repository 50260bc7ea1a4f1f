"""A proxy before a real S3 server, which tampers, breaks connections, or checks what the server does not."""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.s3_servers import S3Server


@dataclass(frozen=True)
class Request:
    """A request on its way to the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, whatever its case."""
        return next((value for key, value in self.headers.items() if key.lower() == name), None)


@dataclass(frozen=True)
class Response:
    """An answer on its way back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def error(status: int, code: str) -> Response:
    """An answer as S3 gives errors."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'.encode()
    return Response(status, [("Content-Type", "application/xml")], body)


class Dropped(Exception):
    """The connection is to be closed without an answer."""


Forward = Callable[[Request], Response]
Handler = Callable[[Request, Forward], Response]


@dataclass
class Proxy:
    """A running proxy: ``handle`` may be set anew at any time; ``seen`` are the requests so far."""

    server: S3Server
    handle: Handler = lambda request, forward: forward(request)
    seen: list[Request] = field(default_factory=list)

    def count(self, method: str, part: str = "") -> int:
        """How many requests had this method and this text in their path."""
        return sum(1 for request in self.seen if request.method == method and part in request.path)


def forward_to(endpoint: str) -> Forward:
    """What sends a request on, as it is."""

    def forward(request: Request) -> Response:
        connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() != "content-length":
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            return Response(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    return forward


@contextmanager
def proxied(server: S3Server, handle: Handler | None = None) -> Iterator[tuple[S3Server, Proxy]]:
    """A server like ``server`` that is reached through a proxy, and the proxy."""
    proxy = Proxy(server)
    if handle is not None:
        proxy.handle = handle
    forward = forward_to(server.endpoint_url)

    class Handling(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if self.headers.get("Expect", "").lower() == "100-continue":
                pass  # http.server has answered it
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            request = Request(self.command, self.path, headers, body)
            proxy.seen.append(request)
            try:
                response = proxy.handle(request, forward)
            except Dropped:
                self.close_connection = True
                return
            self.send_response_only(response.status)
            skipped = ("content-length", "transfer-encoding", "connection")
            length = str(len(response.body))
            for name, value in response.headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                if name.lower() not in skipped:
                    self.send_header(name, value)
            if response.status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that went away

    with Listening(("127.0.0.1", 0), Handling) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield (
                replace(server, name="proxy", endpoint_url=f"http://127.0.0.1:{listening.server_port}"),
                proxy,
            )
        finally:
            listening.shutdown()
            thread.join()


def checking_sha256(request: Request, forward: Callable[[Request], Response]) -> Response:
    """What AWS does with a SHA-256 header: refuse other bytes. Neither server here does."""
    wanted = request.header("x-amz-checksum-sha256")
    if request.method == "PUT" and wanted is not None:
        found = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        if found != wanted:
            return error(400, "BadDigest")
    return forward(request)


def flipping_a_bit(request: Request, forward: Callable[[Request], Response]) -> Response:
    """Change the first byte of every body that is stored."""
    if request.method == "PUT" and request.body:
        request = replace(request, body=bytes([request.body[0] ^ 1]) + request.body[1:])
    return forward(request)
