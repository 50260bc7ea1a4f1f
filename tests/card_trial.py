"""A card's worth of files, offloaded twice: ``python -m tests.card_trial --files 5000`` says what came of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bagit

from ingest.config import Settings
from ingest.job import Job
from ingest.manifest import read_manifest
from ingest.manifest_parts import as_path
from tests.cluster import run
from tests.plugins.media import bext, jpeg, mp4, wav

DEVICE = "cam-07"
ODD_NAMES = (
    b"it's",
    b'a "quoted" name.jpg',
    b"new\nline.jpg",
    b"-rf",
    b"--help",
    b" blank",
    b"back\\slash.wav",
    b"$(touch x).jpg",
    b"caf\xe9.wav",
    b"caf%E9 100%.wav",
    "å🐋.JPG".encode(),
    b"*?.jpg",
    b".hidden",
    b"no suffix",
    b"tab\t.txt",
)
BURST_NS = 1_764_244_800_123_000_000


def make_card(root: Path, files: int, seed: int = 1) -> None:
    """Make a card of so many files: pictures, films, recordings and logs in nested folders; bursts of one time, equal
    names in several folders, equal contents under several names, odd names, empty files and a corrupt JPEG."""
    draw = random.Random(seed)
    bodies: list[bytes] = []
    for number in range(files):
        folder = f"DCIM/{100 + number % 7}CANON" + "/deep/er" * (number % 50 == 0)
        kind = number % 10
        if number < len(ODD_NAMES):
            name, body = ODD_NAMES[number], b"odd %d" % number
        elif number == len(ODD_NAMES):
            name, body = b"corrupt.jpg", jpeg("2026:06:01 12:00:00")[:200] + b"\xff" * 500
        elif number % 23 == 0:
            name, body = b"IMG_0001.JPG" if number % 46 else b"copy-%d.jpg" % number, draw.choice(bodies)
            folder += f"/{number}"
        elif kind < 6:
            name, body = b"IMG_%04d.JPG" % number, jpeg(f"2026:06:01 12:{number % 60:02}:00", seed=number)
        elif kind == 6:
            name, body = (
                b"MVI_%04d.MP4" % number,
                mp4(1_780_315_200 + number, seed=number) + bytes(number % 5000),
            )
        elif kind == 7:
            name, body = b"%06d.WAV" % number, wav(bext("2026-06-01", "12:00:00"), seed=number)
        else:
            name, body = (
                b"log-%d.csv" % number,
                b"" if kind == 8 and number % 3 == 0 else b"time,x\n%d,1\n" % number,
            )
        bodies.append(body)
        path = Path(os.fsdecode(os.fsencode(root / folder) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists()
        path.write_bytes(body)
        ns = BURST_NS + (number // 5) * 2_000_000_000  # five at a time
        os.utime(path, ns=(ns, ns))
    (root / "System Volume Information").mkdir()
    (root / "System Volume Information" / "IndexerVolumeGuid").write_bytes(b"x")


def look(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All that could show that something was written below a folder; times of last access aside."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in (root, *root.rglob("*")):
        info = path.lstat()
        body = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[os.fsencode(path)] = (
            info.st_ino,
            info.st_mode,
            info.st_size,
            info.st_mtime_ns,
            info.st_ctime_ns,
            body,
        )
    return found


@dataclass
class Offload:
    """What an ``ingest offload`` said."""

    code: int
    took_s: float
    job_id: str = ""
    counts: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    errors: str = ""


def offload(card: Path, *options: str | Path, device: str | None = DEVICE) -> Offload:
    """Run ``ingest offload``."""
    began_s = time.monotonic()
    done = run("offload", str(card), *([device] if device else []), *map(str, options), "-p", "1", "--json")
    said = Offload(done.returncode, time.monotonic() - began_s, errors=done.stderr)
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if event["event"] == "created":
            said.job_id = event["job_id"]
        elif event["event"] == "ended":
            said.counts = event
        elif event["event"] == "card":
            said.card = event
    return said


def checked_by_sha256sum(folder: Path, sums: Path) -> str:
    """What ``sha256sum -c`` finds wrong with a folder; "" for nothing."""
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "--strict", str(sums)], cwd=folder, capture_output=True, check=False
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).decode(errors="replace")[:2000]


def backup_sums(job: Job, backup: Path) -> Path:
    """A file of checksums of all backup copies, by the manifest."""
    lines = []
    for row in read_manifest(job.store, job.job_id, job.settings.scratch):
        facts = dict(row["metadata"])
        raw = os.fsencode(as_path(facts["backup"]))
        escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
        lines.append(b"\\" * (escaped != raw) + facts["source_sha256"].encode() + b"  " + escaped + b"\n")
    sums = backup.parent / "backup-sums.txt"
    sums.write_bytes(b"".join(lines))
    return sums


def run_trial(folder: Path, files: int) -> list[str]:
    """Make a card and offload it twice into folders; a line for each thing seen.

    Raises:
        AssertionError: something is not as it should be.
    """
    card, backup, stored = folder / "card", folder / "backup", folder / "stored"
    make_card(card, files)
    backup.mkdir()
    assert run("devices", "add", DEVICE, "--to", str(stored)).returncode == 0
    before = look(card)
    options = ("--to", stored, "--backup", backup, "--bagit")
    first = offload(card, *options)
    assert (first.code, first.card.get("safe")) == (0, True), (first, first.errors)
    assert first.card["files"] == files
    after_first = look(backup) | _objects(stored)
    second = offload(card, *options)
    assert (second.code, second.card.get("safe")) == (0, True), (second, second.errors)
    assert not (moved := _differing(after_first, look(backup) | _objects(stored))), moved
    assert look(card) == before, "something was written to the card"
    objects = [name for name, entry in _objects(stored).items() if entry[-1]]
    contents = {entry[-1] for entry in before.values() if entry[-1]}
    copies = [path for path in backup.rglob("*") if path.is_file()]
    assert len(copies) == files
    for said in (first, second):
        job = Job(said.job_id, Settings.load())
        sums = stored / ".ingest" / job.job_id / "manifest-sha256.txt"
        assert not (found := checked_by_sha256sum(stored, sums)), found
        assert not (found := checked_by_sha256sum(folder, backup_sums(job, backup))), found
    [bag] = [path.parent for path in (stored / "raw").rglob("bagit.txt")]
    bagit.Bag(str(bag)).validate()
    return [
        f"{files:,} files, {first.card['size_bytes']:,} bytes, {len(contents):,} contents on the card",
        f"first: {first.took_s:.1f} s, {_counted(first)}; {len(objects):,} objects, {len(copies):,} backup copies",
        f"second: {second.took_s:.1f} s, {_counted(second)}; nothing moved",
        "sha256sum -c accepts the stored and the backup, bagit the bag; nothing was written to the card; twice safe",
    ]


def _objects(stored: Path) -> dict[bytes, tuple[object, ...]]:
    """The data objects, without the markers and the notes on who refers to what."""
    return {name: entry for name, entry in look(stored / "raw").items() if b"/data/" in name}


def _differing(before: Mapping[bytes, object], after: Mapping[bytes, object]) -> list[bytes]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _counted(said: Offload) -> str:
    counts = said.counts["items"]
    return f"{counts['done']:,} stored, {counts['skipped']:,} skipped, {counts['failed']:,} failed"


def main() -> None:
    """Run the trial in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="card-trial-") as folder:
        os.environ["INGEST_STATE_DIR"] = f"{folder}/state"
        try:
            print(*run_trial(Path(folder), arguments.files), sep="\n")
        finally:
            run("down")


if __name__ == "__main__":
    main()
