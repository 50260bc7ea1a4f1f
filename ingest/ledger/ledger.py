"""A job's ledger: each of its steps, from its creation to its end."""

from __future__ import annotations

import difflib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis

from ingest.config import parse_config
from ingest.errors import ConfigError, JobError, JobNotFound, JobTooNew
from ingest.items import Item
from ingest.ledger import scripts
from ingest.ledger.failures import Failures
from ingest.ledger.keys import JobKeys
from ingest.ledger.records import (
    Attempt,
    Counts,
    JobRecord,
    Kills,
    Listed,
    Part,
    State,
    Tally,
    unpack_items,
)
from ingest.ledger.suspects import Suspects
from ingest.ledger.uploads import UnfinishedUploads
from ingest.redis_client import redis_errors, without_password
from ingest.stores.base import Capabilities
from ingest.version import LEDGER_FORMAT

JOBS_KEY = "ingest:jobs"
PARTS_AT_ONCE = 1000
ONE_SLIP = 0.8  # how alike two IDs are that differ in a character, or in the order of two


class Ledger(JobKeys):
    """One job's ledger. Every method is one atomic step and may be repeated; none waits for a lost Redis.

    Attributes:
        failures: the failed items.
        suspects: the items that are tried by themselves, as they may have killed a process.
        uploads: the multipart uploads that are not finished.

    Raises (every method):
        RedisError: Redis cannot be reached, refuses, or is full.
    """

    def __init__(self, url: str, job_id: str, client: redis.Redis | None = None) -> None:
        super().__init__(url, job_id, client)
        keys = JobKeys(
            url, job_id, self.client
        )  # not the ledger itself: a cycle would keep its connections open
        self.failures = Failures(keys)
        self.suspects = Suspects(keys)
        self.uploads = UnfinishedUploads(keys)

    def _unknown(self) -> JobNotFound:
        known = {*job_ids(self.url, self.client)} - {self.job_id}
        near = difflib.get_close_matches(self.job_id.strip().lower(), known, n=1, cutoff=ONE_SLIP)
        return JobNotFound(
            f"there is no job {self.job_id!r} in the Redis at {without_password(self.url)}",
            hint=f"did you mean {near[0]}?"
            if near
            else "`ingest list` shows all jobs; where Redis was emptied create it again: what is stored is skipped",
        )

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Within it, a record that something else has written over, or that has lost a piece, is told as such.

        Raises:
            JobError: it cannot be read.
        """
        try:
            yield
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            what = error.what if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            raise JobError(
                f"the record of job {self.job_id} in Redis is damaged ({what})",
                hint="create the job again: what is stored is skipped",
            ) from error

    def _hash(self) -> dict[str, str]:
        with redis_errors(self.url):
            raw = cast("dict[bytes, bytes]", self.client.hgetall(self.key()))
        if not raw:
            raise self._unknown()
        with self.readable():
            fields = {name.decode(): value.decode() for name, value in raw.items()}
            made_by = int(fields.get("format", LEDGER_FORMAT))
        if made_by > LEDGER_FORMAT:
            raise JobTooNew(
                f"job {self.job_id} was made by Ingest {fields.get('version', '?')}, which is newer than this one",
                hint="update Ingest on this machine",
            )
        return fields

    def create(self, fields: Mapping[str, str]) -> bool:
        """Record a new job in state ``preparing``. False where the ID is taken."""
        flat = [text for pair in fields.items() for text in pair]
        args = [self.job_id, secrets.token_hex(8), *flat]
        return bool(self.run_on(scripts.CREATE, [self.key(), JOBS_KEY], args))

    def record(self) -> JobRecord:
        """What does not change of the job.

        Raises:
            JobNotFound: no such job.
            JobTooNew: made by a newer version.
        """
        fields = self._hash()
        with self.readable():
            return JobRecord(
                job_id=self.job_id,
                config=parse_config(json.loads(fields["config"])),
                capabilities=Capabilities.from_dict(json.loads(fields["capabilities"])),
                created_s=int(fields["created_s"]),
                manual_complete=fields.get("manual_complete") == "1",
                destination_was_empty=fields.get("destination_was_empty") == "1",
            )

    def state(self) -> State:
        """The job's state now.

        Raises:
            JobNotFound: no such job.
        """
        with redis_errors(self.url):
            state = cast("bytes | None", self.client.hget(self.key(), "state"))
        if state is None:
            raise self._unknown()
        with self.readable():
            return State(state.decode())

    def snapshot(self) -> tuple[State, Counts, dict[str, str]]:
        """State, counters and the other fields of the job's record, of one moment."""
        fields = self._hash()
        with self.readable():
            numbers = {name: int(fields.get(name, 0)) for name in Counts.__dataclass_fields__}
            numbers["items_total"] = int(fields.get("items_total", -1))
            enumerated = bool(numbers.pop("enumerated"))
            return State(fields["state"]), Counts(enumerated=enumerated, **numbers), fields

    def transition(self, to: State, *allowed: State) -> bool:
        """Change the state, if it is one of ``allowed``. False where it was ``to`` already.

        Raises:
            JobError: the job is in another state.
        """
        answer = self.run(scripts.TRANSITION, [""], [to, int(to.ended), *allowed])
        if answer < 0:
            raise JobError(f"job {self.job_id} is {self.state()}, so it cannot become {to}")
        return bool(answer)

    def finish(self, to: State) -> bool:
        """Go on to ``uploaded`` or ``completing``, if all is listed, committed and counted. False where it was done.

        Raises:
            JobError: batches are still to be done, the counts disagree, or the job is in another state.
        """
        answer = int(self.run(scripts.FINISH, [""], [to]))
        if answer >= 0:
            return bool(answer)
        state, counts, _ = self.snapshot()
        if answer == -2:
            left = counts.batches - counts.committed
            raise JobError(
                f"job {self.job_id} is {state} with {left} batches to do and "
                f"{'all' if counts.enumerated else 'not all'} of its items listed",
                hint=f"`ingest join -j {self.job_id}` helps",
            )
        if answer == -3:
            raise JobError(
                f"job {self.job_id} lists {counts.items_listed} items, but {counts.done} done, {counts.skipped} "
                f"skipped and {counts.failed} failed ones are counted: Redis has lost some of it",
                hint="is its maxmemory-policy noeviction? Create the job again: what is stored is skipped",
            )
        raise JobError(f"job {self.job_id} is {state}, so it cannot become {to}")

    def now_s(self) -> int:
        """Redis's time, in seconds since 1970 UTC."""
        with redis_errors(self.url):
            return int(self.client.time()[0])

    def note(self, **fields: str) -> None:
        """Set further fields of the job's record."""
        with redis_errors(self.url):
            self.client.hset(self.key(), mapping=dict[Any, Any](fields))

    def note_trouble(self, what: str) -> None:
        """Say what is in the way of a job, unless it has ended meanwhile; what is no text is escaped."""
        self.run(scripts.TROUBLE, [""], [what.encode(errors="backslashreplace")])

    def feed(
        self,
        expected_batches: int,
        payloads: Sequence[bytes],
        *,
        items: int,
        size_bytes: int,
        cursor: str,
        last: bool,
    ) -> int:
        """Record batches that follow the first ``expected_batches``. An empty payload is an arithmetic batch.

        Returns:
            1: recorded. 0: the ledger stands elsewhere (another feeder, or Redis forgot); look and go on from
            there. -1: the job takes no more batches.
        """
        args: list[Any] = [expected_batches, items, size_bytes, cursor, int(last), len(payloads), *payloads]
        return int(self.run(scripts.FEED, ["", "payloads"], args))

    def begin(self, batch: int) -> Attempt | State | None:
        """Start an attempt at a batch.

        None where it is committed, or Redis has forgotten it (the feeder lists it again); the state where the job
        takes no work.
        """
        parts = ["", "committed", "payloads", "attempts", "in_hand", "kills", "left", "ended"]
        answer = self.run(scripts.BEGIN, parts, [batch])
        word = answer[0].decode()
        if word in ("committed", "unknown"):
            return None
        if word == "stop":
            return State(answer[1].decode() or State.CANCELLED)
        _, number, payload, kills, began_s, payload_sha1, was_begun = answer
        return Attempt(
            number=int(number),
            items=unpack_items(payload) if payload else None,
            kills={int(index): Kills(*known[:2]) for index, known in json.loads(kills).items()},
            began_s=int(began_s),
            payload_sha1=payload_sha1.decode(),
            was_begun=bool(was_begun),
        )

    def release(self, batch: int) -> None:
        """End an attempt that was stopped politely; it does not count against its items."""
        self.run(scripts.RELEASE, ["attempts", "in_hand"], [batch])

    def commit(
        self,
        batch: int,
        tally: Tally,
        *,
        payload_sha1: str = "",
        part: str = "",
        listed: Listed | None = None,
    ) -> bool:
        """Count a batch, once. False where it was counted before, or the job takes no more.

        False, too, where Redis has forgotten the batch, or has other items under its number since: it is done again.
        Whatever the tally says must be stored, and its manifest part, named by ``part``, too. ``listed`` says which
        files they are, so that the batch can be undone.
        """
        names, amounts = list(tally.counters), list(tally.counters.values())
        failures = [
            text
            for index, failure in tally.failures.items()
            for text in (f"{batch}:{index}", failure.encode())
        ]
        parts = ["", "committed", "payloads", "attempts", "in_hand", "kills", "failures", "parts"]
        known = Part(part, tally.counters, listed).encode() if part else ""
        args = [batch, payload_sha1, known, len(names), *names, *amounts, *failures]
        return int(self.run(scripts.COMMIT, parts, args)) == 1

    def parts(self, batches: int) -> Iterator[tuple[int, Part]]:
        """(batch, its manifest part) of those below ``batches`` that have one, in order."""
        for start in range(0, batches, PARTS_AT_ONCE):
            numbers = range(start, min(batches, start + PARTS_AT_ONCE))
            with redis_errors(self.url):
                parts = cast("list[bytes | None]", self.client.hmget(self.key("parts"), [*map(str, numbers)]))
            yield from (
                (batch, Part.decode(part))
                for batch, part in zip(numbers, parts, strict=True)
                if part is not None
            )

    def undo(self, payloads: Mapping[int, bytes], *, at_most: int) -> bool:
        """Take batches of a job that is ``completing`` back, with all that they counted: they are to be done again.

        Args:
            payloads: batch → its items, or b"" where these are arithmetic or in the ledger still.
            at_most: how often a job's batches may be.

        Returns:
            False where that was done so often already, or one of them cannot be undone.

        Raises:
            JobError: the job is not ``completing``.
        """
        failures = self.failures.places(payloads)
        args = [at_most, len(payloads), *payloads, *payloads.values(), *failures]
        parts = ["", "committed", "payloads", "attempts", "failures", "parts"]
        answer = int(self.run(scripts.UNDO, parts, args))
        if answer < 0:
            raise JobError(f"job {self.job_id} is {self.state()}, and is not completed any more")
        return bool(answer)

    def forget_payloads(self) -> None:
        """Drop the items of a job whose manifest is written."""
        with redis_errors(self.url):
            self.client.delete(self.key("payloads"))

    def uncommitted(self, batches: int) -> list[int]:
        """The numbers below ``batches`` whose bit is not set."""
        with redis_errors(self.url):
            bitmap = cast("bytes | None", self.client.get(self.key("committed"))) or b""
        bitmap = bitmap.ljust((batches + 7) // 8, b"\0")
        return [
            8 * place + bit
            for place, byte in enumerate(bitmap)
            if byte != 0xFF
            for bit in range(8)
            if not byte & (0x80 >> bit) and 8 * place + bit < batches
        ]

    def payload_items(self, batch: int) -> list[Item] | None:
        """The items of a batch that is not arithmetic and not committed."""
        with redis_errors(self.url):
            payload = cast("bytes | None", self.client.hget(self.key("payloads"), str(batch)))
        return unpack_items(payload) if payload else None

    def reopen(self, payloads: Sequence[bytes], *, failures: int, batches: int) -> bool:
        """Turn a failed job's failed items into new batches. False where the ledger changed meanwhile.

        Raises:
            JobError: the job is not ``failed``.
        """
        args = [failures, batches, secrets.token_hex(8), *payloads]
        answer = self.run(scripts.REOPEN, ["", "payloads", "failures"], args)
        if answer < 0:
            raise JobError(f"job {self.job_id} is {self.state()}; only a failed job can be retried")
        return bool(answer)

    def forget_work(self) -> None:
        """Drop what only unfinished work needs. For a job that is complete, was cancelled or has expired."""
        parts = (
            "payloads",
            "attempts",
            "in_hand",
            "kills",
            "committed",
            "parts",
            "left",
            "ended",
            "coordinator",
            "pause",
        )
        with redis_errors(self.url):
            self.client.unlink(
                *(self.key(part) for part in parts)
            )  # which stops nobody else where they are large

    def note_addition(self, key: str) -> None:
        """Note that a finisher is about to store an object under this key."""
        with redis_errors(self.url):
            self.client.sadd(self.key("additions"), key)

    def additions(self) -> set[str]:
        """The keys of all that finishers have stored, or were about to."""
        with redis_errors(self.url):
            return {key.decode() for key in cast("set[bytes]", self.client.smembers(self.key("additions")))}


def job_ids(url: str, client: redis.Redis) -> list[str]:
    """The IDs of all jobs in this Redis, newest first."""
    with redis_errors(url):
        return [job_id.decode() for job_id in cast("list[bytes]", client.zrevrange(JOBS_KEY, 0, -1))]
