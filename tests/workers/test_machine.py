"""What a node needs of its machine: where it is missing, words say so, and no node is started."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from ingest.errors import ConfigError
from ingest.workers.machine import require_files, require_shared_memory

NODE_OF_EIGHT = [sys.executable, "-c", "from ingest.workers.machine import require_files; require_files(8)"]


def last_words(limits: tuple[int, int]) -> str:
    """What a node of eight processes says at its end where files are limited so."""
    done = subprocess.run(
        NODE_OF_EIGHT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stderr


def test_a_node_takes_the_open_files_that_it_needs_where_it_may() -> None:
    require_files(1)
    assert last_words((64, 256)) == ""


def test_a_node_that_may_not_open_enough_files_says_how_many_it_needs() -> None:
    said = last_words((64, 64))

    assert "LimitReached: this machine lets a process open 64 files, and a node of 8 needs 112" in said
    assert "ulimit -n" in said


def test_a_machine_whose_processes_can_share_no_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_shared_memory()

    def no_shm(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("billiard.synchronize._billiard.SemLock", no_shm)  # as where /dev/shm is not mounted
    with pytest.raises(ConfigError, match=r"share no memory.*No such file(.|\n)*/dev/shm"):
        require_shared_memory()
