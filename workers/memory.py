"""How much memory there is, the machine's or its container's, whichever is less; and how a process keeps its own."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
KEPT_BYTES = 128 << 20
_FROM_HEAP_BYTES = 32 << 20  # the most that glibc takes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def memory() -> tuple[int, int]:
    """The bytes of memory that there are, and how many of them are left."""
    machine = psutil.virtual_memory()
    container = container_memory(CGROUPS)
    if container is None or container[0] >= machine.total:
        return int(machine.total), int(machine.available)
    return container[0], min(container[1], int(machine.available))


def container_memory(folder: Path) -> tuple[int, int] | None:
    """The same of a container, by its control group; None where that sets no limit."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        taken_bytes = int((folder / "memory.current").read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    # What the kernel keeps of files that were read is given up as soon as memory is wanted.
    used_bytes = taken_bytes - int(facts.get("inactive_file", 0))
    return int(limit), max(0, int(limit) - used_bytes)


def keep_freed_memory() -> None:
    """Let this process keep up to ``KEPT_BYTES`` that it has freed, for what it needs next.

    A body of some MiB is otherwise given back to the system when it is stored, and the next one's pages are each
    fetched, and cleared, anew. See mallopt(3); where the C library is not glibc nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
