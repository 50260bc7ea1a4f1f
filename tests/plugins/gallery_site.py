"""A folder as a job of ``spectrogram`` leaves it, with a gallery: for tests in a browser, and for looking at it."""

from __future__ import annotations

import functools
import http.server
import io
import math
import os
import sys
import threading
import wave
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.digests import hashed_file
from ingest.plugins.gallery import Gallery, GalleryParams
from ingest.processors import JobContext, Result

DAY = datetime(2019, 1, 12, tzinfo=UTC)
SEGMENT_S = 5
SAMPLE_RATE_HZ = 8000
CHANNEL = "OO.HYEA2..YDH"
PICTURES = 24


@dataclass
class Rows:
    """Results made by hand: rows, and a folder that holds the objects."""

    folder: Path
    listed: Sequence[Result] = field(default_factory=list)
    failed_items: int = 0

    def rows(self) -> Iterator[Result]:
        return iter(self.listed)

    def open(self, key: str) -> AbstractContextManager[Path]:
        return nullcontext(self.folder / key)

    def object_key(self, row: Result) -> str:
        return row.key

    def stored(self, prefix: str) -> Iterator[tuple[str, int]]:
        for path in sorted(self.folder.rglob("*")):
            key = path.relative_to(self.folder).as_posix()
            if path.is_file() and key.startswith(prefix):
                yield key, path.stat().st_size

    def sha256(self, key: str) -> str:
        return hashed_file(self.folder / key)[0]


def context(scratch_dir: Path, job_name: str = "Whales") -> JobContext:
    return JobContext("job-1", job_name, "2026-01-31", None, scratch_dir)


def row(key: str, kind: str, start: datetime | str, **metadata: str) -> Result:
    facts = {
        "start": start if isinstance(start, str) else f"{start:%Y-%m-%dT%H:%M:%S.%fZ}",
        "kind": kind,
        "channel_id": CHANNEL,
        "duration_s": str(SEGMENT_S),
        "sample_rate_hz": str(SAMPLE_RATE_HZ),
        "units": "dB re 1 uPa^2/Hz",
        "gap_fraction": "0",
        "level_min_db": "40",
        "level_max_db": "110",
        "freq_min_hz": "0",
        "freq_max_hz": str(SAMPLE_RATE_HZ // 2),
        "freq_scale": "linear",
        "clip_scale": "normalised by segment",
    }
    content_type = "image/png" if kind == "picture" else "audio/wav"
    return Result(
        "a.mseed", "/data/a.mseed", 9, 9, key, 9, "", None, content_type, "stored", {**facts, **metadata}
    )


def stem(start: datetime, folder: str = "megaptera/HYDBBA106") -> str:
    return (
        f"{folder}/{start:%Y_%m_%d}/OO_HYEA2__YDH_{start:%Y_%m_%dT%H_%M_%S}_{start.microsecond // 1000:03d}"
    )


def picture_png(seed: int, gap: float = 0.0) -> bytes:
    """A picture like a spectrogram, with a whale's upsweeps in it; transparent from ``1 - gap`` on."""
    random = np.random.default_rng(seed)
    noise = random.gamma(2.0, 26.0, (512, 512)) * np.linspace(0.5, 1.3, 512)[:, None]
    columns = np.arange(512)
    for call in range(seed % 4):
        first = 60 + 110 * call
        for x in columns[first : first + 90]:
            y = int(430 - (x - first) ** 1.2 - 30 * call)
            noise[max(y - 4, 0) : y + 4, x] += 150
    levels = np.clip(noise, 0, 254).astype(np.uint8)
    if gap:
        levels[:, int(512 * (1 - gap)) :] = 255
    image = Image.fromarray(levels, "L").convert("P")
    image.putpalette(
        [v for i in range(256) for v in (int(i * 0.9), min(255, int(i * 1.0)), min(255, i + 20))]
    )
    file = io.BytesIO()
    image.save(file, "PNG", transparency=255)
    return file.getvalue()


def clip_wav(seed: int) -> bytes:
    seconds = np.arange(SEGMENT_S * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = 0.3 * np.sin(2 * math.pi * (200 + 40 * seed) * seconds) * np.exp(-((seconds - 2) ** 2))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes((tone * 32767).astype("<i2").tobytes())
    return file.getvalue()


def make_site(folder: Path, count: int, *, params: GalleryParams | None = None, name: str = "Whales") -> None:
    """``count`` segments of a day with their objects, and the gallery, in ``folder``.

    Every 97th has a gap, every 211th is partial, and 20 minutes from 07:10 on are missing.
    """
    samples = folder.with_name(folder.name + "-samples")
    samples.mkdir(parents=True)
    for seed in range(PICTURES):
        (samples / f"{seed}.png").write_bytes(picture_png(seed))
        (samples / f"gap-{seed}.png").write_bytes(picture_png(seed, 0.35))
        (samples / f"{seed}.wav").write_bytes(clip_wav(seed))
    rows = [made for number in range(count) for made in _segment(folder, samples, number)]
    finish(folder, Rows(folder, rows), params or GalleryParams(), name)


def _segment(folder: Path, samples: Path, number: int) -> Iterator[Result]:
    start = DAY + timedelta(seconds=SEGMENT_S * number)
    if (start.hour, start.minute // 10) in ((7, 1), (7, 2)):
        return
    gap = number % 97 == 96
    facts = {"gap_fraction": "0.35"} if gap else {}
    if number % 211 == 210:
        facts["partial"] = "the next file was not at hand"
    seed = number % PICTURES
    for kind, suffix, sample in (
        ("picture", ".png", f"{'gap-' if gap else ''}{seed}.png"),
        ("clip", ".wav", f"{seed}.wav"),
    ):
        key = stem(start) + suffix
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(samples / sample, path)
        yield row(key, kind, start, **facts)


def finish(folder: Path, results: Rows, params: GalleryParams, name: str = "Whales") -> None:
    """Write what the finisher adds into ``folder``."""
    gallery = Gallery(params, context(folder.with_name(folder.name + "-scratch"), name))
    for addition in gallery.additions(results):
        path = folder / addition.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(addition.body if isinstance(addition.body, bytes) else addition.body.read_bytes())


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder on a web server of this machine, as a bucket's website has it; yields its URL."""
    handler = functools.partial(_Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    make_site(Path(sys.argv[1]), int(sys.argv[2]), name="OOI Oregon Offshore, 12 January 2019")
