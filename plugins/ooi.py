"""Hydrophones of the Ocean Observatories Initiative: the path processor ``ooi_hydrophone``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable
from ingest.items import FileItem
from ingest.plugins.http_index import WebFiles, WebParams, root_url
from ingest.plugins.ooi_days import (
    HYDROPHONES,
    Name,
    days_between,
    end_moment,
    first_moment,
    is_day,
    read_name,
)
from ingest.plugins.web_listing import Entry
from ingest.processors import JobContext, Params

ADDENDUM = "addendum"
_ONE_DAY = timedelta(days=1)
_MOST_DAYS = 4
_NEAR_MIDNIGHT = 20  # more files than are joined into one segment


class OoiParams(WebParams):
    """Parameters of ``ooi_hydrophone``."""

    site: str = Field(pattern=r"^[A-Z0-9]{8}$", description="The site, such as `CE02SHBP`.")
    node: str = Field(pattern=r"^[A-Z0-9]{5}$", description="The node, such as `LJ01D`.")
    instrument: str = Field(
        pattern=r"^([0-9]{2}-)?[A-Z]{5}[A-Z0-9][0-9]{3}$",
        description="The instrument, such as `11-HYDBBA106`. Its folder has been named with and without the "
        "port (`11-`): both are looked into, if it is given with its port or is one of the six broadband ones.",
    )
    start: str = Field(
        description="The first day (`2019-01-12`) or moment (`2019-01-12T15:10:00Z`) to take, in UTC."
    )
    end: str | None = Field(
        default=None,
        description="The last day, which is taken whole, or the moment before which a file must begin. Default: "
        "the end of the day that `start` names.",
    )
    absent_days: Literal["error", "leave_out"] = Field(
        default="error",
        description="What a day without a folder on the server means: `error` stops the listing, `leave_out` "
        "counts it.",
    )
    base_url: str = Field(
        default="https://rawdata.oceanobservatories.org/files/",
        description="The server's folder of sites.",
    )

    _root_url = field_validator("base_url")(root_url)

    @field_validator("start", "end")
    @classmethod
    def _is_moment(cls, text: str | None) -> str | None:
        if text is not None:
            first_moment(text)
        return text

    @model_validator(mode="after")
    def _has_moments(self) -> Self:
        if self.end is None and not is_day(self.start):
            raise ValueError("`start` is a moment: give `end` too")
        if self.moments[0] >= self.moments[1]:
            raise ValueError(f"`end` ({self.end}) does not come after `start` ({self.start})")
        return self

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """The range, half open."""
        return first_moment(self.start), end_moment(self.end or self.start)

    @property
    def folders(self) -> tuple[str, ...]:
        """The spellings of the instrument's folder, below the base, the one with the port first."""
        bare = self.instrument.rpartition("-")[2]
        known = HYDROPHONES.get(bare)
        ported = self.instrument if "-" in self.instrument else known[2] if known else bare
        return tuple(f"{self.site}/{self.node}/{name}" for name in dict.fromkeys((ported, bare)))


class _Found(NamedTuple):
    """A file of a day."""

    path: str
    name: Name
    entry: Entry


