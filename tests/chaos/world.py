"""A trial's world: a real Redis and a real S3 server behind proxies, and the nodes of one job."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingest.config import Settings
from ingest.errors import RedisError
from ingest.job import Job
from tests.audit import audit, make_files
from tests.chaos.node import Node
from tests.chaos.progress import ProgressWatch
from tests.chaos.report import Report
from tests.chaos.s3_proxy import S3Proxy
from tests.chaos.tcp_proxy import Loop, TcpProxy
from tests.restartable import PASSWORD, restartable_redis, restartable_s3
from tests.s3_servers import ACCESS_KEY, SECRET_KEY

ITEM_BYTES = 2000
ITEMS_PER_S = 20
"""What a process of a node may send, by the job's limit on bandwidth: trials are to last, not to load the machine."""


@dataclass(frozen=True)
class Pace:
    """How much time a trial has: that of a real outage, or a share of it.

    Attributes:
        lease_s: the job's lease time.
        factor: what outages last, of their full time.
        work_s: about how long the job takes when nothing happens to it.
        patience_s: how long anything is waited for before the trial has failed.
        noise_s: what a busy machine may add to a time that is asserted: processes are started meanwhile.
    """

    lease_s: float
    factor: float
    work_s: float
    patience_s: float
    noise_s: float

    def of(self, full_s: float, least_s: float = 0.0) -> float:
        """What ``full_s`` seconds are at this pace."""
        return max(full_s * self.factor, least_s)


SHORT = Pace(lease_s=5, factor=1 / 15, work_s=16, patience_s=90, noise_s=20)
FULL = Pace(lease_s=60, factor=1, work_s=200, patience_s=600, noise_s=5)


