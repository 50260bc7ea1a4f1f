from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pytest
import redis

from ingest.errors import JobError, JobNotFound, JobTooNew, RedisRefused, RedisUnreachable
from ingest.items import FileItem, Item, Tile
from ingest.job import Job
from ingest.ledger import (
    OPEN_STATES,
    Attempt,
    FailedItem,
    Kills,
    Ledger,
    State,
    Tally,
    job_ids,
    pack_items,
    unpack_items,
)
from ingest.redis_client import without_password
from tests.engine.jobs_by_hand import begin, job_over

ODD = os.fsdecode(b"caf\xe9/\xff\nmenu")
ITEMS: list[Item] = [
    FileItem("a/b", 3, 1_700_000_000_000_000_001),
    FileItem(ODD, None, None),
    FileItem("x", 0, 0, "flaw"),
]


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A new job."""
    return job_over(tmp_path)


@pytest.fixture
def ledger(job: Job) -> Ledger:
    """Its ledger."""
    return job.ledger


def feed(ledger: Ledger, expected: int = 0, batches: int = 1, *, last: bool = False) -> int:
    payloads = [pack_items(ITEMS)] * batches
    return ledger.feed(expected, payloads, items=3 * batches, size_bytes=9, cursor='"x"', last=last)


class TestCreate:
    def test_an_id_is_taken_once(self, job: Job, redis_url: str) -> None:
        before = job.ledger.snapshot()

        assert not job.ledger.create({"config": "other"})
        assert job.ledger.snapshot() == before
        assert job_ids(redis_url, job.ledger.client) == [job.job_id]

    def test_a_new_job_is_preparing_by_the_clock_of_redis(self, job: Job) -> None:
        state, counts, fields = job.ledger.snapshot()

        assert state is State.PREPARING
        assert (counts.items_total, counts.batches, counts.enumerated) == (-1, 0, False)
        assert abs(int(fields["created_s"]) - job.ledger.now_s()) < 60
        assert job.record.config == job.config

    def test_no_secret_is_recorded(
        self, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhush")
        job = job_over(tmp_path)

        recorded = repr(job.ledger.client.hgetall(job.ledger.key()))
        assert "hushhush" not in recorded
        assert "for-tests-only" not in recorded

    def test_one_that_is_unknown_or_too_new_is_told(self, ledger: Ledger) -> None:
        with pytest.raises(JobNotFound, match="no job 'nope'"):
            Ledger(ledger.url, "nope").record()
        with pytest.raises(JobNotFound):
            Ledger(ledger.url, "nope").state()
        ledger.note(format="99", version="9.9")
        with pytest.raises(JobTooNew, match=r"9\.9"):
            ledger.record()

    def test_an_id_with_a_slip_in_it_is_told_the_job_it_may_mean(self, ledger: Ledger) -> None:
        job_id = ledger.job_id
        for typed in (f" {job_id.upper()}", f"{job_id[:-1]}?", job_id[1:]):
            with pytest.raises(JobNotFound, match=f"did you mean {job_id}") as raised:
                Ledger(ledger.url, typed).record()
            assert f"in the Redis at {without_password(ledger.url)}" in raised.value.what

    def test_a_note_may_hold_a_name_that_is_no_text(self, ledger: Ledger) -> None:
        ledger.note_trouble(f"the folder {ODD} cannot be listed")

        assert "cannot be listed" in ledger.snapshot()[2]["trouble"]

    def test_a_note_makes_no_job_of_one_that_redis_forgot(self, ledger: Ledger) -> None:
        ledger.client.flushall()

        ledger.note_trouble("it is gone")

        with pytest.raises(JobNotFound, match="create it again"):
            ledger.snapshot()


class TestTransition:
    @pytest.mark.parametrize(
        ("state", "allowed"), [*itertools.product(State, [(State.UPLOADING,), OPEN_STATES])]
    )
    def test_goes_only_from_where_it_may(
        self, ledger: Ledger, state: State, allowed: tuple[State, ...]
    ) -> None:
        ledger.note(state=state)
        if state in allowed:
            assert ledger.transition(State.CANCELLED, *allowed)
            assert "ended_s" in ledger.snapshot()[2]
        elif state is State.CANCELLED:
            assert not ledger.transition(State.CANCELLED, *allowed)
        else:
            with pytest.raises(JobError, match=f"is {state}, so it cannot become cancelled"):
                ledger.transition(State.CANCELLED, *allowed)
            assert ledger.state() is state

    def test_one_of_many_at_once_does_it(self, job: Job) -> None:
        done: list[bool] = []

        def attempt() -> None:
            done.append(Ledger(job.ledger.url, job.job_id).transition(State.CANCELLING, *OPEN_STATES))

        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == [False] * 7 + [True]


class TestFeed:
    def test_counts_what_it_is_given(self, ledger: Ledger) -> None:
        assert feed(ledger, batches=2) == 1
        assert feed(ledger, 2, last=True) == 1

        state, counts, fields = ledger.snapshot()
        assert (state, counts.batches, counts.items_listed, counts.enumerated) == (
            State.UPLOADING,
            3,
            9,
            True,
        )
        assert fields["cursor"] == '"x"'

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_of_one_who_stands_elsewhere_changes_nothing(self, ledger: Ledger, expected: int) -> None:
        feed(ledger, batches=2)
        before = ledger.snapshot(), ledger.client.hgetall(ledger.key("payloads"))

        assert feed(ledger, expected, last=True) == 0
        assert (ledger.snapshot(), ledger.client.hgetall(ledger.key("payloads"))) == before

    @pytest.mark.parametrize("state", [state for state in State if state not in ("preparing", "uploading")])
    def test_of_a_job_that_takes_no_more(self, ledger: Ledger, state: State) -> None:
        ledger.note(state=state)

        assert feed(ledger) == -1
        assert ledger.snapshot()[0] is state

    def test_ends_the_trouble(self, ledger: Ledger) -> None:
        ledger.note_trouble("it cannot be listed")
        feed(ledger)

        assert "trouble" not in ledger.snapshot()[2]

    def test_items_come_back_as_they_were(self, ledger: Ledger) -> None:
        feed(ledger)

        assert ledger.payload_items(0) == ITEMS
        assert begin_items(ledger, 0) == ITEMS
        tiles: list[Item] = [Tile(1, 2, 3), Tile(0, 0, 0, 9)]
        assert unpack_items(pack_items(tiles)) == tiles


def begin_items(ledger: Ledger, batch: int) -> list[Item] | None:
    attempt = ledger.begin(batch)
    assert isinstance(attempt, Attempt)
    return attempt.items


class TestCommit:
    TALLY = Tally({"done": 2, "failed": 1, "bytes_done": 7}, {1: FailedItem(ITEMS[1], "E", f"of {ODD}", ODD)})

    def test_counts_once_however_often_it_is_done(self, job: Job) -> None:
        feed(job.ledger)
        begin(job, 0)
        answers: list[bool] = []

        def commit() -> None:
            answers.append(Ledger(job.ledger.url, job.job_id).commit(0, self.TALLY))

        threads = [threading.Thread(target=commit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(answers) == [False] * 7 + [True]
        _, counts, _ = job.ledger.snapshot()
        assert (counts.committed, counts.done, counts.failed, counts.bytes_done) == (1, 2, 1, 7)
        assert [*job.ledger.failures] == [self.TALLY.failures[1]]
        assert job.ledger.begin(0) is None, "a message that comes again is known to be done"
        left = ("payloads", "attempts", "in_hand", "kills")
        assert job.ledger.client.exists(*map(job.ledger.key, left)) == 0

    @pytest.mark.parametrize("state", [state for state in State if state not in ("preparing", "uploading")])
    def test_that_is_too_late_counts_nothing(self, job: Job, state: State) -> None:
        feed(job.ledger)
        begin(job, 0)
        job.ledger.note(state=state)

        assert not job.ledger.commit(0, self.TALLY)
        _, counts, _ = job.ledger.snapshot()
        assert (counts.committed, counts.done, counts.failed) == (0, 0, 0)
        assert [*job.ledger.failures] == []
        assert job.ledger.begin(0) is state

    def test_failures_come_in_the_order_of_their_batches(self, job: Job) -> None:
        feed(job.ledger, batches=12)
        for batch in (11, 2, 10):
            job.ledger.commit(
                batch, Tally({}, {i: FailedItem(FileItem(f"{batch}:{i}"), "E", "r") for i in (10, 9)})
            )

        assert [failure.item.name for failure in job.ledger.failures] == [
            "2:9",
            "2:10",
            "10:9",
            "10:10",
            "11:9",
            "11:10",
        ]

    def test_failures_come_in_that_order_however_many_they_are(self, job: Job) -> None:
        feed(job.ledger, batches=2)
        for batch in (1, 0):
            found = {i: FailedItem(FileItem(f"{batch}:{i}"), "E", "r") for i in range(2500)}
            job.ledger.commit(batch, Tally({}, found))

        assert [failure.item.name for failure in job.ledger.failures] == [
            f"{batch}:{i}" for batch in range(2) for i in range(2500)
        ]
        assert job.ledger.failures.places({1}) == [f"1:{i}" for i in range(2500)]

    @pytest.mark.parametrize("committed", [(), (0,), (7, 8), (0, 1, 2, 15, 16), tuple(range(17))])
    def test_leaves_the_others_uncommitted(self, job: Job, committed: tuple[int, ...]) -> None:
        feed(job.ledger, batches=17)
        for batch in committed:
            job.ledger.commit(batch, Tally())

        assert job.ledger.uncommitted(17) == [batch for batch in range(17) if batch not in committed]
        assert job.ledger.uncommitted(3) == [batch for batch in range(3) if batch not in committed]


class TestAttempts:
    def test_are_counted_and_those_stopped_politely_are_not(self, job: Job) -> None:
        feed(job.ledger)

        assert begin(job, 0).number == 1
        assert begin(job, 0).number == 2
        job.ledger.suspects.hold(0, 1)
        job.ledger.release(0)
        again = begin(job, 0)
        assert (again.number, again.kills) == (2, {})

    def test_that_were_stopped_politely_are_known_to_have_begun(self, job: Job) -> None:
        feed(job.ledger)
        assert not begin(job, 0).was_begun
        job.ledger.release(0)

        again = begin(job, 0)

        assert (again.number, again.was_begun) == (1, True)
        job.ledger.commit(0, Tally({"done": 2}))
        job.ledger.release(0)
        assert job.ledger.client.exists(job.ledger.key("attempts")) == 0

    def test_count_who_was_in_hand_when_its_process_died(self, job: Job) -> None:
        feed(job.ledger)
        assert begin(job, 0).kills == {}
        assert begin(job, 0).kills == {}, "of the first attempt nobody is to blame"

        job.ledger.suspects.hold(0, 0)
        job.ledger.suspects.hold(0, 2)
        assert begin(job, 0).kills == {2: Kills(1)}
        assert begin(job, 0).kills == {2: Kills(1)}, "it died before it held one"
        job.ledger.suspects.hold(0, 2)
        assert begin(job, 0).kills == {2: Kills(2)}
        job.ledger.suspects.hold(0, 1)
        assert begin(job, 0).kills == {1: Kills(1), 2: Kills(2)}

    def test_do_not_count_a_process_that_was_only_cut_off(self, job: Job) -> None:
        feed(job.ledger)
        begin(job, 0)
        for process in (7, 8, 9):  # each is cut off while it has the item in hand, and comes back
            begin(job, 0)
            job.ledger.suspects.hold(0, 3, "n1", process)
            begin(job, 0)
            assert not job.ledger.suspects.pardon(0, 3, "n1", process + 1)
            assert job.ledger.suspects.pardon(0, 3, "n1", process)
            assert not job.ledger.suspects.pardon(0, 3, "n1", process)
        assert begin(job, 0).kills == {3: Kills(0)}

    def test_say_why_a_process_was_ended(self, job: Job) -> None:
        feed(job.ledger)
        begin(job, 0)
        job.ledger.suspects.hold(0, 2, "n1", 77)
        job.ledger.suspects.note_end("n1", 77, "too much memory")
        job.ledger.suspects.note_end("n1", 78, "another's")
        assert begin(job, 0).kills == {2: Kills(1, "too much memory")}

        job.ledger.suspects.hold(0, 2, "n1", 79)
        assert begin(job, 0).kills == {2: Kills(2, "too much memory")}, "the last that is known"

    def test_blame_an_item_and_no_other(self, job: Job) -> None:
        feed(job.ledger)
        begin(job, 0)
        job.ledger.suspects.hold(0, 0, "n1", 77)

        assert job.ledger.suspects.blame(0, 1, 2, "it hangs")
        assert job.ledger.suspects.blame(0, 1, 2, "it hangs"), "it may be repeated"

        attempt = begin(job, 0)
        assert (attempt.number, attempt.kills) == (2, {1: Kills(2, "it hangs")})

    def test_blame_none_of_a_batch_that_is_committed(self, job: Job) -> None:
        feed(job.ledger)
        job.ledger.commit(0, Tally({"done": 3}))

        assert not job.ledger.suspects.blame(0, 1, 2, "it hangs")
        assert job.ledger.client.exists(job.ledger.key("kills")) == 0

    def test_of_batches_are_apart(self, job: Job) -> None:
        feed(job.ledger, batches=2)
        begin(job, 0)
        job.ledger.suspects.hold(0, 1)

        attempt = begin(job, 1)
        assert (attempt.number, attempt.kills) == (1, {})


class TestReopen:
    def failed(self, job: Job, *failures: int, size_bytes: int = 0) -> None:
        feed(job.ledger, last=True)
        found = {index: FailedItem(ITEMS[index], "E", "r") for index in failures}
        job.ledger.commit(0, Tally({"done": 1, "failed": len(failures), "bytes_failed": size_bytes}, found))
        job.ledger.transition(State.FAILED, State.UPLOADING)

    @pytest.mark.parametrize("size_bytes", [0, 7])
    def test_turns_failed_items_into_new_batches(self, job: Job, size_bytes: int) -> None:
        self.failed(job, 0, 1, size_bytes=size_bytes)

        assert job.ledger.reopen([pack_items(ITEMS[:2])], failures=2, batches=1)

        state, counts, fields = job.ledger.snapshot()
        assert (state, counts.batches, counts.committed) == (State.UPLOADING, 2, 1)
        assert (counts.done, counts.failed, counts.bytes_failed) == (1, 0, 0)
        assert "ended_s" not in fields
        assert [*job.ledger.failures] == []
        assert begin(job, 1).items == ITEMS[:2]

    @pytest.mark.parametrize(("failures", "batches"), [(1, 1), (3, 1), (2, 0), (2, 2)])
    def test_does_nothing_where_the_ledger_changed_meanwhile(
        self, job: Job, failures: int, batches: int
    ) -> None:
        self.failed(job, 0, 1)
        before = job.ledger.snapshot()

        assert not job.ledger.reopen([b"x"], failures=failures, batches=batches)
        assert job.ledger.snapshot() == before
        assert len([*job.ledger.failures]) == 2

    def test_is_for_failed_jobs_only(self, ledger: Ledger) -> None:
        with pytest.raises(JobError, match="only a failed job"):
            ledger.reopen([], failures=0, batches=0)


def test_uploads_are_recorded_until_they_are_forgotten(ledger: Ledger) -> None:
    assert ledger.uploads.upload_id("a/é") is None
    ledger.uploads.record_upload("a/é", "")
    assert ledger.uploads.upload_id("a/é") == ""
    ledger.uploads.record_upload("a/é", "id-1")
    ledger.uploads.record_upload("b", "id-2")
    assert ledger.uploads.all() == {"a/é": "id-1", "b": "id-2"}
    ledger.uploads.forget_upload("a/é")
    ledger.uploads.forget_upload("a/é")
    assert ledger.uploads.all() == {"b": "id-2"}


def test_a_redis_that_is_away_or_refuses_is_one_of_our_errors(redis_url: str) -> None:
    with pytest.raises(RedisUnreachable):
        Ledger("redis://127.0.0.1:1/0", "x").state()
    with pytest.raises(RedisRefused) as refused:
        Ledger(redis_url.replace("for-tests-only", "hushhush"), "x").state()
    assert "hushhush" not in str(refused.value)


def test_scripts_survive_a_redis_that_forgot_them(ledger: Ledger) -> None:
    assert feed(ledger) == 1
    with redis.Redis.from_url(ledger.url) as client:
        client.script_flush()
    assert feed(ledger, 1) == 1
