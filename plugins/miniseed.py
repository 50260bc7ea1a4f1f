"""MiniSEED files as continuous runs of samples, which are decoded as they are asked for."""

from __future__ import annotations

import io
import itertools
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obspy.io.mseed.core import _read_mseed as read_mseed  # obspy.read asks each of its formats first

from ingest.errors import SourceMissing, SourceUnreadable
from ingest.plugins.miniseed_headers import Headers, Numbers, read_headers

SECOND_NS = 1_000_000_000
MOST_DRIFT_NS = 5_000_000
"""How far the times of a run's records may come to lie from those that its first one and its rate give."""
SAME_RATE = 1e-4  # libmseed's: rates that differ by a smaller share are one
_AHEAD_SAMPLES = 1 << 19
_LEAST_HZ, _MOST_HZ = 1e-6, 1e8
_FUTURE_S = 86_400.0  # a clock may be wrong by its time zone
_INTEGERS = {
    1: "16-bit integers",
    3: "32-bit integers",
    10: "STEIM1",
    11: "STEIM2",
    16: "CDSN",
    30: "SRO",
    32: "DWWSSN",
}
_OTHERS = {0: "text", 4: "32-bit floats", 5: "64-bit floats", 2: "24-bit integers", 19: "STEIM3"}
_ODD_HEADERS = "(?s).*(Number of blockettes in fixed header|word order)"

Samples = NDArray[Any]
Version = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of one channel without a gap.

    Attributes:
        channel_id: ``NET.STA.LOC.CHA``.
        sample_rate_hz: from the headers.
        start_ns: the time of the first sample, in nanoseconds since 1970 UTC.
        samples: how many there are.
        records: the numbers of its records within the file, in the order of time.
        firsts: the number of each record's first sample within the run.
        exact_ns: how exactly its times are known.
    """

    channel_id: str
    sample_rate_hz: float
    start_ns: int
    samples: int
    records: Numbers
    firsts: Numbers
    exact_ns: int

    @property
    def end_ns(self) -> int:
        """When the sample after the last one would be due."""
        return self.start_ns + round(self.samples * SECOND_NS / self.sample_rate_hz)


class Recording:
    """One open MiniSEED file.

    A record that begins within half a sample of the end of the one before it, or within what its time is
    exact to (0.1 ms without a blockette 1001), is its continuation; anything else is a gap or an overlap.

    Attributes:
        version: what tells it, as it is now, from all other files of this machine.
        runs: all runs, by channel and then by time.

    Raises:
        SourceMissing: there is no such file.
        SourceUnreadable: it is no MiniSEED that can be trusted; the sentence says why and where.
    """

    def __init__(self, path: Path) -> None:
        self._data, self.version = _mapped(path)
        self._headers = read_headers(self._data)
        self.runs = list(_runs(self._headers))
        self._ahead_samples = _AHEAD_SAMPLES
        self._decoded: tuple[int, int, Samples] | None = None
        self._decoded_of: Run | None = None

    def channels(self) -> dict[str, list[Run]]:
        """The runs of each channel."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.channel_id, []).append(run)
        return found

    def read(self, run: Run, start: int, stop: int) -> Samples:
        """The samples ``start`` to ``stop`` of a run, as integers; a view that is good until the next call.

        Short ones are decoded several at once, so that reading on costs little.

        Raises:
            SourceUnreadable: a record is corrupt; the sentence says which.
        """
        if self._decoded_of is not run or not self._holds(start, stop):
            first = int(np.searchsorted(run.firsts, start, side="right")) - 1
            self._decoded, self._decoded_of = None, None  # let go of the memory first
            samples = self._decode_ahead(run, first, start, stop)
            begin = int(run.firsts[first])
            self._decoded, self._decoded_of = (begin, begin + len(samples), samples), run
        assert self._decoded is not None
        begin, _, samples = self._decoded
        return samples[start - begin : stop - begin]

    def _holds(self, start: int, stop: int) -> bool:
        return self._decoded is not None and self._decoded[0] <= start and stop <= self._decoded[1]

    def check(self) -> None:
        """Decode all of it.

        Raises:
            SourceUnreadable: a record is corrupt; the sentence says which.
        """
        for run in self.runs:
            for start in range(0, run.samples, _AHEAD_SAMPLES):
                self.read(run, start, min(start + _AHEAD_SAMPLES, run.samples))

    def _decode_ahead(self, run: Run, first: int, start: int, stop: int) -> Samples:
        """A run's samples from its record ``first`` to ``stop`` at least; not ahead of a fault."""
        needed = int(np.searchsorted(run.firsts, stop, side="left"))
        at_once = self._ahead_samples // max(1, stop - start)
        last = int(np.searchsorted(run.firsts, start + at_once * (stop - start + 1), side="left"))
        if last > needed:
            try:
                return self._decode(run.records[first:last])
            except SourceUnreadable:
                self._ahead_samples = 0
        return self._decode(run.records[first:needed])

    def _decode(self, records: Numbers) -> Samples:
        expected = int(self._headers.samples[records].sum())
        try:
            return _decoded(self._bytes(records), expected)
        except SourceUnreadable:
            for record in records.tolist():
                self._check(record)
            raise

    def _check(self, record: int) -> None:
        """Decode one record by itself, to find the corrupt one."""
        try:
            _decoded(self._bytes(np.array([record])), int(self._headers.samples[record]))
        except SourceUnreadable as error:
            place = int(self._headers.offset[record])
            when = iso_time(int(self._headers.start_ns[record]))
            raise SourceUnreadable(f"the record at byte {place} ({when}) is corrupt: {error.what}") from None

    def _bytes(self, records: Numbers) -> bytes:
        """The bytes of these records, one after the other."""
        begin, length = self._headers.offset[records], self._headers.length[records]
        if (begin[1:] == begin[:-1] + length[:-1]).all():
            return self._data[int(begin[0]) : int(begin[-1] + length[-1])].tobytes()
        return b"".join(
            self._data[a : a + n].tobytes() for a, n in zip(begin.tolist(), length.tolist(), strict=True)
        )


