"""Every error that Ingest raises on purpose, and the exit code that each becomes.

::

    IngestError                    1  a fault of ours, where nothing below fits
    ├── ConfigError                2  the config, a setting or a command line is wrong
    │   └── PluginError            2  a processor does not exist, or may not be loaded
    ├── JobError                   2  the job is unknown, or not in a state for this
    │   ├── JobNotFound            2
    │   └── JobTooNew              2  made by a newer version of Ingest
    ├── RedisError                 5
    │   ├── RedisUnreachable       5  not there, or gone for too long
    │   ├── RedisRefused           5  wrong password, or no right to a command
    │   └── RedisFull              5  out of memory: writes are refused
    ├── StoreError                 6  the destination; stops the work, fails no item
    │   ├── StoreUnreachable       6  no answer, or an answer of 5xx
    │   ├── StoreRefused           6  the credentials are missing, wrong or not enough
    │   ├── BucketMissing          6  no such bucket or folder
    │   ├── StoreFull              6  no space left
    │   ├── ChecksumMismatch       6  what is stored differs from what was sent: sent again
    │   ├── ObjectMissing          6  no object under this key
    │   └── ObjectExists           6  a conditional write found one there
    ├── SourceAway                 2  a source out of reach for now: its items wait, the others go on
    │   └── SourceRefused          2  it is there and refuses: another host key, or no login
    ├── DiskFull                   2  no space left on this machine: its work waits, other nodes go on
    ├── LimitReached               2  this machine lets its user have no more processes, threads or open files
    ├── ProcessSpent               1  a process of a node has no file descriptors left: a new one takes its place
    ├── ItemError                  3  the item's own fault: a failed item, the others go on
    │   ├── SourceMissing          3
    │   ├── SourceChanged          3  it grew, shrank or was written while it was read
    │   ├── SourceUnreadable       3  corrupt, truncated, or not to be opened
    │   ├── KeyInvalid             3  no key can be made of it, or the key leaves the prefix
    │   └── KeyConflict            3  other content, or another item, has this key
    └── Stopped                  130  asked to stop; nothing is lost
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers where a disk, or somebody's share of it, is full."""
EXIT_CODES = {
    0: "done",
    1: "a fault of ours: please report it",
    2: "usage or config: the message says where and what to give",
    3: "finished with failed items (`ingest failures -j ID` lists them)",
    4: "the job was cancelled or has expired",
    5: "Redis is unreachable or refuses",
    6: "the destination is unreachable or refuses, or a manifest there is lost or damaged",
    130: "interrupted; nothing is lost, `ingest join -j ID` goes on",
}
"""The meaning of every exit code, for the help, the docs and the tests."""


class IngestError(Exception):
    """The root. ``str()`` is one clear sentence, and a hint of what to do where there is one."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what if hint is None else f"{what}\n  hint: {hint}")
        self.what = what
        self.hint = hint


class ConfigError(IngestError):
    """A config, setting or command line that cannot be used; ``place`` is its dotted path."""

    exit_code = 2

    def __init__(self, what: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(what if place is None else f"{place}: {what}", hint=hint)
        self.place = place


class PluginError(ConfigError):
    """A processor that does not exist, cannot be imported, or that this machine does not allow."""


class JobError(IngestError):
    """Something that the job's state does not permit."""

    exit_code = 2


class JobNotFound(JobError):
    """No job has this ID in this Redis."""


class JobTooNew(JobError):
    """The job was made by a newer version than the one that reads it."""


class RedisError(IngestError):
    """Redis did not do what was asked."""

    exit_code = 5


class RedisUnreachable(RedisError):
    """No connection to Redis, or none for longer than ``INGEST_REDIS_PATIENCE_S``."""


class RedisRefused(RedisError):
    """Redis is there but refuses: a wrong password, or an ACL."""


class RedisFull(RedisError):
    """Redis has reached ``maxmemory`` and takes no writes."""


class StoreError(IngestError):
    """The destination did not do what was asked. Never an item's fault."""

    exit_code = 6


class StoreUnreachable(StoreError):
    """No answer, a broken connection, or an answer that says "later" (408, 429, 5xx).

    Attributes:
        status: the answer's HTTP status, where there was one.
        retry_after_s: for how long the server asks to be left alone, where it says so.
    """

    status: int | None = None
    retry_after_s: float = 0.0


class StoreRefused(StoreError):
    """Credentials that are missing, wrong, expired, or not enough for this."""


