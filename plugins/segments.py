"""A recording cut on the absolute UTC grid, and across the files that follow one another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import ItemError, SourceUnreadable
from ingest.plugins.miniseed import SAME_RATE, SECOND_NS, Recording, Run, Version

_EXACT = 1e-4
"""Of a sample: what the rounding of times amounts to, and less than their own exactness."""

Neighbour = Callable[[], AbstractContextManager[Path]]

MOST_BETWEEN = 16
"""So many files beside the next one are looked at: of other channels, or such as end within the same segment."""


@dataclass(slots=True)
class Segment:
    """One cell of the grid, and what was recorded in it.

    Attributes:
        channel_id: ``NET.STA.LOC.CHA``.
        sample_rate_hz: from the headers.
        start_ns: when the cell begins, in nanoseconds since 1970 UTC; a multiple of its length.
        samples: how many whole samples the cell takes.
        pieces: what is there, each with the place of its first sample; in order, without overlaps. Samples lie a part
            of one after the moments of the grid; that part is the first piece's, and the others are placed beside it.
        overlap_samples: how many came twice; the first in time was taken.
        partial: why a part is missing that another file may have; empty where none is.
    """

    channel_id: str
    sample_rate_hz: float
    start_ns: int
    samples: int
    pieces: list[tuple[int, NDArray[Any]]] = field(default_factory=list)
    overlap_samples: int = 0
    partial: str = ""
    _phase: float = 0.0
    _exact_ns: int = 0

    @property
    def gap_fraction(self) -> float:
        """The share that is missing: 0 to 1."""
        return 1 - sum(len(piece) for _, piece in self.pieces) / self.samples

    @property
    def filled(self) -> int:
        """The place after the last sample that is there."""
        return self.pieces[-1][0] + len(self.pieces[-1][1]) if self.pieces else 0

    def place(self, begin: float, exact_ns: int) -> int:
        """The place of a piece that begins so many samples after the cell does, by a time that is so exact.

        A piece whose time fits is the continuation of the one before it, as in one file.
        """
        if not self.pieces:
            place = math.floor(begin + _EXACT)
            self._phase, self._exact_ns = begin - place, exact_ns
            return place
        slack = max(self._exact_ns, exact_ns) * self.sample_rate_hz / SECOND_NS
        self._exact_ns = exact_ns
        place = round(begin - self._phase)
        return self.filled if abs(begin - self._phase - self.filled) <= slack + _EXACT else place

    def add(self, place: int, samples: NDArray[Any]) -> None:
        """Put samples at a place at or after the latest; what is outside the cell or there already is cut off."""
        filled = self.filled
        twice = min(max(0, filled - place), len(samples)) if self.pieces else 0
        self.overlap_samples += twice
        skipped = max(twice, -place)
        place, samples = place + skipped, samples[skipped : max(skipped, self.samples - place)]
        if not len(samples):
            return
        if self.pieces and place == filled:
            begin, before = self.pieces.pop()
            place, samples = begin, np.concatenate((before, samples))
        self.pieces.append((place, samples))


class Sound:
    """The last files that were read whole without a fault, so that none is decoded once more for a neighbour."""

    def __init__(self) -> None:
        self._seen: deque[Version] = deque(maxlen=4)

    def note(self, recording: Recording) -> None:
        """This one was."""
        self._seen.append(recording.version)

    def check(self, recording: Recording) -> None:
        """See that it is sound.

        Raises:
            SourceUnreadable: a record is corrupt; the sentence says which.
        """
        if recording.version not in self._seen:
            recording.check()
            self.note(recording)


class Cutter:
    """Cuts one file into segments.

    A segment belongs to the first file that has a sample in it and no corrupt record anywhere, as such a one fails; it
    is filled up from the files that follow, and marked partial where these are not to be had. Only cells with data are
    visited, however long a gap is.

    Args:
        recording: the file.
        segment_ns: the length of a cell.
        previous, following: open the neighbouring files, where there are any.
        sound: what is known of the files before; it takes note of this one.
        beside: lists the files of its folder by name, where that is known: between two files of a channel may lie some
            of other channels, as where several hydrophones record into one folder; and a segment may have many files.
    """

    def __init__(
        self,
        recording: Recording,
        segment_ns: int,
        previous: Neighbour | None,
        following: Neighbour | None,
        sound: Sound,
        beside: Callable[[], Mapping[str, Neighbour]] | None = None,
        name: str = "",
    ) -> None:
        self._sound = sound
        self._beside = beside
        self._name = name
        self._recording = recording
        self._segment_ns = segment_ns
        self._previous = previous
        self._following = following
        self._open = ExitStack()
        self._next: Recording | str | None = None

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def empty_cells(self, channel_id: str) -> int:
        """How many cells between the first and the last of a channel hold nothing."""
        runs = self._recording.channels()[channel_id]
        cells = sum(1 for _ in self._cells(runs))
        return max(self._last_cell(run) for run in runs) - self._first_cell(runs[0]) + 1 - cells

    def segments(self) -> Iterator[Segment]:
        """The file's own segments, channel by channel, in the order of time.

        Raises:
            ItemError: a record of this file is corrupt, be it in a segment of the file before.
        """
        for runs in self._recording.channels().values():
            yield from self._channel(runs)
        self._sound.note(self._recording)

    def _channel(self, runs: list[Run]) -> Iterator[Segment]:
        last_cell = max(map(self._last_cell, runs))
        first_cell, oldest = self._first_cell(runs[0]), 0
        for cell in self._cells(runs):
            segment = self._empty(runs[0], cell)
            is_ours = cell != first_cell or self._is_ours(runs[0], segment)
            while self._last_cell(runs[oldest]) < cell:
                oldest += 1
            for run in runs[oldest:]:
                if self._first_cell(run) > cell:
                    break
                self._take(segment, self._recording, run)
            if is_ours and cell == last_cell:
                self._fill_up(segment)
            if is_ours and segment.pieces:
                yield segment

    def _empty(self, run: Run, cell: int) -> Segment:
        samples = math.floor(self._segment_ns * run.sample_rate_hz / SECOND_NS + _EXACT)
        if not samples:
            raise SourceUnreadable(
                f"a segment of {self._segment_ns / SECOND_NS:g} s holds no sample at {run.sample_rate_hz:g} Hz"
            )
        return Segment(run.channel_id, run.sample_rate_hz, cell * self._segment_ns, samples)

    def _first_cell(self, run: Run) -> int:
        return run.start_ns // self._segment_ns

    def _last_cell(self, run: Run) -> int:
        return (run.end_ns - round(SECOND_NS / run.sample_rate_hz)) // self._segment_ns

    def _cells(self, runs: list[Run]) -> Iterator[int]:
        """The numbers of the cells with data, in order."""
        done = self._first_cell(runs[0]) - 1
        for run in runs:
            last = self._last_cell(run)
            yield from range(max(done + 1, self._first_cell(run)), last + 1)
            done = max(done, last)

    def _take(self, segment: Segment, recording: Recording, run: Run) -> None:
        """Put what a run has of a segment into it."""
        ahead = (segment.start_ns - run.start_ns) * run.sample_rate_hz / SECOND_NS
        start = max(0, math.ceil(ahead - _EXACT))
        if start >= run.samples:
            return
        place = segment.place(start - ahead, run.exact_ns)
        stop = min(run.samples, start + segment.samples - place)
        if start < stop:
            segment.add(place, recording.read(run, start, stop))

    def _is_ours(self, run: Run, segment: Segment) -> bool:
        """Whether no sound file before this one has a sample in our first segment."""
        missing = (run.start_ns - segment.start_ns) * run.sample_rate_hz / SECOND_NS
        if missing < 1 - _EXACT:
            return True
        if self._previous is None:
            segment.partial = "its file begins within it, and none comes before"
            return True
        for before in (self._previous, *self._others(-1)):
            try:
                with before() as path:
                    recording = Recording(path)
                    if run.channel_id in recording.channels():
                        return not self._is_held(recording, run)
            except ItemError as error:
                why = f"its file begins within it, and the one before cannot be read: {error.what}"
                segment.partial = segment.partial or why  # one before that may have a sample in it, too
        segment.partial = segment.partial or "its file begins within it, and none of its channel comes before"
        return True

    def _others(self, step: int) -> Iterator[Neighbour]:
        """The files after the one that follows (1), or before the one before (-1), in the order of their listing."""
        files = self._beside() if self._beside is not None else {}
        names = list(files)
        if self._name in names:
            at = names.index(self._name)
            others = names[at + 2 :] if step > 0 else names[: max(0, at - 1)][::-1]
            yield from (files[name] for name in others[:MOST_BETWEEN])

    def _is_held(self, before: Recording, run: Run) -> bool:
        """Whether the file before has a sample in a run's first segment.

        Raises:
            ItemError: it has, but a record of it is corrupt.
        """
        cell = self._first_cell(run)
        runs = before.channels().get(run.channel_id, [])
        if not any(self._first_cell(one) <= cell <= self._last_cell(one) for one in runs):
            return False
        self._sound.check(before)
        return True

    def _fill_up(self, segment: Segment) -> None:
        """Take the end of our last segment from the files that follow, until one of them goes on after it."""
        if segment.filled >= segment.samples:
            return
        why = "its file ends within it, and none of its channel follows"
        for following in self._following_ones(segment.channel_id):
            if isinstance(following, str):
                self._mark(segment, f"its file ends within it, and {following}")
                why = ""
            elif self._goes_on(segment, following):
                return
            else:
                why = "its file and the one that follows end within it"
        if why:
            self._mark(segment, why)

    def _goes_on(self, segment: Segment, following: Recording) -> bool:
        """Put what a file has of a segment into it; whether it has all that follows, or cannot be gone on from."""
        cell = segment.start_ns // self._segment_ns
        runs = following.channels()[segment.channel_id]
        for run in runs:
            if self._first_cell(run) > cell:
                break
            if abs(run.sample_rate_hz / segment.sample_rate_hz - 1) >= SAME_RATE:
                self._mark(
                    segment, f"the file that follows has another sample rate: {run.sample_rate_hz:g} Hz"
                )
                return True
            try:
                self._take(segment, following, run)
            except ItemError as error:
                self._mark(segment, f"the file that follows cannot be read: {error.what}")
                break
        return max(map(self._last_cell, runs)) > cell or max(run.end_ns for run in runs) >= self._end_ns(
            segment
        )

    def _end_ns(self, segment: Segment) -> int:
        return segment.start_ns + self._segment_ns - round(SECOND_NS / segment.sample_rate_hz)

    def _mark(self, segment: Segment, why: str) -> None:
        segment.partial = f"{segment.partial}; {why}" if segment.partial else why

    def _following_ones(self, channel_id: str) -> Iterator[Recording | str]:
        """The next files of a channel, or why one is none. The one that follows is opened once."""
        if self._next is None:
            self._next = self._opened(self._following) if self._following is not None else "none follows"
        if isinstance(self._next, str) or channel_id in self._next.channels():
            yield self._next
        for other in self._others(1):
            found = self._opened(other)
            if isinstance(found, str) or channel_id in found.channels():
                yield found

    def _opened(self, neighbour: Neighbour) -> Recording | str:
        try:
            return Recording(self._open.enter_context(neighbour()))
        except ItemError as error:
            return f"the one that follows cannot be read: {error.what}"
