"""A synthetic stretch of a hydrophone's day: from nginx to pictures, clips and a gallery, by nodes that die."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from obspy import UTCDateTime

from ingest.job import Job
from ingest.ledger import State
from ingest.manifest import read_manifest
from tests.cluster import Command, descendants, finished
from tests.engine.conftest import Invoke
from tests.engine.making import (
    bucket_of,
    create,
    data,
    files_below,
    files_config,
    last_job,
    objects,
    open_job,
    s3_folder,
    said,
    until,
)
from tests.plugins.hydrophone import RATE_HZ, sea, trace, write
from tests.plugins.test_miniseed import OBSPYS_FILES
from tests.s3_servers import S3Server
from tests.web_servers import NginxIndex, nginx_index

EXAMPLE = Path(__file__).parent.parent.parent / "config" / "examples" / "hydrophone.json"
DAY = "CE02SHBP/LJ01D/11-HYDBBA106/2019/01/12"
FILES, FILE_S = 6, 12
SEGMENTS = 15
SLOW = "limit_rate 2m;"  # so that a node is killed in the middle of it


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxIndex]:
    """Files of 12 s that follow each other, and begin and end within segments of 5 s."""
    with nginx_index(tmp_path_factory.mktemp("ooi"), more=SLOW) as server:
        begin = UTCDateTime("2019-01-12T15:10:02.5Z")
        for number in range(FILES):
            start = begin + number * FILE_S
            name = f"OO-HYEA2--YDH-{start.strftime('%Y-%m-%dT%H:%M:%S.%f')}.mseed"
            write(server.root / DAY / name, trace(sea(FILE_S, seed=number), str(start)))
        yield server


def sets(web: NginxIndex, **changes: Any) -> list[str]:
    given = {
        "path_processor.params.base_url": web.url,
        "queue.batch_items": 1,
        "queue.lease_s": 3,
        **changes,
    }
    return [word for place, value in given.items() for word in ("--set", f"{place}={json.dumps(value)}")]


def rows(job: Job) -> list[tuple[Any, ...]]:
    """What the manifest says of each object but who stored it when."""
    names = ("item", "source", "key", "sha256", "stored_bytes", "content_type")
    found = read_manifest(job.store, job.job_id, job.settings.scratch)
    return sorted((*(row[name] for name in names), tuple(sorted(row["metadata"]))) for row in found)


def shared(web: NginxIndex, *changes: str) -> Job:
    """A job that three nodes share, one of which is killed when it has something in hand."""
    detached = Command("create", str(EXAMPLE), "--yes", "--detach", "--json", *changes)
    with detached:
        assert detached.exit_code() == 0, detached.errors
    job = last_job()
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(Command("join", "-j", job.job_id, "-p", "1", "--json")) for _ in range(3)
        ]
        until(lambda: all_are_there(job))
        job.presence.go_on()
        until(lambda: victims(job, nodes))
        victims(job, nodes)[0].kill()
        assert finished(job.status().to_dict()) < FILES, "it was killed too late to prove anything"
        for node in nodes:
            assert node.process.returncode is not None or node.exit_code() == 0, node.errors
    return job


def all_are_there(job: Job) -> bool:
    """Whether three nodes are; until then they wait for each other."""
    job.presence.pause("three nodes are to share it", "the test")
    return len(job.presence.nodes()) == 3


def victims(job: Job, nodes: list[Command]) -> list[Command]:
    """The nodes that have something in hand."""
    names = [node.node for node in job.presence.nodes() if node.in_hand]
    return [node for node in nodes if any(f"-{node.process.pid}-" in name for name in names)]


@pytest.mark.timeout(300)
def test_a_node_that_dies_changes_nothing_in_the_result(
    web: NginxIndex,
    redis_url: str,
    rclone_s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet = create(EXAMPLE, "--to", str(tmp_path / "quiet"), *sets(web))
    expected = files_below(tmp_path / "quiet")
    check_result(expected, web)

    on_disk = shared(web, "--to", str(tmp_path / "stored"), *sets(web))
    check_same(on_disk, files_below(tmp_path / "stored"), quiet, expected, web)

    destination = s3_folder(rclone_s3, monkeypatch)
    on_s3 = shared(web, *sets(web, destination=destination))
    check_same(on_s3, data(objects(rclone_s3, bucket_of(destination))), quiet, expected, web)


def check_same(
    job: Job, stored: Mapping[str, bytes], quiet: Job, expected: Mapping[str, bytes], web: NginxIndex
) -> None:
    """A job is complete, and has stored what another did that no node died of."""
    status = job.status()
    assert status.state is State.COMPLETE
    assert (status.counts.done + status.counts.skipped, status.counts.failed) == (FILES, 0)
    assert sorted(stored) == sorted(expected)
    assert [key for key in expected if stored[key] != expected[key] and "index" not in key] == []
    assert rows(job) == rows(quiet)
    check_result(stored, web)
    check_facts(job, web)


def check_result(stored: Mapping[str, bytes], web: NginxIndex) -> None:
    """Pictures, clips, the list and the gallery are there, in whaledr's layout."""
    pictures = sorted(key for key in stored if key.endswith(".png"))
    assert len(pictures) == SEGMENTS
    assert pictures[0] == "spectrograms/HYDBBA106/2019_01_12/OO_HYEA2__YDH_2019_01_12T15_10_00_000.png"
    assert all(stored[key].startswith(b"\x89PNG") for key in pictures)
    clips = [key.removesuffix(".png") + ".wav" for key in pictures]
    assert all(stored[key].startswith(b"RIFF") for key in clips)
    assert {len(stored[key]) for key in clips} == {44 + 2 * 5 * RATE_HZ}
    listed = json.loads(stored["whalemanifest.json"])
    assert sorted(listed) == [key.removesuffix(".png").replace("/", "___") for key in pictures]
    assert b"<html" in stored["index.html"]


