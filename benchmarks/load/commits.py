"""Two hundred simulated nodes that begin and commit batches against one Redis: commits a second.

    python benchmarks/load/commits.py [--nodes N] [--commits N] [--at-once N] [--clients N] [--json FILE]

Each node is a connection that runs the ledger's own scripts with the ledger's own arguments: BEGIN, then COMMIT,
batch after batch, as fast as Redis answers. Nothing is stored. Requests are made before the clock starts, so that
Redis is the limit and not its clients.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

import redis
from harness import machine, write_json

from ingest.config import Settings
from ingest.ledger import Ledger, Tally
from ingest.redis_client import connect
from ingest.redis_server import redis_url, stop

FIRST_BATCH = 1_000_000
PLACE = "{batch}"
COUNTERS = {
    "done": 128,
    "skipped": 0,
    "blank": 0,
    "bytes_done": 1 << 20,
    "objects": 128,
    "bytes_stored": 1 << 20,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found.

    Attributes:
        redis_cpu_s: of Redis's main thread meanwhile, by its own word.
        client_cpu_s: of all clients.
        usec_per_call: microseconds inside of Redis for one EVALSHA, parsing and sockets left out.
    """

    nodes: int
    at_once: int
    commits: int
    wall_s: float
    redis_cpu_s: float
    client_cpu_s: float
    usec_per_call: float

    @property
    def commits_per_s(self) -> float:
        """The rate."""
        return self.commits / self.wall_s


