"""The failed items of a job, of which there may be millions."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from itertools import groupby, islice
from typing import cast

from ingest.ledger.keys import JobKeys
from ingest.ledger.records import FailedItem
from ingest.redis_client import redis_errors

AT_ONCE = 1000
_INDEX_BITS = 32


class Failures:
    """A job's failed items, in order of their batches. Held while they are read is a number for each."""

    def __init__(self, job: JobKeys) -> None:
        self._job = job
        self._key = job.key("failures")

    def __iter__(self) -> Iterator[FailedItem]:
        """All of them, some read at once. Those of a job that is reopened meanwhile are left out from then on."""
        places = self._all_places()
        while some := list(islice(places, AT_ONCE)):
            with redis_errors(self._job.url):
                found = cast("list[bytes | None]", self._job.client.hmget(self._key, some))
            yield from (FailedItem.decode(text) for text in found if text is not None)

    def places(self, batches: Container[int]) -> list[str]:
        """``batch:index`` of those of these batches. When a job is reopened it has none any more."""
        return [place for place in self._all_places() if int(place.partition(":")[0]) in batches]

    def _all_places(self) -> Iterator[str]:
        places = array("Q")
        with redis_errors(self._job.url):
            for field, _ in self._job.client.hscan_iter(self._key, count=AT_ONCE):
                batch, _, index = cast("bytes", field).partition(b":")
                places.append(int(batch) << _INDEX_BITS | int(index))
        for place, _ in groupby(sorted(places)):  # a scan may find one twice
            yield f"{place >> _INDEX_BITS}:{place & (1 << _INDEX_BITS) - 1}"
