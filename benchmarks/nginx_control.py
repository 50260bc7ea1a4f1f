"""What nginx cannot do of S3's language, over the same folder: listings, bulk deletes, and saying no to multipart."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
PAGE = 1000
ETAG = "&quot;00000000000000000000000000000000&quot;"


@contextmanager
def answering(root: Path) -> Iterator[int]:
    """A server for the buckets in ``root``; its port on 127.0.0.1."""

    class Handler(_Handler):
        buckets = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="nginx-control", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    buckets: Path

    def do_HEAD(self) -> None:
        self._answer(200, "")

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        bucket = unquote(where.path).strip("/")
        query = {name: values[0] for name, values in parse_qs(where.query, keep_blank_values=True).items()}
        if "location" in query:
            self._answer(200, f'<LocationConstraint xmlns="{NAMESPACE}"/>')
        elif bucket:
            self._answer(200, _listing(self.buckets / bucket, query))
        else:
            self._answer(501, "<Error><Code>NotImplemented</Code></Error>")

    def do_PUT(self) -> None:
        self._answer(200, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        where = urlsplit(self.path)
        if "delete" not in parse_qs(where.query, keep_blank_values=True):
            self._answer(501, "<Error><Code>NotImplemented</Code></Error>")
            return
        root = self.buckets / unquote(where.path).strip("/")
        deleted = [key.text or "" for key in ElementTree.fromstring(body).iterfind(".//{*}Key")]
        for key in deleted:
            (root / key).unlink(missing_ok=True)
        entries = "".join(f"<Deleted><Key>{_text(key)}</Key></Deleted>" for key in deleted)
        self._answer(200, f'<DeleteResult xmlns="{NAMESPACE}">{entries}</DeleteResult>')

    def _answer(self, status: int, text: str) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode() if text else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _listing(bucket: Path, query: dict[str, str]) -> str:
    """A page of a ``ListObjectsV2``."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token") or query.get("start-after", "")
    wanted = min(int(query.get("max-keys") or PAGE), PAGE)
    names = (name for name in _names(bucket, prefix, delimiter) if name > after)
    page = list(islice(names, wanted + 1))
    is_cut, page = len(page) > wanted, page[:wanted]
    shown = quote if query.get("encoding-type") == "url" else _text
    entries = "".join(
        f"<CommonPrefixes><Prefix>{shown(name)}</Prefix></CommonPrefixes>"
        if name.endswith("/")
        else f"<Contents><Key>{shown(name)}</Key><Size>{(bucket / name).stat().st_size}</Size><ETag>{ETAG}</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
        for name in page
    )
    token = f"<NextContinuationToken>{_text(page[-1])}</NextContinuationToken>" if is_cut else ""
    encoding = "<EncodingType>url</EncodingType>" if "encoding-type" in query else ""
    return (
        f'<ListBucketResult xmlns="{NAMESPACE}"><Name>{bucket.name}</Name><Prefix>{shown(prefix)}</Prefix>{encoding}'
        f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{wanted}</MaxKeys>"
        f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    )


def _names(bucket: Path, prefix: str, delimiter: str) -> list[str]:
    """Keys below ``prefix``, in order; with a delimiter those in folders as their folder, with its slash."""
    base = bucket / prefix.rpartition("/")[0]
    found: set[str] = set()
    for folder, folders, files in os.walk(base):
        inside = os.path.relpath(folder, bucket)
        start = "" if inside == "." else f"{inside}/"
        found.update(start + name for name in files)
        if delimiter:
            found.update(f"{start}{name}/" for name in folders if any((Path(folder) / name).iterdir()))
            break
    return sorted(name for name in found if name.startswith(prefix))


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
