"""Who works on a job now, what each has in hand, and why the work waits, if it does."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ingest.ledger import Ledger, State
from ingest.redis_client import redis_errors

NODE_TTL_S = 10.0
PAUSE_TTL_S = 15.0
SAMPLE_NODES = 20
LOOKS_PER_S = 50
"""How many nodes, of all together, look at the others each second, once there are more of them."""
STOP_WITHIN_S = 30.0
"""Seconds within which a node that was asked to stop has stopped, or is killed."""
MIN_STEPS = 10
"""Steps that a rate is taken over at least, however far they lie apart."""
STILL_AFTER_GAPS = 5
"""After as many of its usual gaps without a step a total stands still."""
EVENTS_EVERY_S = 0.025
"""How often a node sends what it has gathered to tell of its batches to whoever watches."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says of itself.

    Attributes:
        node: its name, ``host-pid-xxxx``.
        processes: how many it runs.
        items_per_s, bytes_per_s: its rate, see :class:`Rate`.
        in_hand: what each process does now.
        stopping: it was asked to stop, and finishes what it has in hand.
        trouble: why its processes cannot begin, or "".
    """

    node: str
    host: str
    processes: int
    items_per_s: float = 0.0
    bytes_per_s: float = 0.0
    in_hand: tuple[str, ...] = ()
    stopping: bool = False
    trouble: str = ""

    @property
    def notice(self) -> str:
        """What people should know of it before what it has in hand, or ""."""
        if self.trouble:
            return f"not ready: {self.trouble}"
        return "stopping" if self.stopping else ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for ``status --json``."""
        return {
            "node": self.node,
            "host": self.host,
            "processes": self.processes,
            "items_per_s": round(self.items_per_s, 3),
            "bytes_per_s": round(self.bytes_per_s),
            "in_hand": list(self.in_hand),
            "stopping": self.stopping,
            "trouble": self.trouble or None,
        }


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What a node's process says once a second."""

    in_hand: str = ""
    items: int = 0
    size_bytes: int = 0

    def encode(self) -> str:
        """As JSON."""
        return json.dumps([self.in_hand, self.items, self.size_bytes])


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process reads once a second: whether to go on.

    Attributes:
        state: the job's state.
        pause: why the work waits, or "".
        stopping: this node was asked to stop: ``""``, ``"soon"`` (finish the batch) or ``"now"``.
    """

    state: State = State.UPLOADING
    pause: str = ""
    stopping: str = ""


@dataclass(slots=True)
class _Sample:
    at_s: float
    items: int
    size_bytes: int


@dataclass(slots=True)
class Rate:
    """Items and bytes a second, from growing totals: over ten seconds, or over the last steps of what grows seldom.

    An item counts when it is stored, and in a job when its batch is. Between two such steps nothing seems to move, and
    at one very much; from step to step the rate is right, whenever one looks.
    """

    window_s: float = 10.0
    _steps: list[_Sample] = field(default_factory=list)
    _begins_with_step: bool = False

    def update(self, at_s: float, items: int, size_bytes: int) -> tuple[float, float]:
        """Add the totals at a moment of a clock; the rates (items/s, bytes/s) up to it, 0 where it stands still."""
        self._add(_Sample(at_s, items, size_bytes))
        first, last = self._steps[0], self._steps[-1]
        elapsed_s = max(last.at_s, at_s - self._gap_s()) - first.at_s
        if elapsed_s <= 0 or self._stands_still(at_s):
            return 0.0, 0.0
        return (last.items - first.items) / elapsed_s, (last.size_bytes - first.size_bytes) / elapsed_s

    def _add(self, now: _Sample) -> None:
        if not self._steps:
            self._steps, self._begins_with_step = [now], not (now.items or now.size_bytes)
            return
        last = self._steps[-1]
        if (now.items, now.size_bytes) == (last.items, last.size_bytes):
            return
        shrank = now.items < last.items or now.size_bytes < last.size_bytes
        if shrank or not self._begins_with_step or self._stands_still(now.at_s):
            self._steps, self._begins_with_step = [], True
        self._steps.append(now)
        while len(self._steps) > MIN_STEPS and self._steps[1].at_s < now.at_s - self.window_s:
            self._steps.pop(0)

    def _gap_s(self) -> float:
        """From one step to the next, on average."""
        return (self._steps[-1].at_s - self._steps[0].at_s) / max(1, len(self._steps) - 1)

    def _stands_still(self, at_s: float) -> bool:
        quiet_s = at_s - self._steps[-1].at_s
        return len(self._steps) > 1 and quiet_s > max(self.window_s, STILL_AFTER_GAPS * self._gap_s())


class Presence:
    """The nodes of a job, and its pause. Records expire by themselves when a node dies."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._client = ledger.client

    def _node_key(self, node: str) -> str:
        return self._ledger.key(f"node:{node}")

    def announce(self, node: str, facts: Mapping[str, str | int | float]) -> None:
        """Say that a node is there, with what is new about it. To be repeated at least every third of its time."""
        with redis_errors(self._ledger.url):
            now_s = self._client.time()[0]
            pipe = self._client.pipeline(transaction=False)
            pipe.zadd(self._ledger.key("nodes"), {node: now_s})
            pipe.hset(self._node_key(node), mapping=dict[Any, Any](facts))
            pipe.pexpire(self._node_key(node), int(NODE_TTL_S * 1000))
            pipe.execute()

    def leave(self, node: str) -> None:
        """The node has stopped."""
        with redis_errors(self._ledger.url):
            pipe = self._client.pipeline(transaction=False)
            pipe.zrem(self._ledger.key("nodes"), node)
            pipe.delete(self._node_key(node))
            pipe.execute()

    def report(self, node: str, process: int, report: ProcessReport) -> Orders:
        """Say what a process of the node does, and read its orders: one round trip."""
        with redis_errors(self._ledger.url):
            pipe = self._client.pipeline(transaction=False)
            pipe.hget(self._ledger.key(), "state")
            pipe.get(self._ledger.key("pause"))
            pipe.hget(self._node_key(node), "stopping")
            pipe.hset(self._node_key(node), f"process:{process}", report.encode())
            pipe.pexpire(self._node_key(node), int(NODE_TTL_S * 1000))
            state, pause, stopping, *_ = pipe.execute()
        return Orders(
            State(state.decode()) if state else State.CANCELLED,
            _order(pause),
            stopping.decode() if stopping else "",
        )

    def totals(self, node: str, alive: Container[int]) -> tuple[int, int]:
        """Items and bytes that the node's processes have done. Those not ``alive`` have nothing in hand any more."""
        with redis_errors(self._ledger.url):
            raw = cast("dict[bytes, bytes]", self._client.hgetall(self._node_key(node)))
            reports = {
                int(name.removeprefix(b"process:")): ProcessReport(*json.loads(text))
                for name, text in raw.items()
                if name.startswith(b"process:")
            }
            for process, report in reports.items():
                if report.in_hand and process not in alive:
                    empty = replace(report, in_hand="").encode()
                    self._client.hset(self._node_key(node), f"process:{process}", empty)
        done = reports.values()
        return sum(report.items for report in done), sum(report.size_bytes for report in done)

    def nodes(self, at_most: int | None = None) -> list[NodeInfo]:
        """The nodes that are there now, by name; of many, those heard of last.

        Those whose record has expired are forgotten.
        """
        with redis_errors(self._ledger.url):
            last = -1 if at_most is None else at_most - 1
            found = cast("list[bytes]", self._client.zrevrange(self._ledger.key("nodes"), 0, last))
            names = sorted(name.decode() for name in found)
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self._node_key(name))
            records = pipe.execute() if names else []
            gone = [name for name, raw in zip(names, records, strict=True) if b"host" not in raw]
            if gone:
                self._client.zrem(self._ledger.key("nodes"), *gone)
        return [_node_info(name, raw) for name, raw in zip(names, records, strict=True) if b"host" in raw]

    def count(self) -> int:
        """How many nodes were heard of within a node's time to live."""
        with redis_errors(self._ledger.url):
            now_s = int(self._client.time()[0])
            return int(self._client.zcount(self._ledger.key("nodes"), now_s - NODE_TTL_S, "+inf"))

    def pause(self, reason: str, node: str, *, for_all: bool = True) -> None:
        """Say that the node waits, and why. Holds for a while; to be repeated as long as the reason does.

        Args:
            for_all: tell all nodes to wait; else only people are told, as others may be able to go on.
        """
        text = json.dumps({"reason": reason, "node": node, "for_all": for_all})
        with redis_errors(self._ledger.url):
            self._client.set(self._ledger.key("pause"), text, px=int(PAUSE_TTL_S * 1000))

    def go_on(self) -> None:
        """End the pause."""
        with redis_errors(self._ledger.url):
            self._client.delete(self._ledger.key("pause"))

    def pause_reason(self) -> str:
        """Why the work waits, or ""."""
        with redis_errors(self._ledger.url):
            return _text(cast("bytes | None", self._client.get(self._ledger.key("pause"))))


