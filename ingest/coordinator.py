"""The coordinator's duty: feed the job, find lost batches, complete it. Any node can do it; one at a time does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from ingest.duty import DUTY_TTL_S, Duty
from ingest.errors import (
    MAY_BE_OURS,
    ClockWrong,
    DiskFull,
    IngestError,
    ItemError,
    LimitReached,
    RedisError,
    StoreError,
    source_trouble,
)
from ingest.feeder import Feeder
from ingest.job import Job
from ingest.ledger import State
from ingest.news import News
from ingest.plugin_loader import Processors

log = logging.getLogger(__name__)

IDLE_S = 0.05
WAIT_S = 1.0
LOST_AFTER_S = 3.0
TROUBLE_WAIT_S = 2.0
GIVE_UP_AFTER_S = 20.0


class Coordinator:
    """Does the duty whenever this node holds it. Every step may be repeated, and taken over half done.

    Args:
        job: the job.
        holder: the name of the node whose duty it is.
        ended: called when the job has ended through it, or waits for a person's word.
    """

    def __init__(self, job: Job, holder: str, ended: Callable[[], None] = lambda: None) -> None:
        self._job = job
        self._ended = ended
        self._duty = Duty(job.ledger, holder)
        self._on_duty = False
        self._looked_s = 0.0
        self._missing: set[int] = set()
        self.all_committed_s: float | None = None
        """When this node saw that every batch was committed, on its steady clock; None where another did."""
        self.redis_trouble = ""
        """Why the duty waits for Redis, such as one that takes no writes, or ""."""
        self._trouble: IngestError | None = None
        self._trouble_since_s = 0.0
        self._news = News()

    @cached_property
    def _processors(self) -> Processors:
        return self._job.processors()

    @cached_property
    def _feeder(self) -> Feeder:
        job = self._job
        return Feeder(
            job.config, job.ledger, job.queue, self._processors, job.keys(self._processors), job.context.grid
        )

    def run(self, stop: threading.Event) -> None:
        """Do the duty until the job has ended, or ``stop`` is set. Trouble is noted in the job and waited out."""
        with self._renewing(stop):
            self._run(stop)

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                again = self.step()
                self._trouble, self.redis_trouble = None, ""
                if again:
                    continue
            except RedisError as error:
                self.redis_trouble = error.what
                log.debug("the coordinator waits for Redis: %s", error.what)
                stop.wait(TROUBLE_WAIT_S)
            except ClockWrong as error:
                if self._news.is_new(error.what):
                    log.error("another node may be able to: %s", error)
                self._pass_on(stop)
            except MAY_BE_OURS as error:
                self._note(error)
                self._pass_on(stop)
            except IngestError as error:
                self._note(error)
                stop.wait(TROUBLE_WAIT_S)
            except Exception as error:
                if ours := DiskFull.of(error) or LimitReached.of(error):
                    self._note(ours)
                    self._pass_on(stop)
                    continue
                if self._news.is_new(repr(error)):
                    log.exception("a fault in a plugin or in Ingest")
                self._note(IngestError(f"a fault in a plugin or in Ingest: {error!r}"))
                stop.wait(TROUBLE_WAIT_S)
            stop.wait(IDLE_S if self._on_duty else WAIT_S)

    def _pass_on(self, stop: threading.Event) -> None:
        """Leave the duty to another node for a while: this machine cannot do it."""
        self._on_duty = False
        self.let_go()
        stop.wait(DUTY_TTL_S)

    def raise_trouble(self) -> None:
        """Give up on what does not mend itself: a source that cannot be listed, a damaged manifest part.

        A store or a Redis that is away is waited for instead, and so is a disk of this machine that is full.

        Raises:
            IngestError: what has been in the way for ``GIVE_UP_AFTER_S``.
        """
        trouble = self._trouble
        if trouble is None or isinstance(trouble, StoreError | RedisError | DiskFull):
            return
        if time.monotonic() - self._trouble_since_s > GIVE_UP_AFTER_S:
            raise source_trouble(trouble) if isinstance(trouble, ItemError) else trouble

    def let_go(self) -> None:
        """Give the duty up, so that another node has it at once."""
        try:
            self._duty.let_go()
        except RedisError as error:
            log.debug("could not give the duty up: %s", error.what)

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """For who calls :meth:`step`: within it the duty is kept however long a step takes, and then given up."""
        try:
            with self._renewing(threading.Event()):
                yield
        finally:
            self.let_go()

    @contextmanager
    def _renewing(self, stop: threading.Event) -> Iterator[None]:
        """Renew the duty while a long step (a listing, the manifest) is under way, until ``stop``."""
        renewal = threading.Thread(target=self._keep, args=(stop,), name="renewal", daemon=True)
        renewal.start()
        try:
            yield
        finally:
            stop.set()
            renewal.join(1)

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(DUTY_TTL_S / 4):
            if not self._on_duty:
                continue
            try:
                self._duty.hold()
            except RedisError as error:
                log.debug("could not renew the duty: %s", error.what)

    def _note(self, error: IngestError) -> None:
        if self._trouble is None:
            self._trouble_since_s = time.monotonic()
        self._trouble = error
        if self._news.is_new(error.what):
            log.warning("the coordinator is in trouble: %s", error)
        try:
            self._job.ledger.note_trouble(str(error))
        except RedisError as redis_error:
            log.debug("could not note it: %s", redis_error.what)

    def step(self) -> bool:
        """One step of the duty, if it is this node's. True where another step should follow at once.

        Raises:
            IngestError: the source cannot be listed, the destination not written, or Redis not reached.
        """
        self._on_duty = self._duty.hold()
        if not self._on_duty:
            return False
        state, counts, _ = self._job.ledger.snapshot()
        if state not in (State.PREPARING, State.UPLOADING, State.COMPLETING) or self._job.expire():
            return False
        if state is State.COMPLETING:
            self._job.complete()
            self._ended()
            return False
        if not counts.enumerated and self._feeder.step():
            return True
        if counts.enumerated and counts.committed >= counts.batches:
            self._finish()
            return False
        _ = self._job.completion  # it takes a while to import, and is needed at the end: now nodes work
        self._find_lost(counts.batches)
        return False

    def _finish(self) -> None:
        self.all_committed_s = self.all_committed_s or time.monotonic()
        if self._job.record.manual_complete:
            self._job.ledger.finish(State.UPLOADED)
        else:
            self._job.complete()
        self._ended()

    def _find_lost(self, batches: int) -> None:
        """Queue again what is neither committed, queued nor leased: Redis, or a node between two steps, lost it.

        Looked for only while nothing waits in the queue, and found missing twice, some seconds apart: a
        message is in neither place for the instant in which a node takes it.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < LOST_AFTER_S or self._job.queue.waiting():
            return
        self._looked_s = now_s
        missing = set(self._job.ledger.uncommitted(batches)) - self._job.queue.known()
        lost = sorted(missing & self._missing)
        self._missing = missing - set(lost)
        if lost:
            log.warning("%d batches were lost on the way and are queued again", len(lost))
            self._job.queue.publish(lost)
