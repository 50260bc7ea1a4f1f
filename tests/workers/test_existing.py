from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.stores.base import ObjectInfo
from ingest.stores.wrapping import WrappedStore
from ingest.workers import existing
from ingest.workers.existing import found_by_listing
from ingest.workers.patience import PatientStore
from ingest.workers.watch import Watch
from tests.workers.making import local_store

SEGMENT = st.text(st.sampled_from("01a~.)é_"), min_size=1, max_size=3).filter(
    lambda text: text not in (".", "..") and not text.startswith(".ingest")
)
KEYS = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)


class Counting(WrappedStore):
    """Counts the listings, and gives up on one that does not come to its end."""

    listings = 0
    most = 200

    def first_listed(self, prefix: str, after: str | None, limit: int) -> list[ObjectInfo]:
        self.listings += 1
        assert self.listings <= self.most, "it lists for ever"
        return self._store.first_listed(prefix, after, limit)


def patient(store: Counting) -> PatientStore:
    return PatientStore(store, Watch(), lambda reason, for_all: None, lambda: None)


def made(root: Path, keys: set[str]) -> dict[str, int]:
    """Files for those of the keys that need no folder where another has a file; key → size."""
    root.mkdir()
    sizes: dict[str, int] = {}
    for key in sorted(keys, key=lambda key: (key.count("/"), key)):
        parts = key.split("/")
        if any("/".join(parts[:depth]) in sizes for depth in range(1, len(parts))):
            continue
        path = root / key
        if path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(len(sizes)))
        sizes[key] = len(sizes)
    return sizes


_numbers = iter(range(10**9))


@settings(max_examples=150)
@given(st.sets(KEYS, max_size=40), st.sets(KEYS, max_size=10), st.integers(1, 5), st.data())
def test_it_finds_what_is_there_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    there: set[str],
    others: set[str],
    page: int,
    data: st.DataObject,
) -> None:
    root = tmp_path_factory.getbasetemp() / f"existing-{next(_numbers)}"
    sizes = made(root, there)
    known = data.draw(st.sets(st.sampled_from(sorted(sizes)))) if sizes else set()
    wanted = [*others, *known]
    before, existing.PAGE = existing.PAGE, page
    try:
        found = found_by_listing(patient(Counting(local_store(root))), wanted)
    finally:
        existing.PAGE = before

    assert {key: info.size_bytes for key, info in found.items()} == {
        key: sizes[key] for key in wanted if key in sizes
    }


def test_neighbours_cost_one_listing_and_strangers_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing, "PAGE", 100)
    root = tmp_path / "stored"
    sizes = made(root, {f"{z}/{n:04}.png" for z in range(3) for n in range(500)})

    near = Counting(local_store(root))
    neighbours = [f"1/{n:04}.png" for n in range(200, 260)]
    assert len(found_by_listing(patient(near), neighbours)) == 60
    assert near.listings == 1

    far = Counting(local_store(root))
    strangers = ["0/0007.png", "1/0300.png", "2/0499.png", "2/none.png"]
    assert sorted(found_by_listing(patient(far), strangers)) == [key for key in strangers if key in sizes]
    assert far.listings <= len(strangers)
    assert found_by_listing(patient(far), []) == {}
