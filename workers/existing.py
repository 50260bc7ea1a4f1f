"""What is already there under a batch's keys, found with one listing a batch and never one question an item."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.stores.base import ObjectInfo
from ingest.stores.leaping import common_folder, just_before
from ingest.workers.patience import PatientStore

PAGE = 1000  # what an S3 server lists at once


def found_by_listing(store: PatientStore, keys: Sequence[str]) -> dict[str, ObjectInfo]:
    """Those of ``keys`` that exist, by listing.

    The listing leaps: after each page it goes on just before the next key that is wanted, so a batch whose
    keys lie far apart among many others costs about a page a key, and neighbours cost one in all.
    """
    wanted = sorted(set(keys), key=str.encode)
    prefix = common_folder(wanted)
    found: dict[str, ObjectInfo] = {}
    place = 0
    reached: str | None = None
    while place < len(wanted):
        after = max(just_before(wanted[place]), reached or "", key=str.encode)
        page = store.first_listed(prefix, after or None, PAGE)
        names = {info.key: info for info in page}
        reached = page[-1].key if len(page) == PAGE else None
        end = reached.encode() if reached is not None else None
        while place < len(wanted) and (end is None or wanted[place].encode() <= end):
            if wanted[place] in names:
                found[wanted[place]] = names[wanted[place]]
            place += 1
    return found
