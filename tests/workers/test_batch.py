from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import (
    BucketMissing,
    ClockWrong,
    DiskFull,
    KeyInvalid,
    ObjectExists,
    RedisUnreachable,
    SourceAway,
    Stopped,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from ingest.items import FileItem
from ingest.ledger import Kills, State
from ingest.presence import Orders
from ingest.processors import Source, Upload
from ingest.stores.base import ObjectMeta, Stored
from ingest.stores.source import Fingerprint, fingerprint
from ingest.stores.wrapping import WrappedStore
from ingest.workers import patience, sources, uploader
from ingest.workers.batch import Batch, do_batch
from ingest.workers.hands import Hands, Held, ProcessorTime
from ingest.workers.watch import Watch
from tests.workers.making import LARGE_BYTES, FaultyStore, Remembering, bench, local_store

PLUGIN = '''
import errno

from ingest.errors import SourceUnreadable
from ingest.processors import TileProcessor, Upload

class Twice(TileProcessor):
    """Two uploads an item, under keys that its fields tell apart; an item named bad breaks after the first."""

    def uploads(self, source):
        for part in ("a", "b"):
            yield Upload(source.path.read_bytes() + part.encode(), fields={"suffix": "." + part})
            if "bad" in source.item.name:
                raise ZeroDivisionError("a plugin's fault")

class Passing(Twice):
    """A source that breaks in the middle of an item, the first time."""

    tried = 0

    def uploads(self, source):
        first, second = super().uploads(source)
        yield first
        self.tried += 1
        if self.tried == 1:
            raise SourceUnreadable("input/output error")
        yield second

class Nothing(TileProcessor):
    def uploads(self, source):
        yield from ()

class Renamed(TileProcessor):
    def uploads(self, source):
        yield Upload(source.path, fields={"name": "same"})

class Odd(TileProcessor):
    """What no plugin should do, each in an item of its own."""

    def suffix(self, item):
        if item.name == "suffix":
            raise ZeroDivisionError("a plugin's fault")

    def uploads(self, source):
        if source.item.name == "metadata":
            yield Upload(b"x", metadata={"n": 1})
        elif source.item.name == "content type":
            yield Upload(b"x", content_type=5)
        elif source.item.name == "none of ours":
            yield b"x"
        elif source.item.name == "body":
            yield Upload("text")
        elif source.item.name == "converted":
            (source.path.parent.parent / "converted").write_bytes(b"of another size than it had")
            yield Upload(source.path.parent.parent / "converted")
        else:
            yield Upload(source.path)

class NoSpace(TileProcessor):
    """The disk for passing files is full."""

    def uploads(self, source):
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch/clip.mp3")

class Many(TileProcessor):
    """A hundred uploads an item, as bytes; ``alive`` counts those that are in memory."""

    alive = most = 0

    def uploads(self, source):
        for number in range(100):
            yield Upload(Body(1000), fields={"suffix": f".{number}"})

class Mixed(TileProcessor):
    def uploads(self, source):
        yield Upload(source.path, fields={"suffix": ".file"})
        yield Upload(bytes(900), fields={"suffix": ".bytes"})

class Body(bytes):
    def __init__(self, size_bytes):
        Many.alive += 1
        Many.most = max(Many.most, Many.alive)

    def __del__(self):
        Many.alive -= 1
'''


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    """A module of processors that the bench allows; its name is the test's own."""
    (tmp_path / "plugins").mkdir()
    name = f"plugin_{abs(hash(tmp_path))}"
    (tmp_path / "plugins" / f"{name}.py").write_text(PLUGIN)
    return name


class TestItems:
    def test_that_fail_fail_alone(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            good = [b.put(f"day/good-{n}", b"%d" % n) for n in range(20)]
            empty = b.put("empty", b"")
            large = b.put("large", bytes(LARGE_BYTES + 1))
            grew, shrank, gone = b.put("grew"), b.put("shrank"), b.put("gone")
            (b.root / "grew").write_bytes(b"content and more")
            (b.root / "shrank").write_bytes(b"con")
            (b.root / "gone").unlink()
            (b.root / "folder").mkdir()
            (b.root / "pipe").unlink(missing_ok=True)
            os.mkfifo(b.root / "pipe")
            odd = FileItem(os.fsdecode(b"caf\xe9"), 1)
            flawed = FileItem("twin", 4, flaw="another item has the key 'x' too")
            outside = FileItem("../state", 1)
            bad = [grew, shrank, gone, FileItem("folder", 1), FileItem("pipe", 0), odd, flawed, outside]
            items = (*good[:10], *bad, empty, large, *good[10:])

            result = do_batch(Batch(3, items, began_s=7), b.kit)

            assert {items[index].name: failure.error for index, failure in result.failures.items()} == {
                "grew": "SourceChanged",
                "shrank": "SourceChanged",
                "gone": "SourceMissing",
                "folder": "SourceUnreadable",
                "pipe": "SourceUnreadable",
                odd.name: "SourceMissing",
                "twin": "KeyConflict",
                "../state": "ItemError",
            }
            stored = [*good, empty, large]
            assert b.objects() == {item.path: (b.root / item.path).read_bytes() for item in stored}
            assert result.counters["done"] == 22
            assert result.counters["failed"] == 8
            assert result.counters["skipped"] == 0
            assert result.counters["objects"] == 22
            assert result.counters["bytes_done"] == sum(item.size_bytes or 0 for item in stored)
            assert result.counters["bytes_failed"] == sum(item.size_bytes or 0 for item in bad)
            assert [row.item for row in result.rows] == [item.path for item in stored[:10]] + [
                item.path for item in (empty, large, *good[10:])
            ]
            assert {row.status for row in result.rows} == {"stored"}
            assert {(f.node, f.time_s) for f in result.failures.values()} == {("n1", 7)}

    def test_a_large_file_that_grows_while_it_is_hashed_is_not_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def grown(path: Path, *arguments: Any) -> Fingerprint:
            with path.open("ab") as file:
                file.write(b"recorded meanwhile")
            return fingerprint(path, *arguments)

        monkeypatch.setattr(uploader, "fingerprint", grown)
        with bench(tmp_path) as b:
            large = b.put("large", bytes(LARGE_BYTES + 1))

            result = do_batch(Batch(3, (large,), began_s=7), b.kit)

            assert [failure.error for failure in result.failures.values()] == ["SourceChanged"]
            assert b.objects() == {}

    def test_how_far_a_large_file_is_can_be_seen_while_it_is_hashed_and_while_it_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with bench(tmp_path) as b:
            said: list[str] = []
            monkeypatch.setattr(b.kit.watch, "take", said.append)
            large = b.put("large", bytes(20 << 20))

            do_batch(Batch(3, (large,)), b.kit)

            hashing = [f"large: hashing, {percent} %" for percent in (*range(5, 100, 5), 99)]
            written = [f"large: {done} of 20 MiB" for done in (8, 16, 20)]
            assert [*dict.fromkeys(said)] == ["large", *hashing, *written, ""]

    def test_of_which_one_has_no_utf8_name_fail_alone(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            item = b.put(os.fsdecode(b"caf\xe9"))
            b.put("fine")

            result = do_batch(b.batch(), b.kit)

            (failure,) = result.failures.values()
            assert (failure.item.name, failure.error) == (item.name, "KeyInvalid")
            assert [*b.objects()] == ["fine"]

    def test_with_one_key_conflict_and_the_first_keeps_it(self, tmp_path: Path) -> None:
        with bench(tmp_path, key="{name}") as b:
            items = (b.put("a/same", b"first"), b.put("b/same", b"second"))

            result = do_batch(Batch(0, items), b.kit)

            assert [*result.failures] == [1]
            assert result.failures[1].error == "KeyConflict"
            assert b.objects() == {"same": b"first"}

    def test_may_have_several_uploads(self, tmp_path: Path, plugins: str) -> None:
        store = Remembering(local_store(tmp_path / "stored"))
        named: Any = {
            "store": store,
            "key": "{stem}{suffix}",
            "tile_processor": {"class": f"{plugins}.Twice"},
            "knows_writer": True,
        }
        with bench(tmp_path, **named) as b:
            items = (b.put("good", b"x"), b.put("bad", b"y"))

            result = do_batch(Batch(0, items), b.kit)

            assert result.failures[1].error == "ZeroDivisionError"
            assert "a plugin's fault" in result.failures[1].reason
            assert b.objects() == {"good.a": b"xa", "good.b": b"xb", "bad.a": b"ya"}
            assert (result.counters["done"], result.counters["objects"]) == (1, 2)
            assert [row.key for row in result.rows] == ["good.a", "good.b"]

            # When it is done again, then it counts the same
            b.kit.processors.tile.close()
        with bench(tmp_path, **named) as b:
            again = do_batch(Batch(0, items, attempt=2), b.kit)
            assert again.counters == result.counters

    @pytest.mark.parametrize("is_others", [False, True])
    def test_tried_once_more_do_not_conflict_with_themselves(
        self, tmp_path: Path, plugins: str, is_others: bool
    ) -> None:
        named: Any = {"key": "{stem}{suffix}", "tile_processor": {"class": f"{plugins}.Passing"}}
        with bench(tmp_path, on_existing="fail", **named) as b:
            b.put("x", b"x")
            if is_others:
                (b.stored / "x.b").write_bytes(b"xb")

            result = do_batch(b.batch(), b.kit)

            assert b.objects() == {"x.a": b"xa", "x.b": b"xb"}
            assert [f.reason.split(" exists")[0] for f in result.failures.values()] == ["'x.b'"] * is_others
            assert (result.counters["done"], result.counters["failed"]) == (1 - is_others, is_others)

    def test_of_a_faulty_plugin_fail_alone(self, tmp_path: Path, plugins: str) -> None:
        with bench(tmp_path, tile_processor={"class": f"{plugins}.Odd"}) as b:
            for name in ("body", "content type", "converted", "fine", "metadata", "none of ours", "suffix"):
                b.put(name)

            result = do_batch(b.batch(), b.kit)

            assert {f.item.name: f.error for f in result.failures.values()} == {
                "body": "TypeError",
                "content type": "TypeError",
                "metadata": "TypeError",
                "none of ours": "TypeError",
                "suffix": "ZeroDivisionError",
            }
            assert sorted(b.objects()) == ["converted", "fine"]

    def test_that_find_no_space_on_this_machine_fail_no_item(self, tmp_path: Path, plugins: str) -> None:
        with bench(tmp_path, tile_processor={"class": f"{plugins}.NoSpace"}) as b:
            b.put("x")

            with pytest.raises(DiskFull, match=r"/scratch/clip\.mp3: No space left"):
                do_batch(b.batch(), b.kit)

    def test_that_are_bytes_are_not_all_held_at_once(self, tmp_path: Path, plugins: str) -> None:
        named: Any = {"key": "{stem}{suffix}", "tile_processor": {"class": f"{plugins}.Many"}}
        with bench(tmp_path, bytes_in_flight=5000, threads=2, **named) as b:
            for name in "abc":
                b.put(name)

            result = do_batch(b.batch(), b.kit)

            assert (result.counters["done"], result.counters["objects"]) == (3, 300)
            many: Any = type(b.kit.processors.tile)
            assert many.most <= 5 + 1 + 2, (
                "what is allowed, one being made, and one that each thread just lets go"
            )

    def test_of_files_and_bytes_never_wait_for_each_other(self, tmp_path: Path, plugins: str) -> None:
        named: Any = {"key": "{stem}{suffix}", "tile_processor": {"class": f"{plugins}.Mixed"}}
        with bench(tmp_path, bytes_in_flight=1000, threads=3, **named) as b:
            for number in range(40):
                b.put(f"{number}", bytes(900))

            result = do_batch(b.batch(), b.kit)

            assert (result.counters["done"], result.counters["objects"]) == (40, 80)

    def test_with_a_key_that_the_store_cannot_hold_fail_alone(self, tmp_path: Path) -> None:
        class Narrow(WrappedStore):
            def check_key(self, key: str) -> None:
                if len(key) > 9:
                    raise KeyInvalid("its key is too long there")

        with bench(tmp_path, Narrow(local_store(tmp_path / "stored"))) as b:
            b.put("short")
            b.put("much too long")

            result = do_batch(b.batch(), b.kit)

            assert [f.error for f in result.failures.values()] == ["KeyInvalid"]
            assert [*b.objects()] == ["short"]

    def test_without_uploads_are_skipped(self, tmp_path: Path, plugins: str) -> None:
        with bench(tmp_path, tile_processor={"class": f"{plugins}.Nothing"}) as b:
            b.put("x")

            result = do_batch(b.batch(), b.kit)

            assert (result.counters["done"], result.counters["skipped"], result.rows) == (0, 1, [])


@pytest.mark.parametrize("size_bytes", [3, LARGE_BYTES + 3])
@pytest.mark.parametrize("listed", [True, False])
class TestExisting:
    """What is at the destination already, found by listing or only when the put is refused."""

    def test_equal_content_is_skipped(self, tmp_path: Path, size_bytes: int, listed: bool) -> None:
        with bench(tmp_path, list_existing=listed) as b:
            b.put("x", bytes(size_bytes))
            (b.stored / "x").write_bytes(bytes(size_bytes))

            result = do_batch(b.batch(), b.kit)

            assert (result.counters["skipped"], result.counters["done"]) == (1, 0)
            assert (result.counters["objects"], result.counters["bytes_stored"]) == (0, 0)
            assert result.counters["bytes_done"] == size_bytes
            assert [row.status for row in result.rows] == ["skipped"]

    @pytest.mark.parametrize("other_bytes", [-1, 0, 1])
    def test_other_content_is_a_conflict(
        self, tmp_path: Path, size_bytes: int, listed: bool, other_bytes: int
    ) -> None:
        with bench(tmp_path, list_existing=listed) as b:
            b.put("x", bytes(size_bytes))
            other = b"o" * (size_bytes + other_bytes)
            (b.stored / "x").write_bytes(other)

            result = do_batch(b.batch(), b.kit)

            assert result.failures[0].error == "KeyConflict"
            assert "overwrite" in result.failures[0].reason
            assert b.objects() == {"x": other}

    def test_is_overwritten_where_asked(self, tmp_path: Path, size_bytes: int, listed: bool) -> None:
        with bench(tmp_path, list_existing=listed, on_existing="overwrite") as b:
            b.put("x", bytes(size_bytes))
            (b.stored / "x").write_bytes(b"other")

            result = do_batch(b.batch(), b.kit)

            assert (result.counters["done"], result.counters["objects"]) == (1, 1)
            assert b.objects() == {"x": bytes(size_bytes)}

    def test_of_another_item_of_the_job_is_not_overwritten(
        self, tmp_path: Path, plugins: str, size_bytes: int, listed: bool
    ) -> None:
        """Their keys are made of what their processor found, and they are in different batches."""
        named: Any = {
            "key": "{name}",
            "tile_processor": {"class": f"{plugins}.Renamed"},
            "knows_writer": True,
        }
        store = Remembering(local_store(tmp_path / "stored"))
        with bench(tmp_path, store, on_existing="overwrite", list_existing=listed, **named) as b:
            first, second = b.put("a", b"1" * size_bytes), b.put("b", b"2" * size_bytes)
            assert do_batch(Batch(0, [first]), b.kit).failures == {}

            result = do_batch(Batch(1, [second]), b.kit)

            assert "another item of this job" in result.failures[0].reason
            assert b.objects() == {"same": b"1" * size_bytes}
            # but it may itself be done again, and what others stored is overwritten
            assert do_batch(Batch(0, [first], attempt=2), b.kit).counters["done"] == 1
            store.metas.clear()
            assert do_batch(Batch(1, [second]), b.kit).counters["done"] == 1
            assert b.objects() == {"same": b"2" * size_bytes}

    def test_that_vanishes_when_it_is_looked_at_is_tried_again(
        self, tmp_path: Path, size_bytes: int, listed: bool
    ) -> None:
        store = FaultyStore(local_store(tmp_path / "stored"), ObjectExists("it is being written"))
        with bench(tmp_path, store, list_existing=listed) as b:
            b.put("x", bytes(size_bytes))

            assert do_batch(b.batch(), b.kit).counters["done"] == 1
            store.faults = [ObjectExists("it is being written")] * 2
            (b.stored / "x").unlink()
            assert "vanished" in do_batch(b.batch(), b.kit).failures[0].reason

    @pytest.mark.parametrize("same", [True, False])
    def test_fails_where_asked(self, tmp_path: Path, size_bytes: int, listed: bool, same: bool) -> None:
        with bench(tmp_path, list_existing=listed, on_existing="fail") as b:
            b.put("x", bytes(size_bytes))
            there = bytes(size_bytes) if same else b"other"
            (b.stored / "x").write_bytes(there)

            result = do_batch(b.batch(), b.kit)

            assert result.failures[0].error == "KeyConflict"
            assert b.objects() == {"x": there}

    def test_that_this_batch_stored_before_counts_as_stored(
        self, tmp_path: Path, size_bytes: int, listed: bool
    ) -> None:
        store = Remembering(local_store(tmp_path / "stored"))
        with bench(tmp_path, store, list_existing=listed, on_existing="fail", knows_writer=True) as b:
            for number in range(5):
                b.put(f"x{number}", bytes(size_bytes))
            first = do_batch(b.batch(), b.kit)

            again = do_batch(b.batch(attempt=2), b.kit)

            assert again.counters == first.counters
            assert again.failures == {}
            assert {row.status for row in again.rows} == {"stored"}

    @pytest.mark.parametrize("was_empty", [True, False])
    @pytest.mark.parametrize("on_existing", ["skip", "fail"])
    def test_whose_writer_nobody_knows_is_never_taken_for_this_jobs(
        self, tmp_path: Path, size_bytes: int, listed: bool, was_empty: bool, on_existing: str
    ) -> None:
        """Two jobs that began on the same empty folder: cancelling one deletes what counts as stored by it."""
        with bench(tmp_path, list_existing=listed, on_existing=on_existing, was_empty=was_empty) as b:
            for number in range(5):
                b.put(f"x{number}", bytes(size_bytes))
            do_batch(b.batch(), b.kit)

            again = do_batch(b.batch(attempt=2), b.kit)

            assert again.failures == {}
            assert (again.counters["done"], again.counters["skipped"]) == (0, 5)
            assert {row.status for row in again.rows} == {"skipped"}


class TestStopped:
    @pytest.mark.parametrize("orders", [Orders(stopping="now"), Orders(State.CANCELLING)])
    def test_in_the_middle_leaves_nothing_counted(self, tmp_path: Path, orders: Orders) -> None:
        watch = Watch()

        class StopsAtTheThird(WrappedStore):
            puts = 0

            def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
                StopsAtTheThird.puts += 1
                if StopsAtTheThird.puts == 3:
                    watch.follow(orders)
                return self._store.put(key, body, meta, if_absent=if_absent)

        store = StopsAtTheThird(local_store(tmp_path / "stored"))
        with bench(tmp_path, store, watch=watch, threads=1) as b:
            for number in range(30):
                b.put(f"x{number:02}")

            with pytest.raises(Stopped):
                do_batch(b.batch(), b.kit)

            assert len(b.objects()) == 3

            # and done again it is as if nothing had happened
            watch.follow(Orders())
            with bench(tmp_path, was_empty=True) as again:
                result = do_batch(again.batch(attempt=2), again.kit)
            assert (result.counters["done"], result.counters["skipped"]) == (27, 3)

    def test_by_a_lost_redis_fails_no_item(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            b.put("x")

            def hold(index: int) -> None:
                raise RedisUnreachable("gone")

            with pytest.raises(RedisUnreachable):
                do_batch(b.batch(attempt=2), b.kit, hold)


class TestPoison:
    def test_on_a_first_attempt_nothing_is_held(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            b.put("x")
            held: list[int] = []

            do_batch(b.batch(), b.kit, held.append)

            assert held == []

    def test_later_items_are_done_one_by_one(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            for number in range(9):
                b.put(f"x{number}")
            stored_before: list[tuple[int, int]] = []

            do_batch(b.batch(attempt=2), b.kit, lambda index: stored_before.append((index, len(b.objects()))))

            assert stored_before == [(number, number) for number in range(9)], "one was begun too early"

    def test_that_killed_too_often_fails_untried(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            for number in range(4):
                b.put(f"x{number}")
            held: list[int] = []

            result = do_batch(b.batch(attempt=4, kills={1: Kills(2), 2: Kills(1)}), b.kit, held.append)

            assert [*result.failures] == [1]
            assert "died 3 times" in result.failures[1].reason
            assert held == [0, 2, 3]
            assert sorted(b.objects()) == ["x0", "x2", "x3"]

    def test_that_was_blamed_fails_with_what_was_said_of_it(self, tmp_path: Path) -> None:
        with bench(tmp_path) as b:
            b.put("x")

            result = do_batch(b.batch(attempt=2, kills={0: Kills(2, "it hangs")}), b.kit)

            assert result.failures[0].reason.startswith("it hangs")
            assert b.objects() == {}


class TestProcessorTime:
    """Only what the processors do counts, and of what they do all."""

    def test_is_noted_while_they_work_and_not_while_the_store_is_waited_for(self, tmp_path: Path) -> None:
        hands, process = Hands(), os.getpid()
        seen: dict[str, Held | None] = {}

        class Looking(WrappedStore):
            def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
                seen["store"] = hands.read(process)
                return super().put(key, body, meta, if_absent=if_absent)

        store = Looking(local_store(tmp_path / "stored"))
        with bench(tmp_path, store, threads=1) as b:
            b.put("x1")
            b.put("x2")
            tile, files = b.kit.processors.tile, b.kit.processors.path
            b.kit = replace(b.kit, processor_time=ProcessorTime(hands))
            uploads, opened = tile.uploads, files.open

            def slow_uploads(source: Source) -> Iterator[Upload]:
                time.sleep(0.05)
                seen[f"uploads {source.item.name}"] = hands.read(process)
                yield from uploads(source)

            def seen_open(path: str) -> AbstractContextManager[Path]:
                seen["open"] = hands.read(process)
                return opened(path)

            tile.uploads = slow_uploads  # type: ignore[method-assign]
            files.open = seen_open  # type: ignore[method-assign]
            do_batch(replace(b.batch(attempt=2), number=7), b.kit)

        assert seen["store"] is None
        for index in (0, 1):
            held = seen[f"uploads x{index + 1}"]
            assert held is not None
            assert (held.batch, held.index) == (7, index)
        assert seen["open"] is not None
        assert hands.read(process) is None

    def test_adds_up_over_the_calls_for_an_item(self) -> None:
        hands, process = Hands(), os.getpid()
        clock = ProcessorTime(hands)
        with clock.of(3, 1):
            time.sleep(0.05)
        with clock.of(3, 1):
            held = hands.read(process)
        assert held is not None
        assert held.spent_s >= 0.05
        with clock.of(3, 2):
            other = hands.read(process)
        assert other is not None
        assert other.spent_s == 0
        assert hands.read(process + 1) is None

    def test_stands_still_while_its_own_thread_waits(self) -> None:
        hands, process = Hands(), os.getpid()
        clock = ProcessorTime(hands)

        def wait() -> Held | None:
            with clock.paused(), clock.paused():
                time.sleep(0.05)
                return hands.read(process)

        began_s = time.monotonic()
        with clock.of(3, 1), ThreadPoolExecutor(1) as other:
            assert other.submit(wait).result() is not None
            assert wait() is None
            held = hands.read(process)
        assert held is not None
        taken_s = time.monotonic() - began_s
        assert 0.05 <= held.spent_s < taken_s - 0.04, "the other thread's wait is the item's"
        assert wait() is None
        assert hands.read(process) is None, "no call was under way"

    def test_begins_anew_with_each_attempt(self, tmp_path: Path) -> None:
        """What an attempt took that was given back is not its item's fault."""
        hands = Hands()
        seen: list[Held | None] = []
        with bench(tmp_path) as b:
            b.put("x")
            kit = replace(b.kit, processor_time=ProcessorTime(hands))
            opened = b.kit.processors.path.open

            def slow_open(path: str) -> AbstractContextManager[Path]:
                time.sleep(0.01)
                seen.append(hands.read(os.getpid()))
                return opened(path)

            b.kit.processors.path.open = slow_open  # type: ignore[method-assign]
            for _ in range(2):
                do_batch(b.batch(), kit)

        assert [held and held.spent_s for held in seen] == [0, 0]


class TestPatience:
    def test_a_wrong_clock_is_no_reason_for_others_to_wait(self, tmp_path: Path) -> None:
        store = FaultyStore(local_store(tmp_path / "stored"), StoreRefused("403"))
        with bench(tmp_path, store) as b:
            b.put("x")
            patient = b.kit.store
            patient._clock_trouble = lambda: "this machine's clock is 5 hours behind"

            with pytest.raises(ClockWrong, match="5 hours behind"):
                do_batch(b.batch(), b.kit)

            assert b.pauses == []

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
        monkeypatch.setattr(sources, "WAIT_S", 0.02)

    @pytest.mark.parametrize("fault", [StoreUnreachable("it is down"), StoreRefused("no, says the store")])
    @pytest.mark.parametrize("size_bytes", [3, LARGE_BYTES + 3])
    def test_a_store_that_is_away_is_waited_for(
        self, tmp_path: Path, fault: Exception, size_bytes: int
    ) -> None:
        store = FaultyStore(local_store(tmp_path / "stored"), *[fault] * 7)
        with bench(tmp_path, store, threads=2) as b:
            for number in range(4):
                b.put(f"x{number}", bytes(size_bytes))

            result = do_batch(b.batch(), b.kit)

            assert result.failures == {}
            assert result.counters["done"] == 4
            assert b.objects() == {f"x{number}": bytes(size_bytes) for number in range(4)}
            assert set(b.pauses) == {str(fault)}
            assert b.ends_of_pauses, "the others were never told to go on"

    @pytest.mark.parametrize("fault", [StoreRefused("no, says the store"), BucketMissing("no such folder")])
    def test_one_that_refuses_this_node_alone_stops_no_other_and_keeps_no_batch_from_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: StoreError
    ) -> None:
        monkeypatch.setattr(patience, "GIVE_BACK_AFTER_S", 0.05)
        store = FaultyStore(local_store(tmp_path / "stored"), *[fault] * 10_000)
        with bench(tmp_path, store) as b:
            b.put("x")

            with pytest.raises(type(fault)):
                do_batch(b.batch(), b.kit)

            assert b.pauses, "nobody was told"
            assert b.pauses_of_all == []

    def test_ends_when_the_job_is_cancelled(self, tmp_path: Path) -> None:
        watch = Watch()
        store = FaultyStore(local_store(tmp_path / "stored"), *[StoreUnreachable("it is down")] * 10_000)
        with bench(tmp_path, store, watch=watch) as b:
            b.put("x")
            b.pauses = _Cancelling(watch)

            with pytest.raises(Stopped):
                do_batch(b.batch(), b.kit)

            assert b.objects() == {}

    def test_a_pause_that_another_node_called_is_kept(self, tmp_path: Path) -> None:
        watch = Watch()
        watch.follow(Orders(pause="it is down"))
        with bench(tmp_path, watch=watch) as b:
            b.put("x")
            orders = iter([Orders(pause="it is down"), Orders()])

            def poll(seconds: float) -> None:
                assert b.objects() == {}
                watch.follow(next(orders))

            watch.sleep = poll  # type: ignore[method-assign]

            assert do_batch(b.batch(), b.kit).counters["done"] == 1

    @pytest.mark.parametrize("threads", [1, 8])
    def test_a_source_that_is_away_is_waited_for(self, tmp_path: Path, threads: int) -> None:
        """As when its drive drops out for a moment while some files are open already, and others not."""
        away = tmp_path / "away"

        class Unplugs(WrappedStore):
            puts = 0

            def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
                Unplugs.puts += 1
                if Unplugs.puts == 3:
                    (tmp_path / "source").rename(away)
                return self._store.put(key, body, meta, if_absent=if_absent)

        watch = Watch()
        sleep = watch.sleep

        def plug_in(seconds: float) -> None:
            sleep(seconds)
            if away.exists():
                away.rename(tmp_path / "source")

        watch.sleep = plug_in  # type: ignore[method-assign]
        with bench(tmp_path, Unplugs(local_store(tmp_path / "stored")), watch=watch, threads=threads) as b:
            for number in range(40):
                b.put(f"x{number:02}")

            result = do_batch(b.batch(), b.kit)

            assert {f.item.name: f.reason for f in result.failures.values()} == {}
            assert len(b.objects()) == 40
            assert result.counters["done"] == 40

    @pytest.mark.parametrize("trouble", [OSError("the drive is gone"), ZeroDivisionError("a fault")])
    def test_a_check_that_breaks_is_a_source_that_is_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
    ) -> None:
        with bench(tmp_path) as b:
            b.put("there")
            gone = FileItem("gone", 1)
            troubles = [trouble, trouble]

            def check(self: object) -> None:
                if troubles:
                    b.put("gone", b"1")
                    raise troubles.pop()

            monkeypatch.setattr(type(b.kit.processors.path), "check", check)

            result = do_batch(Batch(0, (gone, *b.batch().items)), b.kit)

            assert result.failures == {}
            assert troubles == []

    def test_one_that_is_away_from_this_node_alone_keeps_no_batch_from_the_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "GIVE_BACK_AFTER_S", 0.03)
        with bench(tmp_path) as b:
            b.put("x")
            batch = b.batch()
            b.root.rename(tmp_path / "elsewhere")

            with pytest.raises(SourceAway, match="there is no folder"):
                do_batch(batch, b.kit)

    def test_a_drive_that_is_not_mounted_is_waited_for(self, tmp_path: Path) -> None:
        """Its mount point is still there, and empty."""
        watch = Watch()
        with bench(tmp_path, watch=watch) as b:
            b.put("x")
            batch = b.batch()
            (b.root / "x").unlink()
            sleep = watch.sleep

            def mount(seconds: float) -> None:
                sleep(seconds)
                b.put("x")

            watch.sleep = mount  # type: ignore[method-assign]

            assert do_batch(batch, b.kit).counters["done"] == 1


class _Cancelling(list[str]):
    """Takes the first pause as the moment to cancel the job."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def append(self, reason: str) -> None:
        self._watch.follow(Orders(State.CANCELLING))
