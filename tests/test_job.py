"""Jobs through the Python API, on a real Redis."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest

import ingest
from ingest import creation, failure_list
from ingest.config import Settings
from ingest.errors import ConfigError, IngestError, JobError, StoreUnreachable
from ingest.failure_list import list_failures
from ingest.items import FileItem
from ingest.job import Job, jobs
from ingest.ledger import FailedItem, State, Tally, pack_items
from ingest.manifest import read_manifest, write_part
from ingest.queue import queue_name
from tests.engine.jobs_by_hand import begin, job_over
from tests.engine.making import keys_in_redis
from tests.stores.helpers import keys, put
from tests.test_manifest import row

ENDED = [State.COMPLETE, State.FAILED, State.EXPIRED]


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job whose two batches of files are fed and queued."""
    job = job_over(tmp_path)
    items = [[FileItem("a", 1), FileItem("b", 2)], [FileItem("c", 3)]]
    job.ledger.feed(0, [pack_items(list(b)) for b in items], items=3, size_bytes=6, cursor='"c"', last=True)
    job.queue.publish([0, 1])
    return job


def store_batch(job: Job, batch: int, *names: str, failed: str | None = None) -> None:
    """What a node does with a batch."""
    for name in names:
        put(job.store, name, name.encode())
    write_part(job.store, job.job_id, batch, "t", [row(0, key=name, sha256=_sha256(name)) for name in names])
    failures = {0: FailedItem(FileItem(failed, 3), "KeyConflict", "taken")} if failed else {}
    tally = Tally({"done": len(names), "failed": len(failures), "objects": len(names)}, failures)
    assert job.ledger.commit(batch, tally, part="t")


def add_failures(job: Job, count: int) -> None:
    """Both batches are done, with so many failed items."""
    failures = {
        index: FailedItem(FileItem(f"x{index}", 3), "SourceMissing", "gone since it was listed " * 5)
        for index in range(count)
    }
    job.ledger.note(items_listed=str(count))
    for batch, tally in enumerate((Tally({"failed": count}, failures), Tally())):
        write_part(job.store, job.job_id, batch, "t", [])
        assert job.ledger.commit(batch, tally, part="t")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class TestCreate:
    def test_takes_a_file_or_what_one_would_hold(
        self, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = job_over(tmp_path)
        raw = json.loads((tmp_path / "config.json").read_text())
        monkeypatch.chdir(tmp_path)
        second = ingest.create(raw, to=f"file://{tmp_path}/elsewhere")

        assert second.config.path_processor == first.config.path_processor
        assert second.config.destination.url == f"file://{tmp_path}/elsewhere"
        found = [job for job in jobs(Settings.load()) if isinstance(job, Job)]
        assert {job.job_id for job in found} == {first.job_id, second.job_id}

    def test_that_is_refused_leaves_nothing(self, tmp_path: Path, redis_url: str) -> None:
        with pytest.raises(ConfigError):
            job_over(tmp_path, path_processor={"class": "folder", "params": {"root_dir": "nowhere"}})
        assert keys_in_redis(redis_url) == set()
        assert not (tmp_path / "stored").exists()

    def test_one_job_that_cannot_be_read_hides_no_other(self, tmp_path: Path, redis_url: str) -> None:
        new, fine = job_over(tmp_path), job_over(tmp_path)
        new.ledger.note(format="99")

        found = [*jobs(Settings.load())]
        assert [type(job).__name__ for job in found if isinstance(job, IngestError)] == ["JobTooNew"]
        assert [job.job_id for job in found if isinstance(job, Job)] == [fine.job_id]

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("state", "banana"),
            ("batches", "x"),
            ("created_s", "x"),
            ("config", "{"),
            ("config", "{}"),
            ("capabilities", "[1]"),
            ("capabilities", "{}"),
        ],
    )
    def test_a_record_that_is_damaged_is_told_as_such(self, job: Job, field: str, text: str) -> None:
        job.ledger.note(**{field: text})

        with pytest.raises(JobError, match=rf"record of job {job.job_id} in Redis is damaged"):
            Job(job.job_id).status()

    def test_what_a_node_says_may_be_damaged_too(self, job: Job) -> None:
        job.ledger.client.set(job.ledger.key("pause"), b"\xff")

        with pytest.raises(JobError, match="damaged"):
            job.status()

    def test_what_was_there_is_remembered(self, tmp_path: Path, redis_url: str) -> None:
        assert job_over(tmp_path).record.destination_was_empty
        (tmp_path / "stored" / "x").touch()
        assert not job_over(tmp_path).record.destination_was_empty


