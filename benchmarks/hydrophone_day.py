"""A whole day of one hydrophone, synthetic, through the example job: what it takes, and whether its gallery opens.

    PYTHONPATH=. python benchmarks/hydrophone_day.py [--files 288] [--distinct 8] [--to folder|s3] [--folder DIR]
        [--json FILE]

Files of 5 minutes at 64 kHz, in STEIM2, as OOI has them, lie on an nginx of its own, laid out as its raw-data server
is; `ingest create config/examples/hydrophone.json` takes them from there. A few files are made, of noise with sweeps
and clicks, and the others are these at later times. A day is 10 GB, and as much again is stored: give `--folder` a disk
that has 30 GB. Linux, with nginx and chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from harness import (
    BUCKET,
    Server,
    Table,
    Usage,
    become_reaper,
    busy_s,
    clean_env,
    machine,
    measure,
    serving,
    write_json,
)
from playwright.sync_api import sync_playwright
from spectrogram import sea, write_mseed

from tests.web_servers import nginx_index

INGEST = str(Path(sys.executable).with_name("ingest"))
EXAMPLE = Path(__file__).parent.parent / "config" / "examples" / "hydrophone.json"
DAY = datetime(2019, 1, 12)
FOLDER = f"CE02SHBP/LJ01D/11-HYDBBA106/{DAY:%Y/%m/%d}"
FILE_S = 300
RECORD_BYTES = 4096
SEGMENTS = """async () => (await Promise.all([...Gallery.hours.keys()].map(Gallery.segmentsOf)))
    .flat().filter(({ picture, clip }) => picture && clip).length"""


@dataclass(frozen=True, slots=True)
class Day:
    """What a day took.

    Attributes:
        usage: of the command and all that it started, its Redis too, but not of the servers.
        others_cpu_s: CPU seconds of everything else on the machine meanwhile, the servers included.
        source_bytes: of all files.
        sizes_bytes: of the smallest and the largest file.
        objects, stored_bytes: what the job stored, with gallery and list, without its manifest.
        segments: pictures among them.
        partial: how many segments lack a part that another file may have.
        gallery: what the browser found.
    """

    usage: Usage
    others_cpu_s: float
    files: int
    source_bytes: int
    sizes_bytes: tuple[int, int]
    objects: int
    stored_bytes: int
    segments: int
    partial: int
    gallery: Gallery


@dataclass(frozen=True, slots=True)
class Gallery:
    """The page in Chromium: how many segments with picture and clip it knows, and when its first picture was there."""

    segments: int
    first_picture_s: float
    complaints: list[str]


def make_day(root: Path, files: int, distinct: int) -> list[int]:
    """Write a day's files below ``root``, and return their sizes in bytes."""
    root.mkdir(parents=True)
    made = [_records(root / "made.mseed", seed) for seed in range(min(files, distinct))]
    sizes = []
    for number in range(files):
        start = DAY + timedelta(seconds=number * FILE_S)
        records = made[number % len(made)].copy()
        _shift(records, number * FILE_S // 60)
        path = root / f"OO-HYEA2--YDH-{start:%Y-%m-%dT%H:%M:%S.%f}.mseed"
        records.tofile(path)
        sizes.append(path.stat().st_size)
    return sizes


def _records(path: Path, seed: int) -> Any:
    """The records of five minutes from midnight on: (records, bytes)."""
    loudness = 0.27 * 2 ** (seed % 4)  # so that files differ in size, as real ones do
    write_mseed(path, np.rint(sea(FILE_S, seed) * loudness).astype(np.int32), DAY.isoformat())
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)
    path.unlink()
    return records


def _shift(records: Any, minutes: int) -> None:
    """Move records of a day's beginning to later on that day: hour and minute are bytes 24 and 25 of a header."""
    total = records[:, 24].astype(np.int64) * 60 + records[:, 25] + minutes
    records[:, 24], records[:, 25] = total // 60, total % 60


