"""What a node needs of its machine, looked at before it begins: where it is missing, processes hang or die in turn."""

from __future__ import annotations

import resource

from billiard import get_context

from ingest.errors import ConfigError, LimitReached

FILES = 48
FILES_A_PROCESS = 8
"""Open files of a node, and for each of its processes: pipes, semaphores, connections, and what it sends."""


def require_files(processes: int) -> None:
    """Let a process of a node have as many files open as it needs, where the machine lets it.

    Raises:
        LimitReached: it does not.
    """
    needed = FILES + FILES_A_PROCESS * processes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        raise LimitReached(
            f"this machine lets a process open {hard} files, and a node of {processes} needs {needed}",
            hint="take fewer processes with -p, or raise the limit (`ulimit -n`; of a systemd unit, LimitNOFILE=)",
        ) from None


def require_shared_memory() -> None:
    """See that processes can share what tells them when it is whose turn.

    Raises:
        ConfigError: they cannot.
    """
    try:
        get_context().Lock()
    except OSError as error:
        raise ConfigError(
            f"the processes of a node can share no memory on this machine: {error.strerror}",
            hint="let /dev/shm be there, with room and the right to write",
        ) from error
