"""Keys made of what a processor finds in a file, which no listing of items can know, at stores of every kind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import IngestError
from ingest.job import Job
from ingest.ledger import State
from ingest.stores import folders
from ingest.workers.batch import Batch, do_batch
from ingest.workers.kit import make_kit
from ingest.workers.settling import Settling
from tests.engine.jobs_by_hand import feed, job_over, work
from tests.engine.making import s3_folder
from tests.s3_servers import S3Server
from tests.stores.helpers import keys, put
from tests.whole_jobs import do

PLUGIN = """
from ingest.processors import TileProcessor, Upload

class Found(TileProcessor):
    '''A file's first line is its key; the whole file is stored.'''
    key_fields = {"found": "what is found"}
    default_key = "{found}"

    def uploads(self, source):
        found = source.path.read_text().partition("\\n")[0]
        yield Upload(source.path.read_bytes(), fields={"found": found})
"""

MakeJob = Callable[..., Job]
"""Makes a job over these files, a batch each, whose processor finds their keys; into one destination each time."""


@pytest.fixture(params=["rclone", "moto", "folder", "folder without links"])
def make_job(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> MakeJob:
    """Stores with conditional puts (moto, a folder) and without, that know who wrote an object (S3) or do not."""
    (tmp_path / "plugins").mkdir()
    module = f"found_keys_{abs(hash(tmp_path))}"
    (tmp_path / "plugins" / f"{module}.py").write_text(PLUGIN)
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{tmp_path}/plugins/")
    destination: dict[str, Any] = {"url": f"file://{tmp_path}/stored"}
    if request.param in ("rclone", "moto"):
        server: S3Server = request.getfixturevalue(f"{request.param}_s3")
        destination = s3_folder(server, monkeypatch)
    if request.param == "folder without links":
        no_links(monkeypatch)

    def make(files: dict[str, str], **changes: Any) -> Job:
        for name, content in files.items():
            (tmp_path / "source").mkdir(exist_ok=True)
            (tmp_path / "source" / name).write_text(content)
        job = job_over(
            tmp_path,
            destination={**destination, **changes},
            tile_processor={"class": f"{module}.Found"},
            queue={"batch_items": 1},
        )
        assert job.record.capabilities.if_absent == (request.param in ("moto", "folder"))
        feed(job)
        return job

    return make


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as some network shares are, which has no rename that keeps what is there either."""

    def link(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(folders, "_UNNAMED", 0)
    monkeypatch.setattr(folders, "_RENAME_NEW", "no_such_call")


@pytest.mark.parametrize("on_existing", ["skip", "fail"])
def test_an_object_of_another_program_is_never_overwritten(make_job: MakeJob, on_existing: str) -> None:
    job = make_job({"a": "key-a\n1"}, on_existing=on_existing)
    put(job.store, "key-a", b"of another program")
    work(job)

    assert job.complete() is State.FAILED
    (failure,) = job.failures()
    assert "exists with other content" in failure.reason
    assert job.store.read_bytes("key-a") == b"of another program"


def test_two_items_with_one_key_conflict_and_the_first_keeps_it(make_job: MakeJob) -> None:
    job = make_job({"a": "same\n1", "b": "same\n2"})

    work(job)

    assert job.complete() is State.FAILED
    (failure,) = job.failures()
    assert (failure.item.name, failure.error) == ("b", "KeyConflict")
    assert job.store.read_bytes("same") == b"same\n1"
    assert (job.status().counts.done, job.status().counts.failed) == (1, 1)


def test_what_is_there_already_is_skipped(make_job: MakeJob) -> None:
    files = {"a": "key-a\n1", "b": "key-b\n2"}
    work(make_job(files))

    again = make_job(files)
    work(again)

    assert again.complete() is State.COMPLETE
    assert (again.status().counts.done, again.status().counts.skipped) == (0, 2)


@pytest.mark.parametrize("on_existing", ["skip", "overwrite"])
def test_two_nodes_that_store_one_key_at_once_are_no_success(
    make_job: MakeJob, on_existing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job({"a": "same\n1", "b": "same\n2", "c": "other"}, on_existing=on_existing)
    # Each looks before the other has stored, and is told that nothing is there.
    monkeypatch.setattr(Settling, "found", lambda *arguments, **named: None)

    work(job)

    if job.record.capabilities.if_absent and on_existing == "skip":
        assert job.complete() is State.FAILED
        assert [failure.error for failure in job.failures()] == ["KeyConflict"]
    else:
        with pytest.raises(IngestError, match="'a' and 'b' were both stored under 'same'"):
            job.complete()
        assert job.ledger.state() is State.COMPLETING
        assert keys(job.store, f".ingest/{job.job_id}/m") == [], "there is no manifest that says so"
        job.cancel(delete_uploaded=True)
        assert keys(job.store) == []


def store_uncounted(job: Job, *batches: int) -> None:
    """Store what these batches have, as a node does that dies before it counts them."""
    kit = make_kit(job, "n1")
    for batch in batches:
        do_batch(Batch(batch, job.items(batch, job.ledger.payload_items(batch))), kit)
    kit.close()


@pytest.mark.parametrize("key", ["{found}", "{job_name}/{found}"])
def test_a_cancel_may_delete_what_batches_that_were_cut_off_had_stored(make_job: MakeJob, key: str) -> None:
    # Given objects of another job and of another program, and of a job of which some batches never counted
    below = key.removesuffix("{found}").replace("{job_name}", "trial")
    other = make_job({"a": "of another job"}, key=key)
    work(other)
    other.complete()
    job = make_job({"b": "counted", "c": "cut off", "d": "too", "a": "of another job"}, key=key)
    put(job.store, f"{below}of another program")
    do(job, 1)
    store_uncounted(job, 2, 3)
    cut_off = {f"{below}cut off", f"{below}too"}
    assert {*keys(job.store)} >= cut_off | {f"{below}counted"}

    deleted = job.cancel(delete_uploaded=True)

    # Then what says that it is this job's is gone, and nothing else
    left = {*keys(job.store)} - {f"{below}of another job", f"{below}of another program"}
    tells = job.record.capabilities.metadata
    assert (deleted, left) == ((3, set()) if tells else (1, cut_off))
    assert len(keys(job.store)) == len(left) + 2
    assert job.cancel(delete_uploaded=True) == 0
