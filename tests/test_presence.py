from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from ingest import presence as presence_module
from ingest.duty import Duty
from ingest.job import Job
from ingest.ledger import State
from ingest.node_name import new_node_name
from ingest.presence import NodeSample, Orders, Presence, ProcessReport, Rate
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import until


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A new job."""
    return job_over(tmp_path)


class TestNodes:
    def test_that_announce_themselves_are_there_until_they_leave(self, job: Job) -> None:
        job.presence.announce("n1", {"host": "h1", "processes": 2, "items_per_s": 1.5})
        job.presence.announce("n2", {"host": "h2", "processes": 1})
        job.presence.report("n1", 7, ProcessReport("a file", 3, 300))
        job.presence.report("n1", 8, ProcessReport("", 2, 20))

        one, two = job.presence.nodes()
        assert (one.node, one.host, one.processes, one.items_per_s, one.in_hand) == (
            "n1",
            "h1",
            2,
            1.5,
            ("a file",),
        )
        assert (two.node, two.in_hand) == ("n2", ())
        assert job.presence.totals("n1", {7, 8}) == (5, 320)
        assert job.presence.nodes()[0].in_hand == ("a file",)
        assert job.presence.totals("n1", {8}) == (5, 320), "what one did that has died stays done"
        assert job.presence.nodes()[0].in_hand == ()
        job.presence.leave("n1")
        assert [node.node for node in job.presence.nodes()] == ["n2"]

    def test_that_die_are_forgotten(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence_module, "NODE_TTL_S", 0.3)
        job.presence.announce("n1", {"host": "h1"})
        assert len(job.presence.nodes()) == 1

        until(lambda: not job.presence.nodes(), timeout_s=10)

        assert job.ledger.client.zcard(job.ledger.key("nodes")) == 0
        assert job.ledger.client.exists(job.ledger.key("node:n1")) == 0

    def test_of_whom_there_are_many_are_counted_and_some_are_shown(self, job: Job) -> None:
        for number in range(50):
            job.presence.announce(f"n{number:02}", {"host": "h"})
        sample = NodeSample(job.presence)

        status = job.status(sample)

        assert (status.node_count, len(status.nodes)) == (50, presence_module.SAMPLE_NODES)
        assert (job.status().node_count, len(job.status().nodes)) == (50, 50)
        job.presence.leave("n00")
        sample.look()
        assert sample.count == 50, "many are looked at seldom"

    def test_of_whom_there_are_few_are_looked_at_each_time(self, job: Job) -> None:
        sample = NodeSample(job.presence)
        assert job.status(sample).node_count == 0
        job.presence.announce("n1", {"host": "h"})

        assert [node.node for node in job.status(sample).nodes] == ["n1"]

    def test_whose_command_is_gone_are_no_nodes_though_a_process_still_reports(self, job: Job) -> None:
        job.presence.announce("n1", {"host": "h1"})
        job.presence.leave("n1")
        job.presence.report("n1", 1, ProcessReport("a file"))

        assert job.presence.nodes() == []

    def test_may_have_names_in_hand_that_are_no_text(self, job: Job) -> None:
        odd = os.fsdecode(b"caf\xe9")
        job.presence.announce("n1", {"host": "h1"})
        job.presence.report("n1", 1, ProcessReport(odd))

        assert job.presence.nodes()[0].in_hand == (odd,)

    def test_say_why_they_are_not_ready_until_they_are(self, job: Job) -> None:
        job.presence.announce("n1", {"host": "h1"})
        job.presence.announce("n1", {"trouble": "no credentials"})
        (node,) = job.presence.nodes()
        assert node.notice == "not ready: no credentials"
        assert node.to_dict()["trouble"] == "no credentials"

        job.presence.announce("n1", {"trouble": ""})
        (node,) = job.presence.nodes()
        assert (node.notice, node.to_dict()["trouble"]) == ("", None)

    def test_have_names_that_differ_where_host_and_process_are_the_same(self) -> None:
        names = {new_node_name() for _ in range(20)}

        assert len(names) > 15
        assert all(name.startswith(f"{socket.gethostname()}-{os.getpid()}-") for name in names)


class TestOrders:
    def test_say_state_pause_and_stop(self, job: Job) -> None:
        assert job.presence.report("n1", 1, ProcessReport()) == Orders(State.PREPARING, "", "")

        job.presence.announce("n1", {"host": "h", "stopping": "soon"})
        job.presence.pause("the store is down", "n2")
        job.ledger.note(state=State.CANCELLING)

        assert job.presence.report("n1", 1, ProcessReport()) == Orders(
            State.CANCELLING, "the store is down", "soon"
        )

    def test_of_a_job_that_is_gone_are_to_stop(self, job: Job) -> None:
        job.ledger.client.delete(job.ledger.key())

        assert job.presence.report("n1", 1, ProcessReport()).state is State.CANCELLED


class TestPause:
    def test_ends_when_somebody_says_so(self, job: Job) -> None:
        job.presence.pause("no answer for " + os.fsdecode(b"caf\xe9"), "n1")
        assert job.status().pause.startswith("no answer")
        job.presence.go_on()
        assert job.status().pause == ""

    def test_of_one_node_alone_is_shown_and_is_no_order_to_the_others(self, job: Job) -> None:
        job.presence.pause("permission denied", "n1", for_all=False)

        assert job.status().pause == "permission denied (says n1)"
        assert job.presence.report("n2", 1, ProcessReport()).pause == ""

    def test_ends_with_the_node_that_called_it(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence_module, "PAUSE_TTL_S", 0.2)
        job.presence.pause("down", "n1")

        until(lambda: job.presence.pause_reason() == "", timeout_s=10)


class TestDuty:
    def test_is_held_by_one(self, job: Job) -> None:
        first, second = Duty(job.ledger, "n1"), Duty(job.ledger, "n2")

        assert first.hold()
        assert not second.hold()
        assert first.hold(), "it is renewed by holding it again"
        second.let_go()
        assert not second.hold(), "it was not its own to give up"
        first.let_go()
        assert second.hold()

    def test_passes_on_when_its_holder_dies(self, job: Job) -> None:
        assert Duty(job.ledger, "n1", ttl_s=0.3).hold()
        second = Duty(job.ledger, "n2", ttl_s=0.3)
        began_s = time.monotonic()

        until(second.hold, timeout_s=10)

        assert time.monotonic() - began_s > 0.1


class TestRate:
    def test_is_of_the_last_seconds(self) -> None:
        rate = Rate(window_s=10)

        assert rate.update(0, 0, 0) == (0, 0)
        assert rate.update(5, 50, 500) == (10, 100)
        for at_s in range(6, 40):
            items_per_s, bytes_per_s = rate.update(at_s, 50, 500)
        assert (items_per_s, bytes_per_s) == (0, 0)

    def test_is_steady_where_totals_grow_seldom(self) -> None:
        rate = Rate(window_s=10)
        batch_s, batch_bytes = 26, 256 << 20
        seen = [
            rate.update(at_s / 2, at_s // 2 // batch_s * 512, at_s // 2 // batch_s * batch_bytes)
            for at_s in range(2 * 300)
        ]

        for items_per_s, bytes_per_s in seen[2 * batch_s :]:
            assert items_per_s == pytest.approx(512 / batch_s)
            assert bytes_per_s == pytest.approx(batch_bytes / batch_s)

    def test_is_not_of_a_step_that_was_half_done_when_watching_began(self) -> None:
        rate = Rate()
        rate.update(0, 5120, 5 << 30)

        assert rate.update(1, 5632, 6 << 30) == (0, 0)
        assert rate.update(27, 6144, 7 << 30)[0] == pytest.approx(512 / 26)

    def test_forgets_how_long_it_stood_still(self) -> None:
        rate = Rate(window_s=10)
        for at_s in range(20):
            rate.update(at_s, at_s, at_s)

        assert rate.update(3600, 20, 20) == (0, 0)
        assert rate.update(3601, 21, 21) == pytest.approx((1, 1))

    def test_is_never_negative(self) -> None:
        rate = Rate()
        rate.update(0, 100, 100)

        assert rate.update(1, 5, 5) == (0, 0)
        assert rate.update(1, 5, 5) == (0, 0)


def test_presence_is_of_one_job(tmp_path: Path, redis_url: str) -> None:
    one, two = job_over(tmp_path), job_over(tmp_path)
    one.presence.announce("n1", {"host": "h"})
    one.presence.pause("down", "n1")

    assert Presence(two.ledger).nodes() == []
    assert two.presence.pause_reason() == ""
