from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest import manifest
from ingest.errors import ObjectMissing, StoreUnreachable
from ingest.manifest import (
    ManifestDamaged,
    Row,
    checksum_line,
    decode_part,
    encode_part,
    folder,
    part_key,
    read_manifest,
    stored_objects,
    write_part,
)
from ingest.manifest_reading import Manifest
from ingest.stores.base import ObjectMeta, Stored
from ingest.stores.local import LocalStore
from ingest.stores.wrapping import WrappedStore
from tests.stores.helpers import put
from tests.workers.making import local_store

JOB = "j1"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return local_store(tmp_path / "stored")


def row(number: int, **changes: Any) -> Row:
    content = str(number).encode()
    facts: dict[str, Any] = {
        "item": f"item {number}",
        "source": f"/data/{number}",
        "size_bytes": len(content),
        "mtime": 1_700_000_000_123_456_789,
        "key": f"k{number:05}",
        "stored_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "etag": None,
        "content_type": "text/plain",
        "status": "stored",
        "node": f"n{number % 3}",
        "attempt": 1,
        "time": 1_700_000_000,
        "metadata": {"blank": "missing section"} if number % 2 else {},
    }
    return Row(**facts | changes)


def parts(store: LocalStore, batches: Mapping[int, Sequence[Row]]) -> None:
    for batch, rows in batches.items():
        write_part(store, JOB, batch, "t", rows)


def complete(store: Any, batches: int, tmp_path: Path, **summary: Any) -> None:
    committed = manifest.Committed(JOB, batches, dict.fromkeys(range(batches), "t").items)
    manifest.complete(store, committed, summary, tmp_path, manifest.Steps())


def keys(store: LocalStore, tmp_path: Path) -> list[str]:
    return [found["key"] for found in read_manifest(store, JOB, tmp_path)]


def left(store: LocalStore) -> list[str]:
    return [info.key.removeprefix(folder(JOB)) for info in store.list(folder(JOB))]


class TestParts:
    def test_come_back_as_they_were(self) -> None:
        rows = [row(1), row(2, size_bytes=None, mtime=None, source="caf\udce9")]

        table = decode_part(encode_part(0, rows), "p")

        assert table["key"].to_pylist() == ["k00001", "k00002"]
        assert table["source"].to_pylist() == ["/data/1", "caf\\udce9"]
        assert table["metadata"].to_pylist() == [[("blank", "missing section")], []]
        assert table["mtime"].cast(pa.int64()).to_pylist() == [1_700_000_000_123_456_789, None]
        assert decode_part(encode_part(0, []), "p").num_rows == 0

    @pytest.mark.parametrize("year", [-370, 476, 8029], ids=["1600", "2446, the last of ext4", "9999"])
    def test_have_no_time_where_it_cannot_be_written(self, year: int) -> None:
        time_ns = year * 31_556_952 * 10**9

        table = decode_part(encode_part(0, [row(1, mtime=time_ns), row(2)]), "p")

        assert table["mtime"].cast(pa.int64()).to_pylist() == [None, 1_700_000_000_123_456_789]

    def test_may_hold_facts_that_are_no_text(self) -> None:
        table = decode_part(encode_part(0, [row(1, metadata={"blank": "no file caf\udce9"})]), "p")

        assert table["metadata"].to_pylist() == [[("blank", "no file caf\\udce9")]]

    @given(st.data())
    def test_that_are_damaged_are_found(self, data: st.DataObject) -> None:
        body = encode_part(0, [row(1), row(2)])
        if data.draw(st.booleans()):
            damaged = body[: data.draw(st.integers(0, len(body) - 1))]
        else:
            at = data.draw(st.integers(0, len(body) - 1))
            damaged = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]

        with pytest.raises(ManifestDamaged, match="part-7"):
            decode_part(damaged, "part-7")


