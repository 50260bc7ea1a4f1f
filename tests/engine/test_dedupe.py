"""Content that a bucket has is not sent again, and every row names an object that truly has its bytes."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ingest.errors import ConfigError, StoreRefused
from ingest.job import Job
from ingest.ledger import State
from ingest.manifest import read_manifest
from ingest.markers import DUPLICATE_OF, FOLDER, JOBS_FOLDER, Markers
from ingest.stores.base import ObjectMeta
from ingest.verify import verify
from ingest.workers.batch import Batch, do_batch
from ingest.workers.dedupe import Dedupe
from ingest.workers.kit import make_kit
from ingest.workers.tasks import run_batch
from tests.s3_servers import S3Server, use_credentials
from tests.stores.helpers import put
from tests.whole_jobs import do, done, job_of

MIB = 1 << 20

Place = Callable[[str], dict[str, Any]]
"""From a prefix to a destination with ``dedupe`` in this test's bucket."""


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=["folder", "moto", "rclone"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A bucket: with conditional puts and metadata (moto), without either (a folder: no metadata)."""
    if request.param == "folder":
        return lambda prefix: {
            "url": f"file://{tmp_path}/bucket",
            "key": f"{prefix}/{{path}}",
            "dedupe": "sha256",
        }
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    use_credentials(monkeypatch, server)
    bucket = server.make_bucket()
    common = {"endpoint_url": server.endpoint_url, "region": "us-east-1", "dedupe": "sha256"}
    return lambda prefix: {"url": f"s3://{bucket}/{prefix}", **common}


@pytest.fixture
def s3_place(moto_s3: S3Server, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A bucket with conditional puts and metadata."""
    use_credentials(monkeypatch, moto_s3)
    bucket = moto_s3.make_bucket()
    common = {"endpoint_url": moto_s3.endpoint_url, "region": "us-east-1", "dedupe": "sha256"}
    return lambda prefix: {"url": f"s3://{bucket}/{prefix}", **common}


def rows_of(job: Job) -> dict[str, dict[str, Any]]:
    """The manifest's rows by their items, with their metadata as a dictionary."""
    rows = read_manifest(job.store, job.job_id, job.settings.scratch)
    return {row["item"]: {**row, "metadata": dict(row["metadata"] or ())} for row in rows}


def duplicates_of(job: Job) -> dict[str, str]:
    """For each item that has no object of its own: the key of the object that has its bytes."""
    rows = rows_of(job)
    return {
        item: row["metadata"][DUPLICATE_OF] for item, row in rows.items() if DUPLICATE_OF in row["metadata"]
    }


def data_of(job: Job) -> dict[str, bytes]:
    """All data objects of the bucket, markers left out."""
    keys = [info.key for info in job.bucket.list()]
    return {
        key: job.bucket.read_bytes(key)
        for key in keys
        if not key.startswith(FOLDER) and ".ingest" not in key.split("/")
    }


def problems(job: Job) -> dict[str, str]:
    """What verification finds, by either way."""
    found = [*verify(job, deep=False), *verify(job, deep=True)]
    return {finding.key: finding.problem for finding in found if finding.problem}


def test_equal_contents_of_one_job_are_stored_once(tmp_path: Path, place: Place) -> None:
    files = {"a/1": b"same", "b/1": b"same", "b/2": b"other", "c": b"same", "d": b"", "e": b""}

    job = done(tmp_path, files, place("run"))

    # Then each content is one object, whichever item was first, and every other row names it
    stored = data_of(job)
    assert sorted(stored.values()) == [b"", b"other", b"same"]
    rows, duplicates = rows_of(job), duplicates_of(job)
    assert len(rows) == 6
    assert len(duplicates) == 3
    for item, key in duplicates.items():
        assert rows[item]["status"] == "skipped"
        assert rows[item]["key"].endswith(item)
        assert stored[key] == files[item]
    counts = job.status().counts
    assert (counts.done, counts.skipped, counts.objects) == (3, 3, 3)
    assert problems(job) == {}
    # and the markers are as CETI's tool has them: the key from the bucket's root, and nothing else
    for key, content in stored.items():
        assert job.bucket.read_bytes(FOLDER + sha256_of(content)) == key.encode()


def test_content_that_another_job_stored_is_not_sent_again(tmp_path: Path, place: Place) -> None:
    big = hashlib.shake_128(b"big").digest(6 * MIB)
    first = done(tmp_path, {"x": b"one", "big": big}, place("run"))
    before = data_of(first)

    second = done(tmp_path, {"y": b"one", "copy": big, "new": b"new"}, place("other"))

    assert duplicates_of(second) == {"y": "run/x", "copy": "run/big"}
    assert data_of(second) == {**before, "other/new": b"new"}
    assert second.status().counts.bytes_stored == 3
    assert problems(second) == {}


def test_a_second_time_nothing_moves(tmp_path: Path, place: Place) -> None:
    files = {"a": b"same", "b": b"same", "c": b"else"}
    first = done(tmp_path, files, place("run"))
    before = data_of(first)

    second = done(tmp_path, files, place("run"))

    assert second.status().counts.objects == 0
    assert data_of(second) == before
    assert duplicates_of(second) == duplicates_of(first)
    assert problems(second) == {}


def test_a_marker_alone_is_no_proof(tmp_path: Path, place: Place) -> None:
    bodies = [
        b"run/gone",
        b"run/other",
        b"run/longer",
        b"",
        b"\xff",
        b"../x",
        b"raw/hash/x",
        b"x" * 5000,
    ]
    files = {f"f{number}": b"content %d" % number for number in range(len(bodies))}
    job = job_of(tmp_path, files, place("run"))
    put(job.bucket, "run/other", b"CONTENT 1")
    put(job.bucket, "run/longer", b"content 2 and more")
    for content, body in zip(files.values(), bodies, strict=True):
        put(job.bucket, FOLDER + sha256_of(content), body)

    do(job)

    job.complete()
    assert duplicates_of(job) == {}
    stored = data_of(job)
    for name, content in files.items():
        assert stored[f"run/{name}"] == content
        marker = job.bucket.read_bytes(FOLDER + sha256_of(content))
        assert marker == f"run/{name}".encode(), "the marker is right now"


def test_what_cetis_tool_stored_is_found_and_read_back_once(
    tmp_path: Path, s3_place: Place, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an object without a recorded SHA-256, and its marker
    bucket = s3_place("x")["url"].split("/")[2]
    client, content = moto_s3.client(), b"of a tag"
    client.put_object(Bucket=bucket, Key="raw/2023-11-01/wt-a/0.raw", Body=content)
    client.put_object(Bucket=bucket, Key=FOLDER + sha256_of(content), Body=b"raw/2023-11-01/wt-a/0.raw")
    client.close()
    reads: list[str] = []
    read = type(job_of(tmp_path, {"x": b"x"}, s3_place("probe")).open_bucket()).read

    def counted(store: Any, key: str) -> Any:
        reads.append(key)
        return read(store, key)

    monkeypatch.setattr("ingest.stores.s3.S3Store.read", counted)

    # When three items of two jobs have that content
    for names in (["a", "b"], ["c"]):
        job = done(tmp_path, dict.fromkeys(names, content), s3_place("run"))
        assert duplicates_of(job) == dict.fromkeys(names, "raw/2023-11-01/wt-a/0.raw")

    # Then it was read once, and its marker's body is as it was
    assert reads.count("raw/2023-11-01/wt-a/0.raw") == 1
    assert job.bucket.read_bytes(FOLDER + sha256_of(content)) == b"raw/2023-11-01/wt-a/0.raw"
    # and to nobody it counts as a job's
    assert [*job.bucket.list(JOBS_FOLDER)] == []


def test_what_is_archived_cannot_be_proven_and_is_sent_again(
    tmp_path: Path, s3_place: Place, moto_s3: S3Server
) -> None:
    bucket, content = s3_place("x")["url"].split("/")[2], b"of a tag"
    job = job_of(tmp_path, {"a": content, "taken": content}, s3_place("run"))
    client = moto_s3.client()  # of what is older than the job, the ETag alone would be proof enough
    for key in ("raw/cold", "run/taken"):
        client.put_object(Bucket=bucket, Key=key, Body=content, StorageClass="GLACIER")
    client.put_object(Bucket=bucket, Key=FOLDER + sha256_of(content), Body=b"raw/cold")
    client.close()

    do(job)
    job.complete()

    assert duplicates_of(job) == {}
    assert job.bucket.read_bytes("run/a") == content
    assert job.bucket.read_bytes(FOLDER + sha256_of(content)) == b"run/a"
    # Under an item's own key it is the item's conflict, and nobody waits for it
    [failure] = job.failures()
    assert (failure.item.name, failure.error) == ("taken", "KeyConflict")
    assert "is archived, and cannot be read" in failure.reason


def test_of_other_content_with_its_size_nothing_is_referred_to(tmp_path: Path, s3_place: Place) -> None:
    """An object that another tool has replaced keeps its marker, and its size."""
    content = b"before"
    first = done(tmp_path, {"a": content}, s3_place("run"))
    first.bucket.put("run/a", b"after!", ObjectMeta(sha256_of(b"after!")))

    second = done(tmp_path, {"b": content}, s3_place("run"))

    assert duplicates_of(second) == {}
    assert data_of(second) == {"run/a": b"after!", "run/b": content}
    assert "was written again" in problems(first)["a"] or "has other content" in problems(first)["a"]


def test_two_jobs_that_meet_a_content_at_once_both_name_what_has_it(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two jobs of which neither sees the other's marker in time
    jobs = [job_of(tmp_path, {name: b"new"}, place(name)) for name in ("p", "q")]
    kits = [make_kit(job, "n1") for job in jobs]
    mark = Markers.write
    second: list[bool] = []

    def late(markers: Markers, *arguments: Any, **named: Any) -> None:
        if not second:
            second.append(True)
            run_batch(jobs[1], kits[1], 0)
        mark(markers, *arguments, **named)

    monkeypatch.setattr(Markers, "write", late)

    run_batch(jobs[0], kits[0], 0)

    for job, kit in zip(jobs, kits, strict=True):
        kit.close()
        job.complete()
        assert duplicates_of(job) == {}
        assert problems(job) == {}
    assert data_of(jobs[0]) == {"p/p": b"new", "q/q": b"new"}
    assert jobs[0].bucket.read_bytes(FOLDER + sha256_of(b"new")) == b"q/q", "the first marker stays"


def test_two_nodes_of_a_job_send_a_content_once(tmp_path: Path, place: Place) -> None:
    files = {f"{number:02}": b"%d" % (number % 5) for number in range(60)}
    job = job_of(tmp_path, files, place("run"))
    batches = [*job.ledger.uncommitted(job.status().counts.batches)]

    nodes = [Thread(target=do, args=(job, *batches[half::2])) for half in range(2)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()

    job.complete()
    assert sorted(data_of(job).values()) == [b"0", b"1", b"2", b"3", b"4"]
    assert len(duplicates_of(job)) == 55
    assert problems(job) == {}


def test_a_batch_that_is_done_again_refers_to_no_object_of_its_own(tmp_path: Path, s3_place: Place) -> None:
    """A node died after it had stored, and marked, what no manifest says yet."""
    job = job_of(tmp_path, {"a": b"1", "b": b"1"}, s3_place("run"))
    kit = make_kit(job, "n1")
    items = job.items(0, job.ledger.payload_items(0))
    do_batch(Batch(0, items), kit)
    kit.close()
    [own] = data_of(job)

    do(job)

    job.complete()
    assert list(duplicates_of(job).values()) == [own]
    assert rows_of(job)[own.removeprefix("run/")]["status"] == "stored"


def test_a_key_that_has_other_content_is_a_conflict_wherever_the_content_lies(
    tmp_path: Path, place: Place
) -> None:
    done(tmp_path, {"x": b"new"}, place("run"))
    destination = place("taken")
    job = job_of(tmp_path, {"a": b"new"}, destination)
    put(job.bucket, "taken/a", b"old")

    do(job)

    assert [failure.error for failure in job.failures()] == ["KeyConflict"]
    assert data_of(job)["taken/a"] == b"old"


def test_keys_among_the_markers_are_refused(tmp_path: Path, s3_place: Place) -> None:
    destination = s3_place("raw")
    job = job_of(tmp_path, {"hash/abc": b"1", "fine": b"2"}, destination)

    do(job)

    assert ["destination.dedupe keeps its markers" in failure.reason for failure in job.failures()] == [True]
    assert data_of(job) == {"raw/fine": b"2"}


class TestCancelAndDelete:
    def test_deletes_what_the_job_stored_with_its_markers(self, tmp_path: Path, place: Place) -> None:
        job = job_of(tmp_path, {"a": b"1", "b": b"1", "c": b"2"}, place("run"))
        do(job)

        assert job.cancel(delete_uploaded=True) == 2

        assert data_of(job) == {}
        assert [*job.bucket.list(FOLDER)] == []

    def test_never_deletes_what_another_stored(self, tmp_path: Path, place: Place) -> None:
        first = done(tmp_path, {"a": b"1"}, place("run"))
        second = job_of(tmp_path, {"b": b"1", "c": b"2"}, place("other"))
        do(second)

        second.cancel(delete_uploaded=True)

        assert data_of(first) == {"run/a": b"1"}
        assert first.bucket.read_bytes(FOLDER + sha256_of(b"1")) == b"run/a"
        assert [*first.bucket.list(JOBS_FOLDER)] == []
        assert problems(first) == {}

    def test_keeps_what_another_refers_to(
        self, tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = job_of(tmp_path, {"a": b"1", "b": b"2"}, place("run"))
        do(first)
        second = done(tmp_path, {"b": b"1"}, place("other"))

        # A folder does not tell who stored what, and so it is noted of each object; elsewhere of the job alone
        expected = int(not first.record.capabilities.metadata)
        assert first.cancel(delete_uploaded=True) == expected

        assert f"stay: other jobs refer to them ({second.job_id})" in caplog.text
        assert data_of(second) == {"run/a": b"1", **({} if expected else {"run/b": b"2"})}
        assert problems(second) == {}
        assert second.bucket.read_bytes(FOLDER + sha256_of(b"1")) == b"run/a"

    def test_and_a_job_that_comes_to_refer_to_it_meanwhile_notice_each_other(
        self, tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a job that is being deleted when another, of another Redis, has just found its marker
        monkeypatch.setattr("ingest.job.jobs", lambda settings: iter(()))
        first = job_of(tmp_path, {"a": b"1"}, place("run"))
        do(first)
        second = job_of(tmp_path, {"b": b"1"}, place("other"))
        proven = Dedupe.proven

        def late(*arguments: Any) -> Any:
            if first.ledger.state() is State.UPLOADING:
                first.cancel(delete_uploaded=True)
            return proven(*arguments)

        monkeypatch.setattr(Dedupe, "proven", late)
        do(second)

        second.complete()
        assert data_of(second) == {"other/b": b"1"}
        assert problems(second) == {}

    def test_is_given_up_where_another_was_quicker(
        self, tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given another job, of another Redis, that says so when it has been looked for, and before anything is deleted
        monkeypatch.setattr("ingest.job.jobs", lambda settings: iter(()))
        first = job_of(tmp_path, {"a": b"1"}, place("run"))
        do(first)
        second = job_of(tmp_path, {"b": b"1"}, place("other"))
        withdraw = Markers.withdraw

        def late(*arguments: Any) -> Any:
            do(second)
            return withdraw(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Markers, "withdraw", late)
            assert first.cancel(delete_uploaded=True) == 0

        second.complete()
        assert duplicates_of(second) == {"b": "run/a"}
        assert problems(second) == {}
        assert first.bucket.read_bytes(FOLDER + sha256_of(b"1")) == b"run/a", "the marker is back"


class TestManifest:
    def test_checks_a_downloaded_copy(self, tmp_path: Path, place: Place) -> None:
        done(tmp_path, {"a": b"1", "é b": b"2"}, place("run"))
        job = done(tmp_path, {"a2": b"1", "b2": b"2", "c": b"3", "c2": b"3"}, place("run"))
        copy = tmp_path / "copy"
        for info in job.store.list():
            path = copy / info.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(job.store.read_bytes(info.key))
        sums = job.store.read_bytes(f".ingest/{job.job_id}/manifest-sha256.txt")

        check = subprocess.run(
            ["sha256sum", "-c", "--strict"], check=False, input=sums, cwd=copy, capture_output=True
        )

        assert check.returncode == 0, check.stderr
        assert check.stdout.count(b": OK") == 3
        assert {row["sha256"] for row in rows_of(job).values()} == {
            line.split()[0] for line in sums.decode().splitlines()
        }

    def test_leaves_out_of_its_checksums_what_lies_elsewhere(self, tmp_path: Path, s3_place: Place) -> None:
        done(tmp_path, {"a": b"1"}, s3_place("run"))
        job = done(tmp_path, {"b": b"1", "c": b"2"}, s3_place("other"))

        sums = job.store.read_bytes(f".ingest/{job.job_id}/manifest-sha256.txt").decode()

        assert sums == f"{sha256_of(b'2')}  c\n"

    def test_finds_that_the_object_of_a_duplicate_is_gone(self, tmp_path: Path, place: Place) -> None:
        done(tmp_path, {"a": b"1"}, place("run"))
        job = done(tmp_path, {"b": b"1"}, place("other"))
        job.bucket.delete(["run/a"])

        [found] = problems(job).values()

        assert found == "is a duplicate of 'run/a', which is missing"


class TestConfig:
    @pytest.mark.parametrize("other", [{"on_existing": "overwrite"}, {"checksum": "none"}])
    def test_refuses_what_others_could_not_rely_on(
        self, tmp_path: Path, s3_place: Place, other: dict[str, str]
    ) -> None:
        with pytest.raises(ConfigError, match="dedupe does not go with"):
            job_of(tmp_path, {"a": b"1"}, {**s3_place("run"), **other})

    def test_refuses_a_finisher_that_looks_under_every_key(self, tmp_path: Path, s3_place: Place) -> None:
        with pytest.raises(
            ConfigError, match=r"finishers\.0: Gallery needs each upload under a key of its own"
        ):
            job_of(tmp_path, {"a": b"1"}, s3_place("run"), finishers=[{"class": "gallery"}])

    def test_finds_out_at_create_whether_markers_can_be_kept(
        self, tmp_path: Path, s3_place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(markers: Markers, *names: str) -> None:
            raise StoreRefused("AccessDenied", hint="ask whom it belongs to")

        monkeypatch.setattr(Markers, "note_use", refuse)
        with pytest.raises(StoreRefused, match=r"AccessDenied\n  hint: .* below raw/hash/ .*; ask whom"):
            job_of(tmp_path, {"a": b"1"}, s3_place("run"))