class ClockWrong(StoreRefused):
    """This machine's clock is so far off that the destination refuses what it signs. Others may go on."""


class BucketMissing(StoreError):
    """The bucket, or the folder that a ``file://`` destination lies in, does not exist."""


MAY_BE_OURS = (StoreRefused, BucketMissing)
"""What may be this machine's trouble alone: its credentials, its user's rights, a folder that is not mounted here."""


class StoreFull(StoreError):
    """No space, or no quota, is left at the destination."""


class ChecksumMismatch(StoreError):
    """What the store says it holds is not what was sent. The upload may be repeated."""


class ObjectMissing(StoreError):
    """There is no object under this key."""


class ObjectExists(StoreError):
    """A put with ``if_absent`` found an object under its key and left it as it was."""


class SourceAway(IngestError):
    """A device that is out of reach for now. No item fails: its batches go back to the queue until it is back."""

    exit_code = 2


class SourceRefused(SourceAway):
    """A device that is there, but that cannot be trusted (its host key has changed), or that refuses the login.

    Attributes:
        name: the device's, where its host key told it.
    """

    name: str | None = None


class DiskFull(IngestError):
    """No space, or no quota, is left on a disk of this machine. No item fails: its batch goes back to the queue."""

    exit_code = 2

    @classmethod
    def of(cls, error: BaseException) -> DiskFull | None:
        """What it is where something of ours, which only reads sources, could not be written; None of another error."""
        if not isinstance(error, OSError) or error.errno not in NO_SPACE:
            return None
        where = f" for {error.filename}" if error.filename else ""
        return cls(
            f"no space is left on a disk of this machine{where}: {error.strerror}",
            hint="make room, or set INGEST_SCRATCH_DIR to a folder with room: passing files lie there",
        )


class LimitReached(IngestError):
    """This machine lets its user have no more processes, threads or open files. No item is to blame for it."""

    exit_code = 2

    @classmethod
    def of(cls, error: BaseException) -> LimitReached | None:
        """What it is where a process or a thread could not be started; None of another error."""
        no_process = isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN
        no_thread = isinstance(error, RuntimeError) and str(error) == "can't start new thread"
        if not no_process and not no_thread:
            return None
        return cls(
            "this machine lets its user have no more processes or threads",
            hint="end some, take fewer with -p, or raise the limit (`ulimit -u`; of a container, its limit of pids)",
        )


class ProcessSpent(IngestError):
    """A process can open nothing any more: something in it has leaked. No item, and no store, is to blame."""


class ItemError(IngestError):
    """The item's own fault. It becomes a failed item with this sentence as its reason."""

    exit_code = 3


class SourceMissing(ItemError):
    """The source is not there (any more)."""


class SourceChanged(ItemError):
    """The source changed between being listed and being stored, or while it was read."""


class SourceUnreadable(ItemError):
    """The source is corrupt, truncated, in an unknown format, or may not be read."""


class KeyInvalid(ItemError):
    """No valid key can be made for the item."""


class KeyConflict(ItemError):
    """The key already belongs to other content, or to another item of this job."""


class Stopped(IngestError):
    """The work was asked to stop. What was in hand is uncommitted and will be done again."""

    exit_code = 130


def source_trouble(error: ItemError) -> ConfigError:
    """What an item error means where no item has failed: the source as a whole cannot be listed."""
    return ConfigError(error.what, place="path_processor", hint=error.hint)


def did_you_mean(word: str, known: Iterable[str], *, begin: str = "") -> str | None:
    """A hint with the known words nearest to ``word``, or all of them where none is near and they are few.

    Args:
        begin: what all of them begin with, and which makes none of them more alike.
    """
    choices = sorted(name.removeprefix(begin) for name in known)
    near = _nearest(word.removeprefix(begin), choices)
    if near:
        return f"did you mean {' or '.join(repr(begin + name) for name in near)}?"
    return f"known are {', '.join(begin + name for name in choices)}" if 0 < len(choices) <= 20 else None


def _nearest(word: str, choices: list[str]) -> list[str]:
    """Those a slip or two away, and none that is much farther than the nearest; else those of which it is the begin."""
    near = difflib.get_close_matches(word, choices, n=3, cutoff=0.6)
    likeness = {name: difflib.SequenceMatcher(None, name, word).ratio() for name in near}
    return [name for name in near if likeness[name] > likeness[near[0]] - 0.15] or [
        name for name in choices if word and name.startswith(word)
    ][:3]
