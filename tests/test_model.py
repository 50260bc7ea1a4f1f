"""Ledger and feeder against a simple model: whatever happens, in whatever order, they and it agree.

The model knows nothing of Redis: which items were listed into which batch, which batches count, and what a Redis
that forgets its last second goes back to.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ingest.errors import JobError
from ingest.feeder import Feeder
from ingest.items import FileItem
from ingest.job import Job
from ingest.ledger import Attempt, FailedItem, Kills, State, Tally, pack_items
from tests.engine.jobs_by_hand import Listing, feeder_of, job_over

ITEMS = [f"f{number:03}" for number in range(23)]
AHEAD = 3
WORKING = (State.PREPARING, State.UPLOADING)


@dataclass
class Model:
    """What must be in the ledger."""

    state: State = State.PREPARING
    batches: list[tuple[str, ...]] = field(default_factory=list)
    listed: int = 0
    again_from: int | None = None  # the first batch of items that are tried again
    enumerated: bool = False
    committed: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)
    in_hand: dict[int, int] = field(default_factory=dict)
    kills: dict[int, dict[int, int]] = field(default_factory=dict)
    failed: dict[tuple[int, int], str] = field(default_factory=dict)
    counted: dict[int, tuple[int, int]] = field(default_factory=dict)  # batch → done, failed

    @property
    def done(self) -> int:
        return sum(done for done, _ in self.counted.values())

    def failed_in(self, batches: set[int]) -> list[tuple[int, int]]:
        return [place for place in self.failed if place[0] in batches]

    @property
    def is_working(self) -> bool:
        return self.state in WORKING

    @property
    def is_done(self) -> bool:
        return self.enumerated and len(self.committed) == len(self.batches)


@dataclass
class Held:
    """A batch that a node works on: what it was told, which Redis may have forgotten since."""

    batch: int
    attempt: Attempt

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.attempt.items or ())


class LedgerMachine(RuleBasedStateMachine):
    """Nodes, a feeder and people, one step after another."""

    redis_url = ""

    @initialize()
    def make(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="ingest-model-", dir="/tmp")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()
        self.client: Any = redis.Redis.from_url(self.redis_url)
        self.job: Job = job_over(
            Path(self.folder.name), queue={"batch_items": 4, "max_batches": AHEAD, "lease_s": 2}
        )
        self.ledger = self.job.ledger
        self.feeders: list[Feeder] = [feeder_of(self.job, Listing(ITEMS)) for _ in range(2)]
        self.model = Model()
        self.held: list[Held] = []
        self.remembered: tuple[dict[bytes, bytes], Model] = self._all_keys(), copy.deepcopy(self.model)
        self.feed(0)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.client.close()
            self.folder.cleanup()

    def _all_keys(self) -> dict[bytes, bytes]:
        return {key: self.client.dump(key) for key in self.client.scan_iter()}

    # The feeder

    @precondition(lambda self: self.model.is_working and not self.model.enumerated)
    @rule(which=st.integers(0, 1))
    def feed(self, which: int) -> None:
        """A step of one of two feeders, each of which thinks that it is alone."""
        model = self.model
        room = AHEAD - (len(model.batches) - len(model.committed))
        self.feeders[which].step()
        if not model.is_working or model.enumerated or room <= 0:
            return
        _, counts, _ = self.ledger.snapshot()
        if counts.batches == len(model.batches) and not counts.enumerated:
            return  # another feeder was here since its last step: it looks where the ledger stands
        left = ITEMS[model.listed :]
        for _ in range(room):
            cut, left = left[:4], left[4:]
            if cut:
                model.batches.append(tuple(cut))
                model.listed += len(cut)
        # That nothing is left is known when there is room for more than there is.
        model.enumerated = counts.enumerated
        assert not model.enumerated or model.listed == len(ITEMS)
        model.state = State.UPLOADING

    # Nodes

    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """A message came, for the first time or again; or one of a batch that Redis has forgotten."""
        left = [number for number in range(len(self.model.batches)) if number not in self.model.committed]
        self._begin(data.draw(st.sampled_from(left) if left else st.integers(0, len(self.model.batches))))

    @precondition(lambda self: len(self.model.committed) < len(self.model.batches))
    @rule(data=st.data(), index=st.integers(0, 1))
    def die(self, data: st.DataObject, index: int) -> None:
        """A node takes a batch, and dies with an item of it that it tries by itself."""
        model, before = self.model, len(self.held)
        left = [number for number in range(len(model.batches)) if number not in model.committed]
        self._begin(data.draw(st.sampled_from(left)))
        if len(self.held) > before:
            batch = self.held.pop().batch
            self.ledger.suspects.hold(batch, index, "n1")
            model.in_hand[batch] = index

    @rule(failing=st.sets(st.integers(0, 3), max_size=1))
    def do_all(self, failing: set[int]) -> None:
        """Nodes do all that is left."""
        for batch in range(len(self.model.batches)):
            before = len(self.held)
            self._begin(batch)
            if len(self.held) > before:
                self._commit(self.held.pop(), failing)

    @precondition(lambda self: self.model.is_working)
    @rule(failing=st.sets(st.integers(0, 3), max_size=1))
    def do_the_rest(self, failing: set[int]) -> None:
        """A feeder and nodes work until nothing is left."""
        while not self.model.is_done:
            if not self.model.enumerated:
                self.feed(0)
            self.do_all(failing)
        self.finish()

    def _begin(self, batch: int) -> None:
        model, answer = self.model, self.ledger.begin(batch)
        if not model.is_working:
            assert answer is model.state
        elif batch >= len(model.batches) or batch in model.committed:
            assert answer is None
        else:
            assert isinstance(answer, Attempt)
            is_again = model.again_from is not None and batch >= model.again_from
            assert answer.was_begun == (is_again or batch in model.attempts)
            model.attempts[batch] = model.attempts.get(batch, 0) + 1
            # A first attempt blames nobody: only a Redis that forgot has an item in hand before it.
            if batch in model.in_hand and model.attempts[batch] > 1:
                kills = model.kills.setdefault(batch, {})
                index = model.in_hand.pop(batch)
                kills[index] = kills.get(index, 0) + 1
            assert answer.number == model.attempts[batch]
            assert answer.kills == {
                index: Kills(times) for index, times in model.kills.get(batch, {}).items()
            }
            held = Held(batch, answer)
            assert held.paths == model.batches[batch]
            self.held.append(held)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), index=st.integers(0, 3))
    def hold(self, data: st.DataObject, index: int) -> None:
        """A node tries an item by itself; if nothing follows, it was killed with it."""
        held = data.draw(st.sampled_from(self.held))
        if held.batch < len(self.model.batches) and held.batch not in self.model.committed:
            self.ledger.suspects.hold(held.batch, index, "n1")
            self.model.in_hand[held.batch] = index

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A node stops politely."""
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        self.ledger.release(held.batch)
        self.model.in_hand.pop(held.batch, None)
        if self.model.attempts.get(held.batch, 0) > 0:
            self.model.attempts[held.batch] -= 1

    @precondition(lambda self: self.held)
    @rule(data=st.data(), failing=st.sets(st.integers(0, 3), max_size=2), again=st.booleans())
    def commit(self, data: st.DataObject, failing: set[int], again: bool) -> None:
        """A node counts a batch, once or twice, however late."""
        held = data.draw(st.sampled_from(self.held))
        if not again:
            self.held.remove(held)
        self._commit(held, failing)

    def _commit(self, held: Held, failing: set[int]) -> None:
        model = self.model
        items = held.attempt.items or []
        failures = {index: FailedItem(items[index], "E", "r") for index in failing if index < len(items)}
        tally = Tally({"done": len(items) - len(failures), "failed": len(failures)}, failures)
        counted = self.ledger.commit(held.batch, tally, payload_sha1=held.attempt.payload_sha1, part="t")
        is_known = held.batch < len(model.batches) and model.batches[held.batch] == held.paths
        assert counted == (model.is_working and is_known and held.batch not in model.committed)
        again = self.ledger.commit(held.batch, tally, payload_sha1=held.attempt.payload_sha1, part="u")
        assert not again, "it counted twice"
        if counted:
            model.committed.add(held.batch)
            model.counted[held.batch] = len(items) - len(failures), len(failures)
            model.failed |= {(held.batch, index): failure.item.name for index, failure in failures.items()}
            for facts in (model.attempts, model.in_hand, model.kills):
                facts.pop(held.batch, None)

    @precondition(lambda self: self.model.state is State.COMPLETING)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        """Manifest parts are lost: their batches are taken back, unless what failed of them was tried again since."""
        model = self.model
        lost = data.draw(st.sets(st.sampled_from(range(len(model.batches))), min_size=1))
        payloads = {
            batch: pack_items([FileItem(path, 10) for path in model.batches[batch]])
            if self.ledger.payload_items(batch) is None
            else b""
            for batch in lost
        }
        may_be = sum(model.counted[batch][1] for batch in lost) == len(model.failed_in(lost))
        assert self.ledger.undo(payloads, at_most=10**6) == may_be
        if may_be:
            model.state = State.UPLOADING
            model.committed -= lost
            for place in model.failed_in(lost):
                del model.failed[place]
            for batch in lost:
                del model.counted[batch]
                model.attempts[batch] = 1

    # Redis

    @precondition(lambda self: self.model != self.remembered[1])
    @rule()
    def sync(self) -> None:
        """Redis writes down what it has."""
        self.remembered = self._all_keys(), copy.deepcopy(self.model)

    @precondition(lambda self: self.model != self.remembered[1])
    @rule()
    def forget(self) -> None:
        """Redis dies, and has what it had written down."""
        keys, model = self.remembered
        self.client.flushall()
        for key, dumped in keys.items():
            self.client.restore(key, 0, dumped)
        self.model = copy.deepcopy(model)

    # People

    @precondition(lambda self: self.model.is_working and self.model.is_done)
    @rule()
    def finish(self) -> None:
        """The work is done."""
        assert self.ledger.finish(State.COMPLETING)
        assert not self.ledger.finish(State.COMPLETING)
        self.model.state = State.COMPLETING

    @precondition(lambda self: self.model.state is State.COMPLETING)
    @rule()
    def end(self) -> None:
        """The manifest is written."""
        end = State.FAILED if self.model.failed else State.COMPLETE
        assert self.ledger.transition(end, State.COMPLETING)
        self.model.state = end

    @precondition(lambda self: self.model.state is State.FAILED)
    @rule()
    def retry(self) -> None:
        """Failed items are tried again, in batches of their own."""
        model = self.model
        paths = [path for _, path in sorted(model.failed.items())]
        assert self.job.retry() == len(paths)
        model.again_from = len(model.batches) if model.again_from is None else model.again_from
        model.batches += [tuple(paths[start : start + 4]) for start in range(0, len(paths), 4)]
        model.failed.clear()
        model.state = State.UPLOADING

    @rule()
    def ask_too_early(self) -> None:
        """A person asks for what the job's state does not permit."""
        if self.model.state is not State.FAILED:
            with pytest.raises(JobError):
                self.job.retry()
        if self.model.is_working and not self.model.is_done:
            with pytest.raises(JobError):
                self.ledger.finish(State.COMPLETING)

    # Always

    @invariant()
    def the_ledger_is_as_the_model(self) -> None:
        model = self.model
        state, counts, _ = self.ledger.snapshot()
        assert state is model.state
        assert counts.batches == len(model.batches)
        assert counts.committed == len(model.committed)
        assert (counts.items_listed, counts.enumerated) == (model.listed, model.enumerated)
        assert (counts.done, counts.failed) == (model.done, len(model.failed))
        left = [number for number in range(len(model.batches)) if number not in model.committed]
        assert self.ledger.uncommitted(counts.batches) == left
        assert [failure.item.name for failure in self.job.failures()] == [
            path for _, path in sorted(model.failed.items())
        ]

    @invariant()
    def no_item_is_lost_or_there_twice(self) -> None:
        """What is counted, what has failed and what is in batches that are left is what was listed."""
        model = self.model
        left = [
            item.name
            for number in range(len(model.batches))
            if number not in model.committed
            for item in self.ledger.payload_items(number) or ()
        ]
        failed = list(model.failed.values())
        assert len(set(left)) == len(left)
        assert not set(left) & set(failed)
        assert model.done + len(failed) + len(left) == model.listed

    @invariant()
    def every_batch_that_is_left_can_be_queued_again(self) -> None:
        """Its items are in the ledger, whether or not its message still is."""
        for number, paths in enumerate(self.model.batches):
            if number not in self.model.committed:
                items = self.job.items(number, self.ledger.payload_items(number))
                assert tuple(item.name for item in items if isinstance(item, FileItem)) == paths


@contextmanager
def quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@pytest.mark.timeout(240)
def test_ledger_and_feeder_do_as_the_model(redis_url: str) -> None:
    machine = type("LedgerMachineHere", (LedgerMachine,), {"redis_url": redis_url})
    with quiet():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30,
                stateful_step_count=50,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.generate, Phase.explain],
            ),
        )
