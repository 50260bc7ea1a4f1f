"""How each tool is told to upload a folder: Ingest, and its peers with the settings that suit them best here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from commit_clock import CommitClock
from harness import ACCESS_KEY, BUCKET, SECRET_KEY, Server, clean_env
from nginx_server import NginxServer
from peers import peer
from works import TILE, Work

from ingest.workers.known_files import AT_REST_NS
from ingest.workers.known_files import FILE_NAME as KNOWN_FILES

INGEST = str(Path(sys.executable).with_name("ingest"))
CLIENTS = Path(__file__).with_name("clients")
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Command:
    """A command to be measured.

    Attributes:
        after: ends what outlives it; is not measured.
        clock: Ingest's: when it began to work, and when it had worked.
        objects: how many it stores, where these are not all.
        says: it prints, as its last line, ``{"items": …, "running_s": …}``.
    """

    argv: list[str]
    env: dict[str, str]
    after: Callable[[], None] = lambda: None
    clock: CommitClock | None = None
    objects: int | None = None
    says: bool = False


Tool = Callable[[Work, Server, str, Path], Command]
"""From what to upload, where to, below which prefix, and a scratch folder."""


def ingest(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``ingest create`` with its defaults and a Redis of its own, which the command itself starts.

    nginx's ETag proves nothing, so there the answer is trusted; the SHA-256 is taken all the same.
    """
    return _ingest(work, server, prefix, scratch)