class TestComplete:
    def test_makes_one_of_all_parts_and_deletes_them(self, store: LocalStore, tmp_path: Path) -> None:
        parts(store, {n: [row(3 * n + i) for i in range(n % 4)] for n in range(150)})

        complete(store, 150, tmp_path, state="complete")

        expected = [f"k{3 * n + i:05}" for n in range(150) for i in range(n % 4)]
        assert keys(store, tmp_path) == expected
        assert left(store) == ["job.json", "manifest-sha256.txt", "manifest.parquet"]
        assert json.loads(store.read_bytes(f"{folder(JOB)}job.json")) == {"state": "complete"}
        first = next(iter(read_manifest(store, JOB, tmp_path)))
        assert first["mtime"] == 1_700_000_000_123_456_789
        assert [*tmp_path.glob("manifest-*")] == [], "scratch is cleaned up"

    def test_passes_over_what_others_put_beside_the_parts(self, store: LocalStore, tmp_path: Path) -> None:
        parts(store, {0: [row(0)]})
        for name in (".DS_Store", "0000000000-t.arrow.zst.bak", "notes.txt"):
            put(store, f"{folder(JOB)}parts/{name}")

        complete(store, 1, tmp_path)

        assert keys(store, tmp_path) == ["k00000"]
        assert [name for name in left(store) if name.startswith("parts/")] == [
            "parts/.DS_Store",
            "parts/0000000000-t.arrow.zst.bak",
            "parts/notes.txt",
        ]

    def test_of_an_empty_job(self, store: LocalStore, tmp_path: Path) -> None:
        complete(store, 0, tmp_path)

        assert keys(store, tmp_path) == []
        assert store.read_bytes(f"{folder(JOB)}manifest-sha256.txt") == b""

    def test_may_be_repeated(self, store: LocalStore, tmp_path: Path) -> None:
        parts(store, {0: [row(0)], 1: [row(1)]})
        complete(store, 2, tmp_path)

        complete(store, 2, tmp_path)

        assert keys(store, tmp_path) == ["k00000", "k00001"]

    @pytest.mark.parametrize("puts", [0, 1, 2])
    def test_that_was_cut_off_anywhere_is_gone_on_with(
        self, store: LocalStore, tmp_path: Path, puts: int
    ) -> None:
        class CutOff(WrappedStore):
            done = 0

            def _count(self) -> None:
                if self.done == puts:
                    raise StoreUnreachable("gone")
                self.done += 1

            def put(self, key: str, body: bytes, meta: ObjectMeta, *, if_absent: bool = False) -> Stored:
                self._count()
                return self._store.put(key, body, meta, if_absent=if_absent)

            def put_file(self, key: str, path: Path, meta: ObjectMeta, **named: Any) -> Stored:
                self._count()
                return self._store.put_file(key, path, meta, **named)

        parts(store, {0: [row(0)], 1: [row(1)]})
        with pytest.raises(StoreUnreachable):
            complete(CutOff(store), 2, tmp_path)

        complete(store, 2, tmp_path, state="complete")

        assert keys(store, tmp_path) == ["k00000", "k00001"]
        assert left(store) == ["job.json", "manifest-sha256.txt", "manifest.parquet"], "parts are left behind"

    def test_after_a_retry_adds_to_what_was_there(self, store: LocalStore, tmp_path: Path) -> None:
        parts(store, {0: [row(0)], 1: []})
        complete(store, 2, tmp_path, state="failed")
        parts(store, {2: [row(9)], 3: [row(8)]})

        complete(store, 4, tmp_path, state="complete")

        assert keys(store, tmp_path) == ["k00000", "k00009", "k00008"]
        sums = store.read_bytes(f"{folder(JOB)}manifest-sha256.txt").decode().splitlines()
        assert [line.split("  ")[1] for line in sums] == ["k00000", "k00009", "k00008"]
        assert left(store) == ["job.json", "manifest-sha256.txt", "manifest.parquet"]

    @pytest.mark.parametrize("damage", ["missing", "truncated", "garbled"])
    def test_with_a_damaged_part_deletes_nothing(
        self, store: LocalStore, tmp_path: Path, damage: str
    ) -> None:
        parts(store, {n: [row(n)] for n in range(5)})
        key = part_key(JOB, 3, "t")
        body = store.read_bytes(key)
        if damage == "missing":
            store.delete([key])
        else:
            put(store, key, body[:-40] if damage == "truncated" else body[:40] + b"x" + body[41:])
        before = left(store)

        with pytest.raises(ManifestDamaged, match="00000003"):
            complete(store, 5, tmp_path)

        assert left(store) == before

    def test_in_row_groups_keeps_all_rows(
        self, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(manifest, "ROWS_IN_GROUP", 10)
        parts(store, {n: [row(7 * n + i, node=f"node-{n}") for i in range(7)] for n in range(20)})

        complete(store, 20, tmp_path)

        found = [*read_manifest(store, JOB, tmp_path)]
        assert [(r["key"], r["node"]) for r in found] == [
            (f"k{7 * n + i:05}", f"node-{n}") for n in range(20) for i in range(7)
        ]
        path = tmp_path / "stored" / folder(JOB) / "manifest.parquet"
        assert pq.ParquetFile(path).metadata.num_row_groups > 5

    def test_of_many_small_parts_holds_few_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(manifest, "PACKED_AT_ONCE", 4)
        small = [decode_part(encode_part(n, [row(n, node=f"node-{n}")]), "it") for n in range(42)]

        [grouped] = manifest._grouped(iter(small), manifest.SCHEMA)

        assert grouped["key"].num_chunks == 42 // 4 + 42 % 4
        assert grouped.select(["key", "node"]).to_pylist() == [
            {"key": f"k{n:05}", "node": f"node-{n}"} for n in range(42)
        ]


class TestChecksums:
    NAMES = (
        "plain",
        "with space",
        " leading",
        "new\nline",
        "back\\slash",
        "\\",
        "both\\\nof them",
        "\\n",
        "car\rriage",
        "*star",
        "caf\u00e9/\u6d77",
        "tab\tbed",
        "-dash",
    )

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        """Files of these names, and their sums."""
        lines = []
        for name in self.NAMES:
            path = tmp_path / "copy" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
            lines.append(checksum_line(hashlib.sha256(name.encode()).hexdigest(), name))
        (tmp_path / "copy" / "sums").write_bytes("".join(lines).encode())
        yield tmp_path / "copy"

    def check(self, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sha256sum", "-c", "--strict", "sums"], cwd=folder, capture_output=True, text=True, check=False
        )

    def test_are_as_sha256sum_reads_them(self, folder: Path) -> None:
        done = self.check(folder)

        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("OK") == len(self.NAMES)

    def test_of_an_altered_file_differ(self, folder: Path) -> None:
        (folder / "new\nline").write_bytes(b"altered")

        done = self.check(folder)

        assert done.returncode == 1
        assert done.stdout.count("FAILED") == 1


def test_what_a_job_stored_is_known_from_its_manifest_and_its_parts(
    store: LocalStore, tmp_path: Path
) -> None:
    parts(store, {0: [row(0), row(1, status="skipped")]})
    complete(store, 1, tmp_path)
    parts(store, {1: [row(2), row(3, status="skipped")]})

    found = [*stored_objects(store, JOB, tmp_path)]
    assert found == [("k00000", row(0).sha256), ("k00002", row(2).sha256)]


def test_a_job_without_a_manifest_is_told(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="no manifest of job j1"):
        next(read_manifest(store, JOB, tmp_path))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("damage", ["truncated", "garbled"])
def test_a_manifest_that_is_damaged_is_told(
    store: LocalStore, tmp_path: Path, damage: str, share: float
) -> None:
    key = f"{folder(JOB)}manifest.parquet"
    parts(store, {0: [row(number) for number in range(500)]})
    complete(store, 1, tmp_path)
    body = store.read_bytes(key)
    at = int(len(body) * share)
    put(store, key, body[:at] if damage == "truncated" else body[:at] + bytes(40) + body[at + 40 :])

    for read in (read_manifest, stored_objects):
        with pytest.raises(ManifestDamaged, match=r"manifest\.parquet is truncated or garbled"):
            list(read(store, JOB, tmp_path))


def test_a_manifest_or_a_part_that_names_what_lies_outside_is_refused(
    store: LocalStore, tmp_path: Path
) -> None:
    inside, outside = row(0, key="a..b/..c"), row(1, key="a/../../outside")
    parts(store, {0: [inside]})
    complete(store, 1, tmp_path)
    assert [key for key, _ in stored_objects(store, JOB, tmp_path)] == [inside.key]

    parts(store, {1: [outside]})
    with pytest.raises(ManifestDamaged, match="not in the destination"):
        list(stored_objects(store, JOB, tmp_path))
    with pytest.raises(ManifestDamaged, match="not in the destination"):
        complete(store, 2, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["sha256"]),
        lambda table: table.select(["key"]),
        lambda table: table.replace_schema_metadata({b"ingest.batches": b"many"}),
    ],
)
def test_a_manifest_of_another_form_is_damaged(
    store: LocalStore, tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    parts(store, {0: [row(0)]})
    complete(store, 1, tmp_path)
    path = tmp_path / "stored" / folder(JOB) / "manifest.parquet"
    pq.write_table(change(pq.read_table(path)), path)

    with pytest.raises(ManifestDamaged):
        list(read_manifest(store, JOB, tmp_path, batches=1))


def test_a_part_of_another_form_is_damaged(store: LocalStore, tmp_path: Path) -> None:
    for body in (b"no zstd", zstandard.compress(b"no arrow")):
        put(store, part_key(JOB, 0, "t"), body + hashlib.sha256(body).digest())

        with pytest.raises(ManifestDamaged, match="is none"):
            list(stored_objects(store, JOB, tmp_path))


def test_a_bit_that_flips_in_what_says_where_the_rows_are_hides_none_of_them(
    store: LocalStore, tmp_path: Path
) -> None:
    """No checksum protects it: some made a manifest without rows, in which nothing was wrong."""
    key = f"{folder(JOB)}manifest.parquet"
    parts(store, {0: [row(number) for number in range(5)]})
    complete(store, 1, tmp_path)
    body, path = store.read_bytes(key), tmp_path / "manifest.parquet"
    told = 0
    for place in range(len(body) - 3300, len(body) - 2700):
        garbled = bytearray(body)
        garbled[place] ^= 1
        path.write_bytes(garbled)
        try:
            assert sum(len(table) for table in Manifest(path, JOB).tables()) == 5
        except ManifestDamaged:
            told += 1
    assert told
