"""Disks that fill up or vanish under a job, beside the store's own: the scratch folder's, and the source's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.job import Job
from ingest.ledger import State
from tests.audit import audit, make_files
from tests.cluster import Command
from tests.engine.making import files_below, files_config, open_job, until

MIB = 1 << 20
Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts a file system in memory, which is unmounted at the end if it still is there."""
    mounted: list[Path] = []

    def mount_one(folder: Path, size: str) -> None:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.decode()}")
        mounted.append(folder)

    yield mount_one
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.timeout(180)
def test_a_full_scratch_disk_delays_the_end_of_a_job_and_fails_nothing(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, mount: Mount
) -> None:
    scratch = tmp_path / "scratch"
    mount(scratch, "1m")
    monkeypatch.setenv("INGEST_SCRATCH_DIR", str(scratch))
    expected = make_files(tmp_path / "source", 60)
    ballast = scratch / "ballast"
    with Command(
        "create",
        str(files_config(tmp_path, tmp_path / "source", f"file://{tmp_path}/stored")),
        "--yes",
        "--json",
        "-p",
        "1",
    ) as node:
        job = open_job(node.job_id)
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(4096))
        # The manifest is made in the scratch folder: until there is room the job waits, and says why
        until(lambda: job.ledger.state() is State.COMPLETING)
        until(lambda: "space" in job.status().trouble.lower(), timeout_s=15)
        assert job.status().counts.failed == 0

        ballast.unlink()
        assert node.exit_code() == 0
    audit(job, expected, files_below(tmp_path / "stored"))


@pytest.mark.timeout(180)
def test_a_source_that_is_unmounted_in_the_middle_is_waited_for(
    tmp_path: Path, redis_url: str, mount: Mount
) -> None:
    real, source = tmp_path / "real", tmp_path / "source"
    expected = make_files(real, 300)
    source.mkdir()
    bind(real, source)
    config = files_config(
        tmp_path,
        source,
        f"file://{tmp_path}/stored",
        upload={"threads": 2, "bandwidth_bytes_per_s": 60_000},
    )
    with Command("create", str(config), "--yes", "--json", "-p", "2") as node:
        node.progressed(40)
        subprocess.run(["umount", "-l", str(source)], check=True)
        job = open_job(node.job_id)
        until(lambda: any("waiting for the source" in hand for hand in hands(job)))
        assert job.status().counts.failed == 0

        bind(real, source)
        try:
            assert node.exit_code() == 0
        finally:
            subprocess.run(["umount", "-l", str(source)], check=True)
    audit(job, expected, files_below(tmp_path / "stored"))


def bind(folder: Path, place: Path) -> None:
    done = subprocess.run(["mount", "--bind", str(folder), str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing may be mounted here: {done.stderr.decode()}")


def hands(job: Job) -> list[str]:
    return [hand for node in job.status().nodes for hand in node.in_hand]