def ingest_unread(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """The same with ``upload.reread`` false, beside what a run before has noted of the files, which are at rest."""
    changed_s = max(path.stat().st_ctime for path in work.folder.rglob("*"))
    time.sleep(max(0.0, changed_s + AT_REST_NS / 1e9 - time.time()))
    noted, state_dir = work.folder.with_name("noted"), scratch / "state"
    state_dir.mkdir()
    if noted.exists():
        shutil.copy(noted, state_dir / KNOWN_FILES)
    command = _ingest(work, server, prefix, scratch, upload={"reread": False})

    def after() -> None:
        command.after()
        shutil.copy(state_dir / KNOWN_FILES, noted)

    return replace(command, after=after)


def _ingest(work: Work, server: Server, prefix: str, scratch: Path, **changes: Any) -> Command:
    destination = {"url": f"s3://{BUCKET}/{prefix}", "endpoint_url": server.endpoint_url}
    if isinstance(server, NginxServer):
        destination["checksum"] = "none"
    config = {
        "name": "bench",
        "destination": destination,
        **(_tiles(work) if work.sections else _files(work)),
        **changes,
    }
    path, state_dir = scratch / "config.json", scratch / "state"
    path.write_text(json.dumps(config))
    env = server.aws_env() | {"INGEST_STATE_DIR": str(state_dir)}
    clock = CommitClock(state_dir)

    def down() -> None:
        clock.stop()
        subprocess.run([INGEST, "down"], env=env, check=True, capture_output=True)

    return Command([INGEST, "create", str(path), "--yes", "--json"], env, down, clock)


def _files(work: Work) -> dict[str, Any]:
    return {
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": str(work.folder)}},
    }


def _tiles(work: Work) -> dict[str, Any]:
    pixels = TILE * round((work.objects / work.sections) ** 0.5)
    return {
        "ingest_job": {
            "type": "tiles",
            "extent": {"x": [0, pixels], "y": [0, pixels], "z": [0, work.sections]},
            "tile_size": {"x": TILE, "y": TILE},
        },
        "path_processor": {
            "class": "z_stack",
            "params": {"root_dir": str(work.folder), "extension": "png", "base_filename": "<p:4>"},
        },
        "tile_processor": {"class": "image", "params": {"format": "png"}},
    }


def s5cmd(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``s5cmd cp`` with its defaults (256 workers)."""
    return _s5cmd("cp", work, server, prefix)


def s5cmd_sync(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``s5cmd sync``: looks at sizes and times."""
    return _s5cmd("sync", work, server, prefix)


def _s5cmd(what: str, work: Work, server: Server, prefix: str) -> Command:
    argv = ["s5cmd", "--log", "error", "--endpoint-url", server.endpoint_url, what]
    return Command([*argv, f"{work.folder}/", f"s3://{BUCKET}/{prefix}/"], server.aws_env())


def rclone(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``rclone copy`` with 32 transfers at once."""
    return _rclone(["copy"], work, server, prefix)


def rclone_sync(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``rclone sync``: looks at sizes and at the times in the objects' metadata, a question each."""
    return _rclone(["sync"], work, server, prefix)


def rclone_sync_listed(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``rclone sync`` by sizes and by the server's own times, which a listing has: the quickest that it can."""
    return _rclone(["sync", "--update", "--use-server-modtime", "--fast-list"], work, server, prefix)


def _rclone(what: list[str], work: Work, server: Server, prefix: str) -> Command:
    env = clean_env(
        RCLONE_CONFIG=os.devnull,
        RCLONE_CONFIG_BENCH_TYPE="s3",
        RCLONE_CONFIG_BENCH_PROVIDER="Rclone",
        RCLONE_CONFIG_BENCH_ACCESS_KEY_ID=ACCESS_KEY,
        RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY=SECRET_KEY,
        RCLONE_CONFIG_BENCH_ENDPOINT=server.endpoint_url,
        RCLONE_CONFIG_BENCH_NO_CHECK_BUCKET="true",
    )
    argv = ["rclone", *what, "--transfers", "32", "--checkers", "32", "--stats", "0"]
    if isinstance(server, NginxServer):
        argv += ["--ignore-checksum"]
    return Command([*argv, str(work.folder), f"bench:{BUCKET}/{prefix}"], env)


def aws(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``aws s3 cp --recursive`` with its defaults, without its own checksum header, which nginx would store."""
    env = server.aws_env() | {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
    argv = [str(peer("awscli") / "aws"), "--endpoint-url", server.endpoint_url, "s3", "cp", "--recursive"]
    return Command([*argv, "--only-show-errors", str(work.folder), f"s3://{BUCKET}/{prefix}"], env)


def cloud_files(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """``cloudfiles cp -r`` with a process for each core."""
    secrets = scratch / ".cloudvolume" / "secrets"
    secrets.mkdir(parents=True)
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    (secrets / "aws-secret.json").write_text(json.dumps(keys))
    env = clean_env(HOME=str(scratch), AWS_REQUEST_CHECKSUM_CALCULATION="when_required")
    argv = [str(peer("cloud-files") / "cloudfiles"), "-p", str(CORES), "cp", "-r", f"file://{work.folder}"]
    return Command([*argv, f"s3://{server.endpoint_url}/{BUCKET}/{prefix}"], env)


def celery(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """Plain Celery on a Redis of its own: one message a file, boto3 in the task."""
    env = server.aws_env() | {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
    argv = [sys.executable, str(CLIENTS / "celery_client.py"), "upload", str(scratch), str(work.folder)]
    return Command([*argv, server.endpoint_url, BUCKET, prefix], env, says=True)


def boss(work: Work, server: Server, prefix: str, scratch: Path) -> Command:
    """boss-ingest's own engine and z-stack plugins, without its queues, with a process for each core.

    It decodes a whole section for each tile, so each costs the same, and it is given the first sixteen a process.
    """
    tiles = min(work.objects, 16 * CORES)
    pixels = TILE * round((work.objects / work.sections) ** 0.5)
    argv = [str(peer("boss-ingest") / "python"), str(CLIENTS / "boss_client.py"), server.endpoint_url, BUCKET]
    argv += [prefix, str(work.folder), str(work.sections), str(pixels), str(TILE), str(CORES), str(tiles)]
    env = server.aws_env() | {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
    return Command(argv, env, objects=tiles, says=True)


COPYING = {
    "ingest": ingest,
    "s5cmd": s5cmd,
    "rclone": rclone,
    "aws-cli": aws,
    "cloud-files": cloud_files,
    "celery": celery,
}
"""What puts a folder's files under a prefix, file by file."""
