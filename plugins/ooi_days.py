"""Days and names of OOI's raw-data server: which days a job is over, and what a file's name says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

HYDROPHONES = {
    "HYDBBA106": ("CE02SHBP", "LJ01D", "11-HYDBBA106"),
    "HYDBBA105": ("CE04OSBP", "LJ01C", "11-HYDBBA105"),
    "HYDBBA102": ("RS01SLBS", "LJ01A", "09-HYDBBA102"),
    "HYDBBA103": ("RS01SBPS", "PC01A", "08-HYDBBA103"),
    "HYDBBA302": ("RS03AXBS", "LJ03A", "09-HYDBBA302"),
    "HYDBBA303": ("RS03AXPS", "PC03A", "08-HYDBBA303"),
}
"""OOI's broadband hydrophones: the instrument without its port → site, node, and folder with the port."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(r"(.+)-(\d{4}-\d{2}-\d{2}T\d{2}[:_]\d{2}[:_]\d{2}(?:\.\d{1,9})?)Z?\.mseed", re.IGNORECASE)


class Name(NamedTuple):
    """What a file's name says: its channel, such as ``OO-HYEA2--YDH``, and when it begins, in UTC."""

    channel: str
    start: datetime


def read_name(name: str) -> Name | None:
    """What a name such as ``OO-HYEA2--YDH-2019-01-12T15:10:00.000000.mseed`` says; None where it has no time."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        # Fractions finer than a microsecond are cut.
        text = re.sub(r"(\.\d{6})\d+", r"\1", found[2].replace("_", ":"))
        return Name(found[1], datetime.fromisoformat(text).replace(tzinfo=UTC))
    except ValueError:
        return None


def first_moment(text: str) -> datetime:
    """The moment that ``start`` means: the begin of a day, or a time, which is UTC where it names no zone.

    Raises:
        ValueError: it is neither.
    """
    try:
        return _in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a day (2019-01-12) nor a time (2019-01-12T15:10:00Z)"
        ) from None


def end_moment(text: str) -> datetime:
    """The moment before which ``end`` means: the end of a day, or a time.

    Raises:
        ValueError: it is neither, or the last day that there is.
    """
    moment = first_moment(text)
    try:
        return moment + timedelta(days=1) if is_day(text) else moment
    except OverflowError:
        raise ValueError(f"{text!r} has no end that can be written") from None


def is_day(text: str) -> bool:
    """Whether it is a day, and no time."""
    return _DAY.fullmatch(text) is not None


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def days_between(start: datetime, end: datetime) -> Iterator[date]:
    """The UTC days of ``[start, end)``, in order."""
    last = end - timedelta(microseconds=1)
    for day in range(start.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(day)
