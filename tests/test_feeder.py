from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.errors import RedisUnreachable, SourceUnreadable
from ingest.job import Job
from ingest.ledger import Tally
from ingest.queue import queue_name
from tests.engine.jobs_by_hand import Listing, commit_all, fed_items, feeder_of, job_over

PATHS = [f"f{number:04}" for number in range(95)]
MakeJob = Callable[..., Job]


@pytest.fixture
def job(tmp_path: Path, redis_url: str) -> Job:
    """A job of batches of five items, of which three may wait."""
    return job_over(tmp_path, queue={"batch_items": 5, "max_batches": 3})


def names(job: Job) -> list[str]:
    return [item.path for item in fed_items(job)]


def feed_to_the_end(job: Job, feeder: object) -> list[str]:
    """Feed, commit what was fed, and so on; the items in the order in which they were fed."""
    seen: list[str] = []
    for _ in range(200):
        while feeder.step():  # type: ignore[attr-defined]
            pass
        seen += names(job)
        _, counts, _ = job.ledger.snapshot()
        if counts.enumerated:
            return seen
        commit_all(job)
    raise AssertionError("it does not end")


def test_it_runs_no_more_than_the_window_ahead(job: Job) -> None:
    feeder = feeder_of(job, Listing(PATHS))

    while feeder.step():
        pass

    _, counts, _ = job.ledger.snapshot()
    assert (counts.batches, counts.items_listed, counts.bytes_listed) == (3, 15, 150)
    assert not counts.enumerated
    assert job.queue.known() == {0, 1, 2}
    assert not feeder.step()

    # When one is committed, then there is room for one
    assert job.ledger.commit(1, Tally({"done": 5}))
    assert feeder.step()
    assert not feeder.step()
    _, counts, _ = job.ledger.snapshot()
    assert counts.batches == 4
    assert job.ledger.payload_items(1) is None, "what is committed is forgotten"


def test_it_keeps_the_order_and_feeds_all_once(job: Job) -> None:
    assert feed_to_the_end(job, feeder_of(job, Listing(PATHS))) == PATHS
    _, counts, _ = job.ledger.snapshot()
    assert (counts.items_listed, counts.batches) == (95, 19)


@pytest.mark.parametrize("template", ["{path}", "all/{name}"])
def test_another_takes_over_in_the_middle(tmp_path: Path, redis_url: str, template: str) -> None:
    job = job_over(
        tmp_path,
        queue={"batch_items": 5, "max_batches": 3},
        destination={"url": f"file://{tmp_path}/stored", "key": template},
    )
    first, second = feeder_of(job, Listing(PATHS)), feeder_of(job, Listing(PATHS))
    while first.step():
        pass
    seen = names(job)
    commit_all(job)

    # When another goes on, and the first wakes up in between
    while second.step():
        pass
    seen += names(job)
    first.step()
    commit_all(job)
    seen += feed_to_the_end(job, first)

    assert seen == PATHS


@pytest.mark.parametrize("template", ["{path}", "all/{name}"])
@pytest.mark.parametrize("last", [4, 7, 15, 30, 94])
def test_a_cursor_s_file_that_has_vanished_does_no_harm(
    tmp_path: Path, redis_url: str, template: str, last: int
) -> None:
    job = job_over(
        tmp_path,
        queue={"batch_items": 5, "max_batches": 3},
        destination={"url": f"file://{tmp_path}/stored", "key": template},
    )
    feeder = feeder_of(job, Listing(PATHS[: last + 1]))
    while feeder.step():
        pass
    seen = names(job)
    commit_all(job)
    left = [path for path in PATHS if path != seen[-1]]

    seen += feed_to_the_end(job, feeder_of(job, Listing(left)))

    assert seen == PATHS if last >= 15 else set(seen) <= set(PATHS)