class TestCancel:
    def test_leaves_what_is_stored_and_no_work(self, job: Job, redis_url: str) -> None:
        store_batch(job, 0, "a", "b")
        begin(job, 1)

        job.cancel()

        assert job.ledger.state() is State.CANCELLED
        assert not [key for key in keys_in_redis(redis_url) if queue_name(job.job_id) in key]
        assert keys(job.store) == ["a", "b"]
        assert not job.ledger.commit(1, Tally({"done": 1})), "a node that comes late counts nothing"
        job.cancel()

    def test_may_delete_what_this_job_stored_and_nothing_else(self, job: Job) -> None:
        put(job.store, "of another", b"x")
        store_batch(job, 0, "a", "b")

        job.cancel(delete_uploaded=True)

        assert keys(job.store) == ["of another"]
        assert keys(job.store, ".ingest/") == []

    def test_after_a_retry_deletes_what_was_stored_before_it(self, job: Job) -> None:
        store_batch(job, 0, "a", "b")
        store_batch(job, 1, failed="c")
        assert job.complete() is State.FAILED
        job.retry()

        job.cancel(delete_uploaded=True)

        assert keys(job.store) == []

    def test_that_was_cut_off_is_finished(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        job.ledger.uploads.record_upload("big", "id-1")
        abort = type(job.store).abort_upload

        def unreachable(store: object, key: str, upload_id: str) -> None:
            raise StoreUnreachable("gone")

        monkeypatch.setattr(type(job.store), "abort_upload", unreachable)
        with pytest.raises(StoreUnreachable):
            job.cancel()
        assert job.ledger.state() is State.CANCELLING
        monkeypatch.setattr(type(job.store), "abort_upload", abort)

        job.cancel()

        assert job.ledger.state() is State.CANCELLED
        assert job.ledger.uploads.all() == {}

    @pytest.mark.parametrize("state", ENDED)
    def test_of_a_job_that_has_ended_is_refused(self, job: Job, state: State) -> None:
        job.ledger.note(state=state)

        with pytest.raises(JobError, match=f"is {state}"):
            job.cancel(delete_uploaded=True)


class TestExpire:
    def test_is_only_for_old_and_open_jobs(self, job: Job) -> None:
        assert not job.expire()
        job.ledger.note(created_s=str(job.ledger.now_s() - 15 * 86_400))
        old = Job(job.job_id, job.settings)
        job.ledger.note(state=State.COMPLETE)
        assert not old.expire()
        job.ledger.note(state=State.UPLOADING)
        assert old.expire()
        assert old.ledger.state() is State.EXPIRED

    def test_that_was_cut_off_is_finished(
        self, job: Job, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job.ledger.note(created_s=str(job.ledger.now_s() - 15 * 86_400))
        job.ledger.uploads.record_upload("big", "id-1")
        old = Job(job.job_id, job.settings)
        abort = type(job.store).abort_upload

        def unreachable(store: object, key: str, upload_id: str) -> None:
            raise StoreUnreachable("gone")

        monkeypatch.setattr(type(job.store), "abort_upload", unreachable)
        assert old.expire()
        assert job.ledger.state() is State.EXPIRED
        assert Job(job.job_id, job.settings).status().state is State.EXPIRED, "it can be looked at"
        monkeypatch.setattr(type(job.store), "abort_upload", abort)

        Job(job.job_id, job.settings).expire()

        assert job.ledger.state() is State.EXPIRED
        assert job.ledger.uploads.all() == {}, "the unfinished upload costs money for ever"
        assert job.ledger.client.exists(job.ledger.key("payloads")) == 0
        assert not Job(job.job_id, job.settings).expire()


class TestComplete:
    def test_needs_all_batches(self, job: Job) -> None:
        store_batch(job, 0, "a", "b")

        with pytest.raises(JobError, match="1 batch"):
            job.complete()
        assert job.ledger.state() is State.UPLOADING

    def test_ends_the_job_and_may_be_repeated(self, job: Job) -> None:
        store_batch(job, 0, "a", "b")
        store_batch(job, 1, "c")

        assert job.complete() is State.COMPLETE
        assert job.complete() is State.COMPLETE
        assert job.status().exit_code == 0
        assert [found["key"] for found in read_manifest(job.store, job.job_id, job.settings.scratch)] == [
            "a",
            "b",
            "c",
        ]
        assert job.queue.waiting() == 0

    def test_with_failed_items_is_no_success(self, job: Job) -> None:
        store_batch(job, 0, "a", "b")
        store_batch(job, 1, failed="c")

        assert job.complete() is State.FAILED
        assert job.status().exit_code == 3
        summary = json.loads(job.store.read_bytes(f".ingest/{job.job_id}/job.json"))
        assert summary["failures"] == [{"item": "c", "error": "KeyConflict", "reason": "taken"}]
        assert summary["state"] == "failed"

    def test_all_failed_items_are_listed_in_a_file_of_their_own(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(failure_list, "FIRST", 2)
        add_failures(job, 3)

        assert job.complete() is State.FAILED

        listed = job.store.read_bytes(f".ingest/{job.job_id}/failures.jsonl").decode().splitlines()
        assert [json.loads(line) for line in listed] == [failure.to_dict() for failure in job.failures()]
        assert len(listed) == 3
        summary = json.loads(job.store.read_bytes(f".ingest/{job.job_id}/job.json"))
        assert [failure["item"] for failure in summary["failures"]] == ["x0", "x1"]
        assert summary["items"]["failed"] == 3

    def test_a_list_of_failed_items_goes_when_they_have_succeeded(self, job: Job) -> None:
        list_key = f".ingest/{job.job_id}/failures.jsonl"
        store_batch(job, 0, "a", "b")
        store_batch(job, 1, failed="c")
        job.complete()
        assert list_key in keys(job.store, ".ingest/")

        job.retry()
        store_batch(job, 2, "c")
        assert job.complete() is State.COMPLETE

        assert list_key not in keys(job.store, ".ingest/")

    def test_memory_does_not_grow_with_the_failed_items(
        self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ingest.stores.local.PIECE_BYTES", 1 << 20)
        add_failures(job, 5_000)

        tracemalloc.start()
        list_failures(job, tmp_path, was_listed=False)
        assert sum(1 for _ in job.failures()) == 5_000
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak_bytes < 4 << 20, "as objects they are 5 MiB, and their text is one more"


class TestRetry:
    def test_takes_the_failed_items_as_they_are_now(self, job: Job) -> None:
        store_batch(job, 0, "a", "b")
        store_batch(job, 1, failed="c")
        job.complete()

        assert job.retry() == 1

        assert job.queue.known() == {2}
        assert begin(job, 2).items == [FileItem("c", None, None)]
        store_batch(job, 2, "c")
        assert job.complete() is State.COMPLETE
        assert job.status().counts.done == 3

    @pytest.mark.parametrize("state", [state for state in State if state is not State.FAILED])
    def test_is_for_failed_jobs(self, job: Job, state: State) -> None:
        job.ledger.note(state=state)

        with pytest.raises(JobError, match="only a failed job"):
            job.retry()


def test_ids_can_be_read_aloud() -> None:
    ids = {creation._new_id() for _ in range(200)}

    assert len(ids) == 200
    assert not set("".join(ids)) & set("01ilo")
