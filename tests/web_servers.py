"""Web servers for the tests: nginx's autoindex over a folder, and one that does what it is told to do wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from tests.needs import require
from tests.s3_servers import free_port

NGINX = """\
daemon off;
pid {state}/nginx.pid;
error_log {state}/error.log warn;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
    types {{ text/html html; application/vnd.fdsn.mseed mseed; }}
    default_type application/octet-stream;
    log_format requests '$request_method $uri $status $http_range "$http_user_agent"';
    access_log {state}/access.log requests;
    client_body_temp_path {state}/body;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        autoindex on;
        autoindex_exact_size {exact};
        {more}
    }}
}}
"""


@dataclass
class NginxIndex:
    """nginx over ``root``, at ``url``. It can be stopped and started again, at the same address."""

    root: Path
    state: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None
        log = self.state / "error.log"
        self.process = subprocess.Popen([program, "-e", str(log), "-c", str(self.state / "nginx.conf")])
        for _ in range(500):
            assert self.process.poll() is None, log.read_text()
            try:
                with urlopen(self.url):
                    return
            except URLError as error:
                if not isinstance(error.reason, OSError):
                    return
                time.sleep(0.02)
        raise AssertionError("nginx does not answer")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def requests(self) -> list[str]:
        """Its log so far: method, path, status, range, user agent."""
        return (self.state / "access.log").read_text().splitlines()


@contextmanager
def nginx_index(folder: Path, *, exact: bool = True, more: str = "") -> Iterator[NginxIndex]:
    """nginx over ``folder/web``, which is made where it is not there; ``more`` is added to its config."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    require(found, "nginx is not installed (Debian's package is `nginx`)")
    root, state = folder / "web", folder / "nginx"
    root.mkdir(exist_ok=True)
    state.mkdir()
    server = NginxIndex(root, state, free_port())
    (state / "nginx.conf").write_text(
        NGINX.format(
            state=state,
            root=root,
            port=server.port,
            user="user root;" if os.geteuid() == 0 else "",
            exact="on" if exact else "off",
            more=more,
        )
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Handler(BaseHTTPRequestHandler):
    """One request, answered by the next of the server's ``answers``."""

    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def _answer(self) -> None:
        server = self.server
        with server.lock:
            server.seen.append((self.command, self.path, dict(self.headers)))
        with suppress(BrokenPipeError, ConnectionResetError):
            server.answer(self)

    do_GET = do_HEAD = _answer

    def say(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Send an answer; with a ``length`` that is more than the body has, the connection is closed then."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()
        if length is not None and length != len(body):
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class FaultyServer(ThreadingHTTPServer):
    """Answers as ``answer(request)`` says."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.lock = threading.Lock()
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


@contextmanager
def faulty_server(answer: Callable[[Handler], None]) -> Iterator[FaultyServer]:
    """A running one."""
    server = FaultyServer(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Breaking:
    """A file that is sent in pieces, as honest servers send it that break off: Range and If-Range are honoured.

    Attributes:
        body: the file.
        breaks: after how many bytes each answer breaks off; then it is sent whole.
        ranges: whether a Range is honoured.
    """

    body: bytes
    breaks: list[int]
    etag: str = '"v1"'
    modified: str = "Sat, 12 Jan 2019 15:20:00 GMT"
    ranges: bool = True
    starts: list[int] = field(default_factory=list)

    def __call__(self, request: Handler) -> None:
        wanted = request.headers.get("Range", "")
        same = request.headers.get("If-Range") in (self.etag, self.modified)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if self.ranges and wanted and same else 0
        self.starts.append(start)
        rest = self.body[start:]
        sent = rest[: self.breaks.pop(0)] if self.breaks else rest
        headers = {"ETag": self.etag, "Last_Modified": self.modified}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        request.say(206 if start else 200, sent, len(rest), **headers)
