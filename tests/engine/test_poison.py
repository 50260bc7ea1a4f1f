"""Items that do harm: one that hangs, one that eats memory, and what must not be taken for either."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from ingest import manifest
from ingest.job import Job
from ingest.ledger import State
from tests.audit import make_files
from tests.cluster import Command
from tests.engine.making import create, files_below, files_config, open_job
from tests.restartable import restartable_s3
from tests.s3_servers import use_credentials

MIB = 1 << 20
ITEMS = 128
BAD = "day-4/site 2/rec-00011.dat"

PLUGINS = """
import os
import re
import resource
import time
from ingest.processors import TileProcessor, Upload

BAD = "rec-00011.dat"

class Hanging(TileProcessor):
    '''Sleeps for ever.'''
    def uploads(self, source):
        if source.item.name.endswith(BAD):
            time.sleep(3600)
        yield Upload(source.path)

class Stubborn(TileProcessor):
    '''Lets no other thread of its process run: a regular expression that never comes to an end.'''
    def uploads(self, source):
        if source.item.name.endswith(BAD):
            re.match("(a*)*b", "a" * 64)
        yield Upload(source.path)

class Deadly(TileProcessor):
    def uploads(self, source):
        if source.item.name.endswith(BAD):
            os.kill(os.getpid(), 9)
        yield Upload(source.path)

class Greedy(TileProcessor):
    '''Takes memory without end.'''
    def uploads(self, source):
        held = []
        while source.item.name.endswith(BAD):
            held.append(b"x" * (8 << 20))
        yield Upload(source.path)

class Leaking(TileProcessor):
    '''Keeps open what it opens, in a process that may open little.'''
    kept = []
    def uploads(self, source):
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        self.kept += [source.path.open("rb") for _ in range(4)]
        yield Upload(source.path)

class Slow(TileProcessor):
    def uploads(self, source):
        time.sleep(0.25)
        yield Upload(source.path)
"""


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processors above, allowed here."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "poison.py").write_text(PLUGINS)
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{folder}/")


def one_failed(job: Job, stored: Path, expected: dict[str, bytes]) -> str:
    """Check that all but the bad item are stored and counted; the reason why it failed."""
    counts = job.status().counts
    assert job.status().state is State.FAILED
    assert (counts.done + counts.skipped, counts.failed) == (ITEMS - 1, 1)
    assert files_below(stored) == {path: body for path, body in expected.items() if path != BAD}
    (failure,) = job.failures()
    assert failure.item.name == BAD
    return failure.reason


def poisoned(
    folder: Path, plugin: str, queue: dict[str, int], files: int = ITEMS
) -> tuple[Path, dict[str, bytes]]:
    """A config of a job with one of these plugins, and the files that it is over."""
    expected = make_files(folder / "source", files)
    processor = {"class": f"poison.{plugin}"}
    stored = f"file://{folder}/stored"
    return files_config(folder, folder / "source", stored, tile_processor=processor, queue=queue), expected


@pytest.mark.timeout(120)
@pytest.mark.parametrize("plugin", ["Hanging", "Stubborn"])
def test_an_item_that_hangs_fails_alone(tmp_path: Path, redis_url: str, plugin: str) -> None:
    config, expected = poisoned(tmp_path, plugin, {"batch_items": 128, "item_timeout_s": 2})
    job = create(config, expect=3)

    reason = one_failed(job, tmp_path / "stored", expected)
    assert re.match(r"its processors had it in hand for [23] s, and queue.item_timeout_s is 2 s", reason)
    attempts = {row["attempt"] for row in manifest.read_manifest(job.store, job.job_id, job.settings.scratch)}
    assert max(attempts) == 2, "it was tried again, and hung again"


@pytest.mark.timeout(120)
def test_a_process_that_leaks_is_replaced_and_blames_nothing(tmp_path: Path, redis_url: str) -> None:
    config, expected = poisoned(tmp_path, "Leaking", {"batch_items": 4}, files=16)
    with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
        assert node.exit_code() == 0
        assert not any(event.get("pause") for event in node.events), "others need not wait for it"
    assert files_below(tmp_path / "stored") == expected


@pytest.mark.timeout(120)
def test_an_item_that_kills_its_process_fails_alone(tmp_path: Path, redis_url: str) -> None:
    config, expected = poisoned(tmp_path, "Deadly", {"batch_items": 128})
    job = create(config, expect=3)

    assert "died 3 times" in one_failed(job, tmp_path / "stored", expected)


@pytest.mark.timeout(120)
def test_an_item_that_eats_memory_fails_alone(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_PROCESS_MEMORY_BYTES", str(500 * MIB))
    config, expected = poisoned(tmp_path, "Greedy", {"batch_items": 128})
    job = create(config, expect=3)

    reason = one_failed(job, tmp_path / "stored", expected)
    assert "of memory, and INGEST_PROCESS_MEMORY_BYTES is 0.5 GiB; it was ended 3 times" in reason


@pytest.mark.timeout(120)
def test_the_time_in_which_a_store_is_away_is_not_the_items(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make_files(tmp_path / "source", 20)
    with restartable_s3(tmp_path / "s3") as s3:
        use_credentials(monkeypatch, s3.server)
        destination = {
            "url": "s3://data/run",
            "endpoint_url": s3.server.endpoint_url,
            "region": "us-east-1",
        }
        config = files_config(
            tmp_path,
            tmp_path / "source",
            destination,
            tile_processor={"class": "poison.Slow"},
            upload={"threads": 2, "bytes_in_flight": MIB, "retries": 0},
            queue={"item_timeout_s": 1},
        )
        with Command("create", str(config), "--yes", "--json", "-p", "1") as node:
            node.progressed(5)
            s3.stop()
            node.wait_for(lambda event: bool(event.get("pause")))
            time.sleep(5)
            s3.start()
            assert node.exit_code() == 0
            job = open_job(node.job_id)
        assert job.status().counts.failed == 0
        assert s3.files("run") == expected
        assert job.ledger.client.exists(job.ledger.key("kills")) == 0
