"""Downloaded files: how long they are kept, and what becomes of those of a process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ingest.locked_folder import remove_abandoned
from ingest.plugins.scratch import PREFIX, ScratchFiles

HOLDER = """
import sys, time
from pathlib import Path
from ingest.plugins.scratch import ScratchFiles
def fetch(name, path):
    path.write_text(name)
    return {}
with ScratchFiles(Path(sys.argv[1]), fetch).open("x", "x") as path:
    print(path, flush=True)
    time.sleep(60)
"""


def files(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in folder.glob("download-*/*/*"))


def test_the_last_few_are_kept_and_one_in_use_always(tmp_path: Path) -> None:
    fetched = []

    def fetch(name: str, path: Path) -> Mapping[str, str]:
        fetched.append(name)
        path.write_text(name)
        return {"name": name}

    scratch = ScratchFiles(tmp_path, fetch, keep=2)
    with scratch.open("a", "a"):
        for name in "bcdea":
            with scratch.open(name, name):
                assert scratch.facts(name) == {"name": name}
        assert files(tmp_path) == ["a", "d", "e"]
    assert files(tmp_path) == ["a", "e"]
    with scratch.open("b", "b"):
        pass
    assert fetched == ["a", "b", "c", "d", "e", "b"]
    scratch.close()
    assert list(tmp_path.glob("download-*")) == []


def test_one_that_cannot_be_fetched_leaves_nothing(tmp_path: Path) -> None:
    def fetch(name: str, path: Path) -> Mapping[str, str]:
        path.write_text("half")
        raise ZeroDivisionError

    scratch = ScratchFiles(tmp_path, fetch)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), scratch.open("a", "a"):
            pass
    assert files(tmp_path) == []
    scratch.close()


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            path = Path(process.stdout.readline().strip())
            remove_abandoned(tmp_path, PREFIX, young_s=0)
            assert path.read_text() == "x", "it is in use"
        finally:
            process.kill()
    remove_abandoned(tmp_path, PREFIX)
    assert path.exists(), "it is young: it may not be locked yet"
    os.utime(path.parent.parent, (0, 0))

    remove_abandoned(tmp_path, PREFIX)

    assert list(tmp_path.glob("download-*")) == []