def iso_time(time_ns: int) -> str:
    """``2019-01-12T15:10:00.000000Z``."""
    seconds, rest_ns = divmod(time_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


def _mapped(path: Path) -> tuple[NDArray[np.uint8], Version]:
    """A file's bytes, and its version."""
    try:
        found = path.stat()
        version = str(path), found.st_ino, found.st_size, found.st_mtime_ns
        return np.memmap(path, np.uint8, "r") if found.st_size else np.zeros(0, np.uint8), version
    except FileNotFoundError:
        raise SourceMissing(f"there is no file {str(path)!r}") from None
    except (OSError, ValueError) as error:
        raise SourceUnreadable(f"{str(path)!r} cannot be read: {error}") from None


def _decoded(raw: bytes, expected: int) -> Samples:
    """The samples of records of one channel, in the order of the bytes."""
    with _warnings_are_faults():
        stream = read_mseed(io.BytesIO(raw))
    parts = [trace.data for trace in stream]
    found = sum(map(len, parts))
    if found != expected:
        raise SourceUnreadable(f"it decodes to {found} samples; its header says {expected}")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@contextmanager
def _warnings_are_faults() -> Iterator[None]:
    """libmseed warns of a failed checksum, and goes on. Headers that are odd, but clear, are no fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", _ODD_HEADERS)
            yield
    except Warning as warning:
        raise SourceUnreadable(_one_line(warning)) from None
    except Exception as error:  # noqa: BLE001 - obspy raises many kinds, and none is anything but the data's fault
        raise SourceUnreadable(_one_line(error)) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _runs(headers: Headers) -> Iterator[Run]:
    """The runs of each channel. The pieces of a run may lie in the file in any order."""
    _check_sane(headers)
    for number in np.argsort(headers.channel_ids).tolist():
        of = np.flatnonzero((headers.channel == number) & (headers.samples > 0))
        if len(of):
            yield from _channel_runs(headers, of, headers.channel_ids[number])


def _check_sane(headers: Headers) -> None:
    """Refuse what no spectrum can be made of, or cannot be true."""
    full = headers.samples > 0
    if not full.any():
        raise SourceUnreadable("its records hold no samples")
    for encoding in np.unique(headers.encoding[full]).tolist():
        if encoding not in _INTEGERS:
            what = _OTHERS.get(encoding, "what nothing here can decode")
            raise SourceUnreadable(f"its samples are {what} (encoding {encoding}); expected integers")
    if not (headers.rate_hz[full] > 0).all():
        raise SourceUnreadable("its sample rate is 0")
    for rate_hz in (float(headers.rate_hz[full].min()), float(headers.rate_hz[full].max())):
        if not _LEAST_HZ <= rate_hz <= _MOST_HZ:
            raise SourceUnreadable(f"its sample rate is {rate_hz:g} Hz, which no recorder has")
    latest_ns = int(headers.start_ns[full].max())
    if latest_ns / SECOND_NS > time.time() + _FUTURE_S:
        raise SourceUnreadable(
            f"it is from the future ({iso_time(latest_ns)}); the recorder's clock was wrong"
        )


def _channel_runs(headers: Headers, of: Numbers, channel_id: str) -> Iterator[Run]:
    rates = headers.rate_hz[of]
    rate_hz = float(rates[0])
    changed = np.abs(rates / rate_hz - 1) >= SAME_RATE
    if changed.any():
        at = int(np.argmax(changed))
        raise SourceUnreadable(
            f"{channel_id} changes its sample rate from {rate_hz:g} to {rates[at]:g} Hz "
            f"at {iso_time(int(headers.start_ns[of[at]]))}"
        )
    breaks = _breaks(headers, of, rate_hz)
    chains = np.split(of, breaks)
    of = np.concatenate(
        [chains[i] for i in np.argsort([headers.start_ns[one[0]] for one in chains], kind="stable")]
    )
    start_ns, samples = headers.start_ns[of], headers.samples[of]
    bounds = [0, *_breaks(headers, of, rate_hz).tolist(), len(of)]
    for first, last in itertools.pairwise(bounds):
        begin = first
        while begin < last:
            firsts = np.concatenate(([0], np.cumsum(samples[begin:last])))
            drift_ns = start_ns[begin:last] - (start_ns[begin] + firsts[:-1] * (SECOND_NS / rate_hz))
            astray = np.abs(drift_ns) > MOST_DRIFT_NS
            count = int(np.argmax(astray)) if astray.any() else last - begin
            yield Run(
                channel_id,
                rate_hz,
                int(start_ns[begin]),
                int(firsts[count]),
                of[begin : begin + count],
                firsts[:count],
                int(headers.tick_ns[of[begin : begin + count]].max()),
            )
            begin += count


def _breaks(headers: Headers, of: Numbers, rate_hz: float) -> Numbers:
    """Before which of these records the one before it is not continued."""
    start_ns = headers.start_ns[of]
    due_ns = start_ns + np.round(headers.samples[of] * (SECOND_NS / rate_hz)).astype(np.int64)
    exact_ns = np.maximum(headers.tick_ns[of][1:], headers.tick_ns[of][:-1])
    strays = np.abs(start_ns[1:] - due_ns[:-1]) > np.maximum(exact_ns, 0.5 * SECOND_NS / rate_hz)
    return np.flatnonzero(strays) + 1