def check_facts(job: Job, web: NginxIndex) -> None:
    """Segments that cross files are whole, but at both ends; each row names its source's checksum."""
    found = list(read_manifest(job.store, job.job_id, job.settings.scratch))
    assert len(found) == 2 * SEGMENTS
    partial = {dict(row["metadata"])["start"] for row in found if "partial" in dict(row["metadata"])}
    assert partial == {"2019-01-12T15:10:00.000000Z", "2019-01-12T15:11:10.000000Z"}
    for row in found:
        metadata = dict(row["metadata"])
        assert row["source"] == f"{web.url}{row['item']}"
        assert {"source_sha256", "source_etag", "source_last_modified", "start"} < metadata.keys()
        assert (float(metadata["gap_fraction"]) > 0) == ("partial" in metadata)


@pytest.mark.timeout(300)
def test_obspys_own_files_go_through_one_job(tmp_path: Path, redis_url: str, invoke: Invoke) -> None:
    """Gaps, overlaps, all encodings, garbage: each is stored or has failed with its reason, and no process died."""
    names = set()
    for number, path in enumerate(OBSPYS_FILES):  # apart, for many are of the same minutes
        names.add(f"{number}/{path.name}")
        (tmp_path / "source" / str(number)).mkdir(parents=True)
        shutil.copy(path, tmp_path / "source" / str(number))
    whole = {"segment_s": 600, "window_s": 8, "clip_rate_hz": 100}  # many are of a few samples a second
    config = files_config(
        tmp_path,
        tmp_path / "source",
        {
            "url": str(tmp_path / "stored"),
            "key": "{path}/{net}_{sta}_{loc}_{cha}_{YYYY_MM_DD}T{HH_MM_SS}{suffix}",
        },
        tile_processor={"class": "spectrogram", "params": whole},
    )
    with Command("create", str(config), "--yes", "--json", "-p", "2") as made:
        died = processes_that_died(made)
        assert made.exit_code() == 3, made.errors

    assert died == set()
    failed = {failure["item"]: failure for failure in said(invoke, "failures", "-j", made.job_id)}
    job = open_job(made.job_id)
    stored = {row["item"] for row in read_manifest(job.store, job.job_id, job.settings.scratch)}
    assert len(names) > 60
    assert stored | failed.keys() == names and not stored & failed.keys()
    refused = {name.partition("/")[2] for name in failed}
    assert {"emptyfile.mseed", "not.mseed", "brokenlastrecord.mseed", "nan_float32.mseed"} <= refused
    assert {"gaps.mseed", "test.mseed", "qualityflags.mseed", "steim2.mseed"}.isdisjoint(refused)
    assert {failure["error"] for failure in failed.values()} == {"SourceUnreadable"}
    assert all(len(failure["reason"]) > 15 for failure in failed.values())
    counts = job.status().counts
    assert (counts.done, counts.failed, counts.skipped) == (len(stored), len(failed), 0)
    for key, body in files_below(tmp_path / "stored").items():
        assert body.startswith(b"\x89PNG" if key.endswith(".png") else b"RIFF"), key


def processes_that_died(command: Command) -> set[int]:
    """The processes of a command that ended before its job's uploads had; not programs that a library runs."""
    job = open_job(command.job_id)
    seen: set[int] = set()
    known: set[int] = set()
    died: set[int] = set()

    def uploads_ended() -> bool:
        now = pythons(command.process.pid)
        ended = job.status().state not in (State.PREPARING, State.UPLOADING)
        if not ended:
            died.update(known - now)
            known.update(seen & now)  # seen twice: just before it starts, a program is a copy of its parent
            seen.update(now)
        return ended

    until(uploads_ended, timeout_s=150)
    assert len(known) >= 3, "a node and its two processes"
    return died


def pythons(pid: int) -> set[int]:
    """The processes below this one that run Python, and have not ended."""
    found = set()
    for one in descendants(pid):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if Path(psutil.Process(one).exe()).samefile(sys.executable):
                found.add(one)
    return found