class _Recorder:
    """Takes a ledger's calls instead of a Redis client, to learn what it would have sent."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.sent: list[bytes] = []

    def register_script(self, text: str) -> Any:
        """A script that answers 1 and notes its call."""
        sha = self._client.script_load(text)

        def call(keys: Sequence[str], args: Sequence[Any]) -> Any:
            words = ["EVALSHA", sha, len(keys), *keys, *args]
            self.sent.append(_encoded(words))
            return 1

        return call


def _encoded(words: Sequence[Any]) -> bytes:
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


def requests(url: str, job_id: str, client: redis.Redis) -> tuple[bytes, bytes]:
    """BEGIN and COMMIT as the ledger sends them, with seven characters in the place of the batch."""
    recorder = _Recorder(client)
    ledger = Ledger(url, job_id, cast("redis.Redis", recorder))
    place = cast("int", PLACE)
    empty_sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    ledger.commit(place, Tally(COUNTERS), payload_sha1=empty_sha1, part="0123abcd")
    (commit,) = recorder.sent
    recorder.sent.clear()
    try:
        ledger.begin(place)
    except TypeError:  # it expects a richer answer than the recorder's; what it sent is known by then
        (begin,) = recorder.sent
    return begin, commit


class _Node(asyncio.Protocol):
    """One connection: batches begun and committed in turn, ``at_once`` of them together, as by so many processes."""

    def __init__(self, hello: bytes, begin: bytes, commit: bytes, batches: range, at_once: int) -> None:
        self._hello = hello
        self._steps = (begin, commit)
        self._batches = batches
        self._at_once = at_once
        self._answers_bytes = [0, 0]
        self._done = 0
        self._step = 0
        self._due = 0
        self._got = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._hello)

    def go(self) -> None:
        """Send the first requests."""
        self._send()

    def _send(self) -> None:
        numbers = self._batches[self._done : self._done + self._at_once]
        template = self._steps[self._step]
        assert self._transport is not None
        self._due = len(numbers)
        self._transport.write(
            b"".join(template.replace(PLACE.encode(), b"%d" % number) for number in numbers)
        )

    def data_received(self, data: bytes) -> None:
        """Count answers. All answers to one kind of request are equally long."""
        if not self.ready.done():
            self.ready.set_result(None)
            return
        self._got += data
        if not self._answers_bytes[self._step]:
            self._answers_bytes[self._step] = _length_of_first(self._got)
        length = self._answers_bytes[self._step]
        if not length or len(self._got) < length * self._due:
            return
        self._got = b""
        if self._step == 1:
            self._done += self._due
            if self._done >= len(self._batches):
                self.ended.set_result(None)
                return
        self._step = 1 - self._step
        self._send()


def _length_of_first(data: bytes) -> int:
    """The bytes of the first answer; 0 where it is not whole. An answer to BEGIN is six values, to COMMIT one."""
    ends = {b"*": 12, b":": 1}
    lines = data.split(b"\r\n")
    wanted, place, values = (6, 1, 0) if data.startswith(b"*") else (1, 0, 0)
    assert data[:1] in ends, data[:200]
    while values < wanted:
        if place >= len(lines) - 1:
            return 0
        place += 2 if lines[place].startswith(b"$") else 1
        values += 1
    return sum(len(line) + 2 for line in lines[:place]) if place <= len(lines) - 1 else 0


async def _run_nodes(
    address: str, hello: bytes, begin: bytes, commit: bytes, shares: list[range], at_once: int, gate: Any
) -> None:
    loop = asyncio.get_running_loop()
    nodes = []
    for share in shares:
        _, node = await loop.create_unix_connection(
            lambda share=share: _Node(hello, begin, commit, share, at_once),
            address,  # type: ignore[misc]
        )
        nodes.append(node)
    await asyncio.gather(*(node.ready for node in nodes))
    await loop.run_in_executor(None, gate.wait)
    for node in nodes:
        node.go()
    await asyncio.gather(*(node.ended for node in nodes))


def _client(out: Any, gate: Any, *arguments: Any) -> None:
    before_s = time.process_time()
    asyncio.run(_run_nodes(*arguments, gate))
    out.put((time.monotonic(), time.process_time() - before_s))


@contextmanager
def private_redis() -> Iterator[str]:
    """A Redis as Ingest starts it, with its append-only file."""
    with TemporaryDirectory(prefix="ingest-load-") as name:
        settings = Settings(state_dir=Path(name) / "state", redis_url=None)
        try:
            yield redis_url(settings)
        finally:
            stop(settings)


def measure(url: str, nodes: int, commits: int, at_once: int, clients: int) -> Found:
    """Let the nodes commit so many batches of a new job in all, and count them."""
    job_id = f"commits{at_once}"
    client = connect(url)
    ledger = Ledger(url, job_id)
    ledger.create({"config": "{}", "capabilities": "{}"})
    client.hset(ledger.key(), mapping={"state": "uploading", "batches": 10 * FIRST_BATCH})
    begin, commit = requests(url, job_id, client)
    parts = urlsplit(url)
    hello = _encoded(["AUTH", unquote(parts.password or "")])
    share = commits // nodes
    shares = [range(FIRST_BATCH + node * share, FIRST_BATCH + (node + 1) * share) for node in range(nodes)]
    context = multiprocessing.get_context("fork")
    out, gate = context.Queue(), context.Barrier(clients + 1)
    workers = [
        context.Process(
            target=_client,
            args=(out, gate, parts.path, hello, begin, commit, shares[number::clients], at_once),
        )
        for number in range(clients)
    ]
    for worker in workers:
        worker.start()
    gate.wait(60)
    began_s, before_s = time.monotonic(), _redis_cpu_s(client)
    client.config_resetstat()
    ends = [out.get(timeout=300) for _ in workers]
    redis_cpu_s = _redis_cpu_s(client) - before_s
    for worker in workers:
        worker.join(10)
    counted = int(cast("bytes", client.hget(ledger.key(), "committed") or b"0"))
    if counted != share * nodes:
        raise RuntimeError(f"{counted:,} of {share * nodes:,} batches were committed")
    calls = cast("dict[str, Any]", client.info("commandstats"))["cmdstat_evalsha"]
    wall_s = max(at_s for at_s, _ in ends) - began_s
    return Found(
        nodes, at_once, counted, wall_s, redis_cpu_s, sum(s for _, s in ends), calls["usec_per_call"]
    )


def _redis_cpu_s(client: redis.Redis) -> float:
    cpu = cast("dict[str, float]", client.info("cpu"))
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--commits", type=int, default=200_000)
    parser.add_argument(
        "--at-once", default="1,8", help="batches that a node has on their way at once, as a list"
    )
    parser.add_argument("--clients", type=int, default=1, help="processes that the nodes are spread over")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    found = []
    with private_redis() as url:
        for at_once in map(int, args.at_once.split(",")):
            run = measure(url, args.nodes, args.commits, at_once, args.clients)
            found.append(run)
            print(
                f"{run.nodes} nodes, {at_once} at once: {run.commits_per_s:,.0f} commits/s; CPU us a commit: "
                f"Redis {run.redis_cpu_s / run.commits * 1e6:.1f} (a script {run.usec_per_call:.1f}), "
                f"clients {run.client_cpu_s / run.commits * 1e6:.1f}"
            )
    write_json(args.json, {"machine": machine(), "runs": [asdict(run) for run in found]})


if __name__ == "__main__":
    main()
