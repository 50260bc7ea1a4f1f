"""Finishers, run at the end of jobs on a real Redis."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.config import Settings
from ingest.creation import check
from ingest.errors import ConfigError, IngestError, JobError, StoreError, StoreUnreachable
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import FailedItem, State, Tally, pack_items
from ingest.manifest import write_part
from ingest.stores.base import ObjectMeta, Stored
from ingest.stores.wrapping import WrappedStore
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import create, files_below, files_config, s3_folder
from tests.s3_servers import S3Server
from tests.stores.helpers import meta_of, put
from tests.test_manifest import row

PLUGINS = '''
import json
from pathlib import Path
from pydantic import Field
from ingest.errors import ConfigError
from ingest.processors import Addition, Finisher, Params

class Keys(Params):
    key: str = Field(default="list.json", description="Where to.")
    fail: str = Field(default="", description="What to fail with.")

class Listing(Finisher[Keys]):
    """Lists keys and the first bytes of each object; twice, once as a file."""
    Params = Keys

    def check(self):
        if self.params.fail == "check":
            raise ConfigError("this job has no pictures")

    def additions(self, results):
        if self.params.fail == "fault":
            raise ZeroDivisionError("a fault")
        heads = {}
        for row in results.rows():
            with results.open(row.key) as path:
                heads[row.key] = [path.read_text()[:5], row.item, row.mtime_ns, dict(row.metadata), path.suffix]
        again = [row.key for row in results.rows()]
        assert again == list(heads)
        body = json.dumps({"heads": heads, "failed": results.failed_items}).encode()
        yield Addition(self.params.key, body, "application/json")
        file = self.context.scratch_dir / "own.txt"
        file.write_bytes(body)
        yield Addition("copy/" + self.params.key, file, "text/plain")
        file.unlink()
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module ``own_finishers``, allowed on this machine."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "own_finishers.py").write_text(PLUGINS)
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{tmp_path}/plugins")
    path = list(sys.path)
    yield
    sys.path[:] = path
    sys.modules.pop("own_finishers", None)


def finisher(**params: Any) -> dict[str, Any]:
    return {"class": "own_finishers.Listing", "params": params}


def stored_job(folder: Path, *finishers: dict[str, Any], failed: bool = False) -> Job:
    """A job whose batch is stored, and committed."""
    job = job_over(folder, finishers=list(finishers))
    items = [FileItem("a.txt", 5), FileItem("b", 5)]
    job.ledger.feed(0, [pack_items([*items])], items=2, size_bytes=10, cursor='"b"', last=True)
    names = ["a.txt"] if failed else ["a.txt", "b"]
    rows = []
    for name in names:
        content = f"content of {name}".encode()
        put(job.store, name, content)
        sha256 = meta_of(content).sha256
        rows.append(row(1, item=name, key=name, sha256=sha256, metadata={"start": "now"}))
    write_part(job.store, job.job_id, 0, "t", rows)
    failures = {1: FailedItem(items[1], "SourceMissing", "gone")} if failed else {}
    assert job.ledger.commit(0, Tally({"done": len(names), "failed": len(failures)}, failures), part="t")
    return job


def summary(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.store.read_bytes(f".ingest/{job.job_id}/job.json"))
    return found


@pytest.mark.usefixtures("plugins", "redis_url")
class TestAdditions:
    @pytest.mark.parametrize("failed", [False, True])
    def test_are_made_of_the_results_and_listed(self, tmp_path: Path, failed: bool) -> None:
        job = stored_job(tmp_path, finisher(), failed=failed)

        assert job.complete() is (State.FAILED if failed else State.COMPLETE)

        stored = files_below(tmp_path / "stored")
        body = stored["list.json"]
        heads = {"a.txt": ["conte", "a.txt", 1_700_000_000_123_456_789, {"start": "now"}, ".txt"]}
        if not failed:
            heads["b"] = ["conte", "b", 1_700_000_000_123_456_789, {"start": "now"}, ""]
        assert json.loads(body) == {"heads": heads, "failed": int(failed)}
        assert stored["copy/list.json"] == body
        sha256 = hashlib.sha256(body).hexdigest()
        common = {"finisher": "Listing", "sha256": sha256, "size_bytes": len(body)}
        assert summary(job)["additions"] == [
            {**common, "key": "list.json", "content_type": "application/json"},
            {**common, "key": "copy/list.json", "content_type": "text/plain"},
        ]
        assert list(job.settings.scratch.iterdir()) == [], "scratch is cleaned up"

    def test_of_an_earlier_run_are_overwritten(self, tmp_path: Path) -> None:
        job = stored_job(tmp_path, finisher())
        put(job.store, "list.json", b"of an earlier run")

        job.complete()

        assert json.loads((tmp_path / "stored" / "list.json").read_bytes())["failed"] == 0

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ("a.txt", "the key 'a.txt' is a data object's"),
            ("../a", "would leave the prefix"),
            (".ingest/x", "where manifests are kept"),
        ],
    )
    def test_under_a_key_that_may_not_be_are_refused(self, tmp_path: Path, key: str, reason: str) -> None:
        job = stored_job(tmp_path, finisher(key=key))

        with pytest.raises(IngestError, match="the finisher Listing failed") as caught:
            job.complete()

        assert reason in str(caught.value)
        assert job.ledger.state() is State.COMPLETING
        assert job.store.read_bytes("a.txt") == b"content of a.txt"

    def test_of_two_finishers_with_one_key_are_refused(self, tmp_path: Path) -> None:
        job = stored_job(tmp_path, finisher(), finisher())

        with pytest.raises(IngestError, match=r"the key 'list\.json' is taken by Listing"):
            job.complete()

    def test_go_with_what_a_cancelled_job_stored(self, tmp_path: Path) -> None:
        job = stored_job(tmp_path, finisher(), finisher())
        with pytest.raises(IngestError):
            job.complete()
        assert (tmp_path / "stored" / "list.json").exists()

        Job(job.job_id, job.settings).cancel(delete_uploaded=True)

        assert files_below(tmp_path / "stored") == {}


@pytest.mark.usefixtures("plugins", "redis_url")
class TestFaults:
    def test_of_its_own_leave_the_job_completing_until_they_are_mended(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = stored_job(tmp_path, finisher(fail="fault"))
        with pytest.raises(IngestError, match="Listing failed: ZeroDivisionError") as caught:
            job.complete()
        assert caught.value.exit_code == 1
        assert "additions" not in [info.key for info in job.store.list(f".ingest/{job.job_id}/job.json")]
        assert "ZeroDivisionError" in caplog.text

        config = json.loads(job.ledger.snapshot()[2]["config"])
        config["finishers"][0]["params"]["fail"] = ""
        job.ledger.note(config=json.dumps(config))

        assert Job(job.job_id, job.settings).complete() is State.COMPLETE

    def test_an_object_that_is_gone_is_no_store_that_is_away(self, tmp_path: Path) -> None:
        job = stored_job(tmp_path, finisher())
        job.store.delete(["b"])

        with pytest.raises(IngestError, match="'b' is in the manifest, and not at the destination") as caught:
            job.complete()
        assert not isinstance(caught.value, StoreError)

    def test_a_store_that_is_away_is_no_fault_of_a_finisher(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Away(WrappedStore):
            def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
                if key == "list.json":
                    raise StoreUnreachable("gone")
                return super().put(key, body, meta, if_absent=if_absent)

        job = stored_job(tmp_path, finisher())
        whole = job.store
        job.__dict__["store"] = Away(whole)
        with pytest.raises(StoreUnreachable):
            job.complete()
        job.__dict__["store"] = whole

        assert job.complete() is State.COMPLETE

    def test_a_job_that_is_cancelled_meanwhile_gets_no_more(self, tmp_path: Path) -> None:
        class Cancels(WrappedStore):
            def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
                if key == "list.json":
                    job.ledger.transition(State.CANCELLING, State.COMPLETING)
                return super().put(key, body, meta, if_absent=if_absent)

        job = stored_job(tmp_path, finisher())
        job.__dict__["store"] = Cancels(job.store)

        with pytest.raises(JobError, match="not completed any more"):
            job.complete()
        assert "copy/list.json" not in files_below(tmp_path / "stored")


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("entry", "place", "what"),
    [
        (finisher(fail="check"), None, "this job has no pictures"),
        (finisher(kee="x"), "finishers.1.params.kee", "unknown key"),
        ({"class": "galery"}, "finishers.1.class", "no finisher 'galery'"),
        ({"clas": "x"}, "finishers.1.class", "is missing"),
    ],
)
def test_a_wrong_one_is_refused_when_a_job_is_created(
    tmp_path: Path, entry: dict[str, Any], place: str | None, what: str
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    path = files_config(
        tmp_path, tmp_path / "source", str(tmp_path / "stored"), finishers=[finisher(), entry]
    )

    with pytest.raises(ConfigError, match=what) as caught:
        check(json.loads(path.read_text()), tmp_path, Settings.load())
    assert caught.value.place == place


@pytest.mark.usefixtures("plugins", "redis_url")
def test_a_whole_job_on_s3(rclone_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("abcdefg")
    destination = s3_folder(rclone_s3, monkeypatch)
    config = files_config(tmp_path, tmp_path / "source", destination, finishers=[finisher()])

    job = create(config)

    found = json.loads(job.store.read_bytes("list.json"))
    assert found["heads"]["a.txt"][0] == "abcde"
    assert len(summary(job)["additions"]) == 2

    # Another job's data is not overwritten by what a finisher makes.
    (tmp_path / "source" / "b.txt").write_text("abcdefg")
    other = stored_elsewhere(tmp_path, destination)
    with pytest.raises(IngestError, match="a data object's of another job"):
        other.complete()


def stored_elsewhere(folder: Path, destination: dict[str, Any]) -> Job:
    """A job without data, whose finisher wants another job's key."""
    job = job_over(folder, destination=destination, finishers=[finisher(key="a.txt")])
    job.ledger.feed(0, [], items=0, size_bytes=0, cursor="", last=True)
    return job