def run(files: int, distinct: int, to: str, folder: Path | None, screenshot: Path | None = None) -> Day:
    """The trial.

    Raises:
        RuntimeError: the job did not end well, or left something out.
    """
    become_reaper()
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="ingest-day-", dir=folder)))
        sizes = make_day(root / "web" / FOLDER, files, distinct)
        url = stack.enter_context(nginx_index(root)).url
        stored, more = root / "stored", clean_env()
        command = [INGEST, "create", str(EXAMPLE), "--yes", "--json", "--set"]
        command += [f"path_processor.params.base_url={url}"]
        if to == "s3":
            server: Server = stack.enter_context(serving(root))
            destination = {"url": f"s3://{BUCKET}/day", "endpoint_url": server.endpoint_url}
            command += ["--set", f"destination={json.dumps(destination)}"]
            stored, more = server.folder / BUCKET / "day", server.aws_env()
        else:
            command += ["--to", str(stored)]
        env = more | {"INGEST_STATE_DIR": str(root / "state")}
        busy_before_s = busy_s()
        usage = measure(command, env, root / "log", after=lambda: _down(env))
        others_cpu_s = busy_s() - busy_before_s - usage.cpu_s
        ended = json.loads((root / "log").read_text().splitlines()[-1])
        if ended.get("state") != "complete":
            raise RuntimeError(f"the job ended {ended}")
        paths = [path for path in stored.rglob("*") if path.is_file() and ".ingest" not in path.parts]
        return Day(
            usage=usage,
            others_cpu_s=others_cpu_s,
            files=files,
            source_bytes=sum(sizes),
            sizes_bytes=(min(sizes), max(sizes)),
            objects=len(paths),
            stored_bytes=sum(path.stat().st_size for path in paths),
            segments=sum(path.suffix == ".png" for path in paths),
            partial=_partial(stored),
            gallery=look(stored / "index.html", screenshot),
        )


def _down(env: dict[str, str]) -> None:
    subprocess.run([INGEST, "down"], env=env, check=True, capture_output=True)


def _partial(stored: Path) -> int:
    """How many pictures the manifest calls partial."""
    (manifest,) = stored.glob(".ingest/*/manifest.parquet")
    rows = [dict(row) for row in pq.read_table(manifest, columns=["metadata"])["metadata"].to_pylist()]
    return sum("partial" in row and row["kind"] == "picture" for row in rows)


def look(page_path: Path, screenshot: Path | None = None) -> Gallery:
    """Open a gallery as a file in Chromium."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        begun_s = time.monotonic()
        page.goto(page_path.as_uri())
        page.wait_for_selector(".cell img")
        while not page.evaluate("document.querySelector('.cell img').naturalWidth > 0"):
            page.wait_for_timeout(10)
        first_picture_s = time.monotonic() - begun_s
        segments = int(page.evaluate(SEGMENTS))
        if screenshot is not None:
            page.locator(".cell").nth(4).click()
            page.wait_for_timeout(1000)
            page.screenshot(path=screenshot)
        browser.close()
    return Gallery(segments, first_picture_s, complaints)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=288)
    parser.add_argument("--distinct", type=int, default=8)
    parser.add_argument("--to", choices=["folder", "s3"], default="folder")
    parser.add_argument("--folder", type=Path, help="for all files; default: the system's for passing files")
    parser.add_argument("--screenshot", type=Path, help="of the gallery")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    facts = machine()
    day = run(args.files, args.distinct, args.to, args.folder, args.screenshot)
    print(_table(day))
    write_json(args.json, asdict(day) | {"machine": facts})
    if day.gallery.segments != day.segments or day.gallery.complaints:
        raise SystemExit(f"the gallery is not whole: {day.gallery}")


def _table(day: Day) -> Table:
    small, large = (size / 1e6 for size in day.sizes_bytes)
    rows = [
        ("files", f"{day.files:,} of {small:.1f} to {large:.1f} MB, {day.source_bytes / 1e9:.2f} GB"),
        ("wall time", f"{day.usage.wall_s:,.0f} s"),
        ("CPU time", f"{day.usage.cpu_s:,.0f} s"),
        ("CPU time of all else", f"{day.others_cpu_s:,.0f} s"),
        ("peak memory, all processes", f"{day.usage.peak_bytes / 2**20:,.0f} MiB"),
        ("segments", f"{day.segments:,}, {day.partial} partial"),
        ("objects", f"{day.objects:,}, {day.stored_bytes / 1e9:.2f} GB"),
        ("CPU a segment", f"{1000 * day.usage.cpu_s / max(1, day.segments):.1f} ms"),
        ("gallery", f"{day.gallery.segments:,} segments, first picture {day.gallery.first_picture_s:.1f} s"),
    ]
    return Table(("a day", ""), [*rows])


if __name__ == "__main__":
    main()