def test_it_goes_back_where_redis_forgot(job: Job) -> None:
    client, key, queue = job.ledger.client, job.ledger.key(), queue_name(job.job_id)
    kept = {}
    feeder = feeder_of(job, Listing(PATHS))
    while feeder.step():
        pass
    seen = names(job)
    commit_all(job)
    parts = (key, job.ledger.key("payloads"), job.ledger.key("committed"), queue)
    for name in parts:
        kept[name] = client.dump(name)
    while feeder.step():
        pass
    forgotten = names(job)

    # When Redis comes back as it was before
    for name, dump in kept.items():
        client.delete(name)
        if dump:
            client.restore(name, 0, dump)

    # Then the same feeder feeds what was forgotten again, and each item once
    while feeder.step():
        pass
    assert names(job) == forgotten
    seen += names(job)
    commit_all(job)
    seen += feed_to_the_end(job, feeder)
    assert seen == PATHS


@pytest.mark.parametrize("at", ["f0000", "f0007", "f0021", "f0050", "f0094"])
def test_a_listing_that_breaks_is_begun_again_and_leaves_nothing_out(job: Job, at: str) -> None:
    listing = Listing(PATHS, {at: SourceUnreadable("a folder cannot be listed")})
    feeder = feeder_of(job, listing)
    seen: list[str] = []
    broke = 0

    for _ in range(60):
        try:
            while feeder.step():
                pass
        except SourceUnreadable:
            broke += 1
        seen += names(job)
        _, counts, _ = job.ledger.snapshot()
        if counts.enumerated:
            break
        commit_all(job)

    assert broke == 1
    assert seen == PATHS


def test_a_redis_that_is_away_for_a_moment_costs_no_item(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    feeder = feeder_of(job, Listing(PATHS))
    while feeder.step():
        pass
    seen = names(job)
    commit_all(job)
    feed = job.ledger.feed

    def away(*arguments: object, **named: object) -> int:
        monkeypatch.setattr(job.ledger, "feed", feed)
        raise RedisUnreachable("away")

    monkeypatch.setattr(job.ledger, "feed", away)
    with pytest.raises(RedisUnreachable):
        feeder.step()

    seen += feed_to_the_end(job, feeder)
    assert seen == PATHS


def test_an_item_whose_key_another_has_is_fed_flawed(tmp_path: Path, redis_url: str) -> None:
    job = job_over(
        tmp_path,
        queue={"batch_items": 2, "max_batches": 1},
        destination={"url": f"file://{tmp_path}/stored", "key": "{name}"},
    )
    paths = ["a/x", "a/y", "b/x", "b/z", "c/x", "c/y"]
    flaws = {}
    for _ in range(10):
        # Each batch by a feeder of its own, which has to find out about the earlier ones
        feeder_of(job, Listing(paths)).step()
        flaws.update({item.path: item.flaw for item in fed_items(job)})
        commit_all(job)

    assert [path for path, flaw in flaws.items() if not flaw] == ["a/x", "a/y", "b/z"]
    assert "'x'" in flaws["b/x"]
    assert "'y'" in flaws["c/y"]


def test_tiles_are_numbers_and_cost_no_payload(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "0.png").touch()
    job = job_over(
        tmp_path,
        ingest_job={
            "type": "tiles",
            "extent": {"x": [0, 70], "y": [0, 30], "z": [0, 3]},
            "tile_size": {"x": 10, "y": 10},
        },
        path_processor={
            "class": "z_stack",
            "params": {"root_dir": "source", "extension": "png", "base_filename": "<>"},
        },
        tile_processor={"class": "image"},
        queue={"batch_items": 10, "max_batches": 4},
    )
    assert job.context.grid is not None
    feeder = feeder_of(job, Listing([]))
    numbered = []
    for _ in range(10):
        while feeder.step():
            pass
        commit_all(job)

    _, counts, _ = job.ledger.snapshot()
    assert (counts.batches, counts.items_listed, counts.items_total) == (7, 63, 63)
    assert counts.enumerated
    assert job.ledger.client.exists(job.ledger.key("payloads")) == 0
    for batch in range(7):
        numbered += job.items(batch, job.ledger.payload_items(batch))
    assert numbered == [*job.context.grid.tiles()]