class World:
    """One job and all that it needs, to be broken by a scenario, which ends with :meth:`finish`."""

    def __init__(self, scenario: str, folder: Path, seed: int, pace: Pace) -> None:
        self.folder = folder
        self.pace = pace
        self.random = random.Random(seed)
        self.report = Report(scenario, seed, lease_s=pace.lease_s)
        self.nodes: list[Node] = []
        self.expected: dict[str, bytes] = {}
        self._stack = ExitStack()
        self._began_s = time.monotonic()
        self._seed = seed

    def __enter__(self) -> Self:
        environment = {
            "HOME": str(self.folder),  # where no settings file of a person is
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.write_secret(SECRET_KEY)
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self._stack.callback(_restore, before)
        with ExitStack() as stack:
            self.redis = stack.enter_context(restartable_redis())
            self.s3 = stack.enter_context(restartable_s3(self.folder / "s3"))
            self._loop = stack.enter_context(Loop())
            self.s3_proxy = stack.enter_context(S3Proxy(self._loop, self.s3.port, self._seed))
            self._stack.push(stack.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write_secret(self, secret_key: str) -> None:
        """Write the file that the nodes take their credentials from."""
        lines = (
            "[default]",
            f"aws_access_key_id = {ACCESS_KEY}",
            f"aws_secret_access_key = {secret_key}",
            "",
        )
        (self.folder / "new").write_text("\n".join(lines))
        (self.folder / "new").rename(self.folder / "credentials")

    # Before

    def files(self, nodes: int, *, work_s: float | None = None, processes: int = 1) -> None:
        """Files that so many nodes move in ``work_s`` seconds or so."""
        count = int((work_s or self.pace.work_s) * nodes * processes * ITEMS_PER_S)
        self.expected |= make_files(self.folder / "source", count, ITEM_BYTES)

    def large_file(self, name: str, size_bytes: int) -> None:
        """One large file, of bytes that do not repeat."""
        self.expected[name] = random.Random(name).randbytes(size_bytes)
        (self.folder / "source").mkdir(exist_ok=True)
        (self.folder / "source" / name).write_bytes(self.expected[name])

    def create(self, processes: int = 1, **changes: Mapping[str, Any]) -> Node:
        """``ingest create``, which is the first node; ``changes`` go into parts of the config."""
        batch_items = max(10, int(ITEMS_PER_S * self.pace.lease_s / 10))
        config: dict[str, Any] = {
            "name": "trial",
            "ingest_job": {"type": "files"},
            "path_processor": {"class": "folder", "params": {"root_dir": str(self.folder / "source")}},
            "destination": {
                "url": "s3://data/run",
                "endpoint_url": self.s3_proxy.url,
                "region": "us-east-1",
            },
            "upload": {"threads": 4, "bandwidth_bytes_per_s": ITEMS_PER_S * (ITEM_BYTES + 48)},
            "queue": {"batch_items": batch_items, "lease_s": self.pace.lease_s, "max_batches": 20},
        }
        for part, values in changes.items():
            config[part] = {**config.get(part, {}), **values}
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        node = self.command("create", str(path), "--yes", "--json", "-p", str(processes))
        job_id = node.command.job_id
        settings = Settings(redis_url=self.redis.url, state_dir=self.folder / "audit")
        self.job = Job(job_id, settings)
        self.progress = self._stack.enter_context(ProgressWatch(self.job, self.s3_proxy.seen))
        return node

    def join(self, processes: int = 1, **env: str) -> Node:
        """``ingest join``: one more node."""
        return self.command("join", "-j", self.job.job_id, "--json", "-p", str(processes), **env)

    def command(self, *arguments: str, **env: str) -> Node:
        """A command with its own proxy before Redis."""
        proxy = self._stack.enter_context(
            TcpProxy(self._loop, lambda: asyncio.open_unix_connection(self.redis.socket))
        )
        env = {"INGEST_STATE_DIR": str(self.folder / "state"), **env}
        node = Node.of(proxy, PASSWORD, *arguments, env=env)
        self._stack.enter_context(node.command)
        self.nodes.append(node)
        return node

    # While it runs

    def fault(self, what: str, times: int = 1) -> None:
        """Note what was done."""
        self.report.faults[what] += times
        self.report.timeline.append((round(time.monotonic() - self._began_s, 1), what))

    def kill(self, node: Node) -> None:
        """``kill -9`` of a node with all its processes."""
        self.fault("node killed")
        node.kill()
        self.nodes.remove(node)

    def kill_and_see(self, node: Node) -> None:
        """As :meth:`kill`, and wait until all that was in hand at that moment is begun again or counted."""
        before, killed_s = self.in_hand(), time.monotonic()
        self.kill(node)
        self.until(lambda: self.taken_up(before), "what a killed node had in hand was not begun again")
        self.resumed(killed_s)

    def resumed(self, killed_s: float) -> None:
        """Note how long after a kill the work goes on, which is now."""
        self.report.resumed_s = max(time.monotonic() - killed_s, self.report.resumed_s or 0)

    def in_hand(self) -> dict[int, int]:
        """How often each batch that is not counted has been begun."""
        client: Any = self.job.ledger.client
        return {
            int(batch): int(times)
            for batch, times in client.hgetall(self.job.ledger.key("attempts")).items()
            if int(times) > 0
        }

    def taken_up(self, before: Mapping[int, int]) -> bool:
        now = self.in_hand()
        return all(batch not in now or now[batch] > times for batch, times in before.items())

    def reached(self, share: float) -> None:
        """Wait until this share of the items is counted."""
        wanted = int(share * len(self.expected))
        self.until(lambda: self.done() >= wanted, f"{share:.0%} of the items were not reached")

    def done(self) -> int:
        """Items that are counted."""
        _, counts, _ = self.job.ledger.snapshot()
        return counts.done + counts.skipped + counts.failed

    def goes_on(self, share: float = 0.05) -> None:
        """Wait until that share of the items is counted beyond those that are now."""
        self.reached(min(1.0, self.done() / len(self.expected) + share))

    def until(self, happened: Callable[[], object], what: str, patience_s: float | None = None) -> None:
        """Wait for something to happen, however often Redis is away meanwhile."""
        give_up_s = time.monotonic() + (patience_s or self.pace.patience_s)
        while True:
            try:
                if happened():
                    return
            except RedisError:
                pass  # it is one of the faults
            assert time.monotonic() < give_up_s, f"{what}\n{self._last_words()}"
            time.sleep(0.05)

    def _last_words(self) -> str:
        return "\n".join(f"{node.command.events[-1:]} {node.said[-500:]}" for node in self.nodes)

    # After

    def finish(self) -> Report:
        """Wait for the end of the job, audit it, and measure."""
        for node in self.nodes:
            try:
                code = node.command.exit_code(self.pace.patience_s)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"a node does not end; {self._standstill()}") from None
            assert code == 0, f"a node ended with {code}\n{node.said}\n{self._failures()}"
        self.progress.stop()
        status = audit(self.job, self.expected, self.s3.files("run"))
        assert status["state"] == "complete", status
        assert self.job.ledger.uploads.all() == {}
        assert self._unfinished() == [], "multipart uploads are left behind"
        report, seen = self.report, self.s3_proxy.seen
        report.items = len(self.expected)
        report.faults += Counter({fault: count for fault, count in seen.faults.items() if count})
        report.stored, report.twice = len(seen.stored), seen.stored_twice()
        began_s, report.longest_gap_s = self.progress.longest_gap()
        report.timeline.append((round(began_s - self._began_s, 1), "longest gap begins"))
        report.took_s = time.monotonic() - self._began_s
        report.timeline.sort()
        print(report.to_json())
        return report

    def _standstill(self) -> str:
        """What is not done, who has it, and what each node says."""
        state, counts, fields = self.job.ledger.snapshot()
        nodes = [(info.node, info.in_hand, info.trouble) for info in self.job.status().nodes]
        said = "\n".join(node.said[-1500:] for node in self.nodes)
        left = self.job.ledger.uncommitted(counts.batches)
        return f"{state}, left {left}, begun {self.in_hand()}, {fields}\n{nodes}\n{said}"

    def _failures(self) -> list[str]:
        return [failure.reason for failure in self.job.failures()][:3]

    def _unfinished(self) -> list[str]:
        client = self.s3.server.client()
        try:
            found = client.list_multipart_uploads(Bucket="data").get("Uploads", [])
        except client.exceptions.NoSuchUpload:  # what rclone says where there never was one
            return []
        finally:
            client.close()
        return [upload["Key"] for upload in found]


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