class OoiHydrophone(WebFiles[OoiParams]):
    """A hydrophone's MiniSEED files on OOI's raw-data server, by site, node, instrument and time.

    A file is taken if it begins, by the time in its name, at ``start`` or later and before ``end``. To have a moment
    in the middle of a file, begin five minutes earlier. A day's files come in the order of their paths; then
    those of its ``addendum`` folder, where late, reviewed data lies. A file that is in the addendum too, with the same
    channel and begin, is taken from there. What is left out is counted: ``replaced by addendum``, ``in both
    spellings of the folder``, ``no time in its name``, ``before start or after end``, ``not MiniSEED``, ``folder``,
    ``absent day``, ``empty day``.

    Errors: as ``http_index`` has them. A day that is on the server under neither spelling of the instrument's folder is
    SourceMissing. While the server is away, the job waits.
    """

    Params: ClassVar[type[Params]] = OoiParams
    _was_there = False

    def __init__(self, params: OoiParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._days_last: dict[date, list[_Found]] = {}

    def web(self) -> tuple[str, WebParams]:
        """The server's folder of sites is the root."""
        return self.params.base_url, self.params

    @cached_property
    def _days(self) -> list[date]:
        return list(days_between(*self.params.moments))

    def check(self) -> None:
        """Look whether the first and the last day are there; later, whether the server still answers."""
        self.check_files_job()
        try:
            if self._was_there:
                self._is_first_there()
            else:
                self._check_days()
        except ItemError as error:
            raise ConfigError(error.what, place="path_processor.params", hint=error.hint) from error
        self._was_there = True

    def _check_days(self) -> None:
        if self.params.absent_days == "leave_out":
            if next(self.paths(), None) is None:
                raise SourceUnreadable(
                    f"none of the {len(self._days)} days from {self._days[0]} has a file on {self.root}"
                )
            return
        for day in dict.fromkeys((self._days[0], self._days[-1])):
            if not self._files(day, counting=False):
                raise SourceUnreadable(
                    f"the directory page of {day} lists no MiniSEED file with a time in its name: "
                    f"{self.url(self._folders(day)[0])}/"
                )

    def _is_first_there(self) -> None:
        """See that the server answers; which days it has, the first check has seen."""
        try:
            self.is_there(self.params.site)
        except SourceMissing:
            return

    def _folders(self, day: date) -> list[str]:
        return [f"{folder}/{day:%Y/%m/%d}" for folder in self.params.folders]

    def paths(self, after: str | None = None) -> Iterator[FileItem]:
        """The files, a day held in memory at a time."""
        self.left_out.clear()
        start, end = self.params.moments
        reached = _day_of(after) if after is not None else None
        for day in self._days:
            if reached is not None and day < reached:
                continue
            files = self._files(day, counting=True)
            for found in files:
                if not start <= found.name.start < end:
                    self.left_out["before start or after end"] += 1
                elif after is None or self._rank(found.path) > self._rank(after):
                    yield FileItem(found.path, found.entry.size_bytes)

    def _files(self, day: date, *, counting: bool) -> list[_Found]:
        """A day's files, each once, in order.

        Raises:
            SourceMissing: the day is not on the server, under neither spelling.
        """
        counts = self.left_out if counting else Counter[str]()
        found: dict[Name, _Found] = {}
        missing: list[SourceMissing] = []
        folders = self._folders(day)
        for folder in folders:
            try:
                listed, has_addendum = self._listed(folder, counts)
            except SourceMissing as error:
                missing.append(error)
                continue
            late = self._listed(f"{folder}/{ADDENDUM}", counts)[0] if has_addendum else []
            for file in listed:
                if found.setdefault(file.name, file) is not file:
                    counts["in both spellings of the folder"] += 1
            for file in late:
                if file.name in found:
                    counts["replaced by addendum"] += 1
                found[file.name] = file
        if len(missing) == len(folders):
            self._miss(day, missing[0])
            counts["absent day"] += 1
        elif not found:
            counts["empty day"] += 1
        return sorted(found.values(), key=lambda file: self._rank(file.path))

    def _miss(self, day: date, error: SourceMissing) -> None:
        """A day that is not there is an error, unless such days are to be left out."""
        if self.params.absent_days == "leave_out":
            return
        tried = " and no ".join(self.url(folder) + "/" for folder in self._folders(day))
        known = ", ".join("/".join(place) for place in HYDROPHONES.values())
        raise SourceMissing(
            f"there is no data of {day}: the server has no {tried}",
            hint="look at the server in a browser; `absent_days: leave_out` passes over days without data. "
            f"The broadband hydrophones are {known}",
        ) from error

    def _listed(self, folder: str, counts: Counter[str]) -> tuple[list[_Found], bool]:
        """The files of a directory page, and whether it has an addendum."""
        listing = self.listing(folder)
        counts.update(listing.left_out)
        found = []
        for entry in listing.entries:
            name = read_name(entry.name)
            if entry.is_folder:
                counts["folder"] += entry.name != ADDENDUM
            elif name is not None:
                found.append(_Found(f"{folder}/{entry.name}", name, entry))
            elif entry.name.lower().endswith(".mseed"):
                counts["no time in its name"] += 1
            else:
                counts["not MiniSEED"] += 1
        has_addendum = any(entry.is_folder and entry.name == ADDENDUM for entry in listing.entries)
        return found, has_addendum

    def facts(self, path: str) -> Mapping[str, str]:
        """As of every file from the web, and ``instrument``, without its port: ``HYDBBA106``."""
        return {**super().facts(path), "instrument": self.params.folders[-1].rpartition("/")[2]}

    def _rank(self, path: str) -> tuple[date, int, bool, bytes]:
        """A path's place in the order: its day, its folder's spelling, the addendum last, then its name's bytes."""
        folder = "/".join(path.split("/")[:3])
        spelling = self.params.folders.index(folder) if folder in self.params.folders else 0
        name = path.rpartition("/")[2].encode(errors="surrogateescape")
        return _day_of(path), spelling, f"/{ADDENDUM}/" in path, name

    def neighbours(self, item: FileItem) -> tuple[FileItem | None, FileItem | None]:
        """The files of its channel before and after this one in time, also those that ``start`` and ``end`` leave out.

        They may lie in the addendum, under the other spelling of the folder, or in the next day's. So what is made of a
        file is the same, whatever range it is taken in.
        """
        day, name = _day_of(item.path), read_name(item.path.rpartition("/")[2])
        if name is None:
            return None, None
        before = [file for file in self._series(day, name.channel) if file.name.start < name.start]
        after = [file for file in self._series(day, name.channel) if file.name.start > name.start]
        before = before or self._series(day - _ONE_DAY, name.channel)
        after = after or self._series(day + _ONE_DAY, name.channel)
        return (
            FileItem(before[-1].path) if before else None,
            FileItem(after[0].path) if after else None,
        )

    def beside(self, item: FileItem) -> list[FileItem]:
        """The files of its channel of that day in time, itself too, also those that ``start`` and ``end`` leave out.

        Of one near midnight, those of the day beyond it too, as its last segment may have several files there.
        """
        day, name = _day_of(item.path), read_name(item.path.rpartition("/")[2])
        if name is None:
            return []
        files = self._series(day, name.channel)
        if sum(file.name.start < name.start for file in files) < _NEAR_MIDNIGHT:
            files = self._series(day - _ONE_DAY, name.channel) + files
        if sum(file.name.start > name.start for file in files) < _NEAR_MIDNIGHT:
            files = files + self._series(day + _ONE_DAY, name.channel)
        return [FileItem(file.path) for file in files]

    def _series(self, day: date, channel: str) -> list[_Found]:
        """A day's files of a channel in the order of time; none where the day is not on the server."""
        if day not in self._days_last:
            try:
                found = self._files(day, counting=False)
            except SourceMissing:
                found = []
            if len(self._days_last) >= _MOST_DAYS:
                del self._days_last[next(iter(self._days_last))]
            self._days_last[day] = sorted(found, key=lambda file: file.name.start)
        return [file for file in self._days_last[day] if file.name.channel == channel]


def _day_of(path: str) -> date:
    """The day in a path such as ``CE02SHBP/LJ01D/11-HYDBBA106/2019/01/12/addendum/x.mseed``.

    Raises:
        SourceUnreadable: there is none.
    """
    try:
        return date.fromisoformat("-".join(path.split("/")[3:6]))
    except ValueError:
        raise SourceUnreadable(f"{path!r} is no path of this source") from None
