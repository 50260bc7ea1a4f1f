"""An S3 server that costs nearly nothing, so that the client is what is measured: nginx over a folder in memory.

nginx stores, serves and deletes single objects. Listings and bulk deletes, which are rare, go to a small Python
server beside it (:mod:`nginx_control`). Signatures are not checked, metadata is not kept, multipart uploads are
refused, and every ETag is the same, so it proves nothing: Ingest's jobs need ``"checksum": "none"`` here, and still
take the SHA-256 of what they read. A PUT with ``If-None-Match: *`` is refused where there is an object, as AWS
does. What a client sends in ``aws-chunked`` encoding is stored with its framing: give aws-cli
``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from harness import BUCKET, Server, children, clean_env, end, free_port
from nginx_control import answering

CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
worker_processes {workers};
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    client_body_buffer_size 2m;
    keepalive_requests 100000000;
    etag off;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port} backlog=1024 reuseport;
        root {root};
        error_page 418 = @control;
        location ~ ^/[^/]+/?$ {{ proxy_pass http://127.0.0.1:{control}; }}
        location @control {{ proxy_pass http://127.0.0.1:{control}; }}
        location / {{
            set $kept "$request_method$http_if_none_match";
            if ($request_method = POST) {{ return 418; }}
            if (-f $request_filename) {{ set $kept "${{kept}}there"; }}
            if ($kept = "PUT*there") {{ return 412; }}
            dav_methods PUT DELETE;
            create_full_put_path on;
            add_header ETag '"00000000000000000000000000000000"' always;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class NginxServer(Server):
    """A running nginx; ``pid`` is its master's."""

    def cpu_s(self) -> float:
        """CPU seconds that it has used so far, with its workers'."""
        ticks = os.sysconf("SC_CLK_TCK")
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in (self.pid, *children(self.pid))]
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return sum(int(field[11]) + int(field[12]) for field in fields) / ticks


@contextmanager
def serving_nginx(folder: Path, workers: int | None = None) -> Iterator[NginxServer]:
    """nginx over a new folder, on a free port of this machine, with one bucket.

    Args:
        folder: for its objects, in memory best of all (:func:`harness.memory_folder`).
        workers: its processes; one for each core by default.

    Raises:
        RuntimeError: there is no nginx on PATH, or it does not start; its log says why.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("there is no nginx on PATH; Debian's package is `nginx`")
    root, port = folder / "buckets", free_port()
    (root / BUCKET).mkdir(parents=True)
    with answering(root) as control:
        text = CONFIG.format(
            folder=folder,
            root=root,
            port=port,
            control=control,
            workers=workers or "auto",
            user="user root;" if os.geteuid() == 0 else "",
        )
        config, log = folder / "nginx.conf", folder / "nginx-error.log"
        config.write_text(text)
        process = subprocess.Popen([program, "-e", str(log), "-c", str(config)], env=clean_env())
        server = NginxServer(f"http://127.0.0.1:{port}", root, process.pid)
        try:
            _await(process, server.endpoint_url, log)
            yield server
        finally:
            end(process)


def _await(process: subprocess.Popen[bytes], url: str, log: Path, within_s: float = 10.0) -> None:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s and process.poll() is None:
        try:
            with urlopen(f"{url}/{BUCKET}?list-type=2"):
                return
        except URLError:
            time.sleep(0.05)
    process.terminate()
    raise RuntimeError(f"nginx does not answer:\n{log.read_text() if log.exists() else ''}")
