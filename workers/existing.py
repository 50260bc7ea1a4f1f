"""What is already there under a batch's keys, found with one listing a batch and never one question an item."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ingest.stores.base import ObjectInfo
from ingest.workers.patience import PatientStore

PAGE = 1000  # what an S3 server lists at once


def found_by_listing(store: PatientStore, keys: Sequence[str]) -> dict[str, ObjectInfo]:
    """Those of ``keys`` that exist, by listing.

    The listing leaps: after each page it goes on just before the next key that is wanted, so a batch whose
    keys lie far apart among many others costs about a page a key, and neighbours cost one in all.
    """
    wanted = sorted(set(keys), key=str.encode)
    prefix = _common_folder(wanted)
    found: dict[str, ObjectInfo] = {}
    place = 0
    reached: str | None = None
    while place < len(wanted):
        after = _later(_just_before(wanted[place]), reached)
        page = store.first_listed(prefix, after, PAGE)
        names = {info.key: info for info in page}
        reached = page[-1].key if len(page) == PAGE else None
        end = reached.encode() if reached is not None else None
        while place < len(wanted) and (end is None or wanted[place].encode() <= end):
            if wanted[place] in names:
                found[wanted[place]] = names[wanted[place]]
            place += 1
    return found


def _later(one: str | None, other: str | None) -> str | None:
    """The later of two places in a listing; None is its begin."""
    return max(one or "", other or "", key=str.encode) or None


def _common_folder(keys: Sequence[str]) -> str:
    """The folder that all keys lie in, with its slash, or ""."""
    common = os.path.commonprefix([keys[0], keys[-1]]) if keys else ""  # noqa: RUF071 - by character is meant
    return common[: common.rfind("/") + 1]


def _just_before(key: str) -> str | None:
    """A name that sorts before ``key`` with little between them: its last character is lowered, or cut."""
    head, last = key[:-1], key[-1]
    return head + chr(ord(last) - 1) if "1" <= last <= "~" else head.rstrip("./") or None