@dataclass(slots=True)
class NodeSample:
    """The nodes as a node's own screen shows them: some of them, and the more seldom the more there are.

    Every node looks at the others. If a thousand looked at a thousand twice a second, Redis would do nothing else.
    """

    presence: Presence
    nodes: tuple[NodeInfo, ...] = ()
    count: int = 0
    _next_look_s: float = 0.0

    def look(self) -> None:
        """Look again, if it is time."""
        if time.monotonic() < self._next_look_s:
            return
        self.nodes = tuple(self.presence.nodes(SAMPLE_NODES))
        self.count = len(self.nodes) if len(self.nodes) < SAMPLE_NODES else self.presence.count()
        self._next_look_s = time.monotonic() + self.count / LOOKS_PER_S


def _text(pause: bytes | None) -> str:
    """Why the work waits, for people; with the node, where it may be that one's trouble alone."""
    if not pause:
        return ""
    said = json.loads(pause)
    return str(said["reason"]) if said.get("for_all", True) else f"{said['reason']} (says {said['node']})"


def _order(pause: bytes | None) -> str:
    """Why every node is to wait, or ""."""
    said = json.loads(pause) if pause else {"for_all": False}
    return str(said["reason"]) if said.get("for_all", True) else ""


def _node_info(name: str, raw: Mapping[bytes, bytes]) -> NodeInfo:
    fields = {key.decode(): value.decode() for key, value in raw.items()}
    hands = [json.loads(text)[0] for key, text in sorted(fields.items()) if key.startswith("process:")]
    return NodeInfo(
        node=name,
        host=fields["host"],
        processes=int(fields.get("processes", 1)),
        items_per_s=float(fields.get("items_per_s", 0)),
        bytes_per_s=float(fields.get("bytes_per_s", 0)),
        in_hand=tuple(hand for hand in hands if hand),
        stopping=bool(fields.get("stopping")),
        trouble=fields.get("trouble", ""),
    )
