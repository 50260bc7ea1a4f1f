"""Files on their way, in a folder of this process below the scratch folder; what a dead process left is removed."""

from __future__ import annotations

import re
import shutil
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.locked_folder import LockedFolder

PREFIX = "download-"
MOST_KEPT = 10
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")

Fetch = Callable[[str, Path], Mapping[str, str]]
"""Downloads what is named into a new file; what was found out about it."""


@dataclass(slots=True)
class _Kept:
    path: Path
    facts: Mapping[str, str]
    users: int = 0


class ScratchFiles:
    """Fetched files, each kept while it is used, and the last few for a while longer: neighbours are wanted twice.

    Where channels alternate, neighbours lie further apart: each file that is wanted again after it was removed lets one
    more be kept, up to ``MOST_KEPT``.

    Args:
        fetch: gets a file.
        keep: how many are kept that nobody uses.
    """

    def __init__(self, scratch_dir: Path, fetch: Fetch, keep: int = 2) -> None:
        self._scratch_dir = scratch_dir
        self._fetch = fetch
        self._keep = keep
        self._files: OrderedDict[str, _Kept] = OrderedDict()
        self._removed: deque[str] = deque(maxlen=2 * MOST_KEPT)
        self._folder: LockedFolder | None = None
        self._number = 0

    @contextmanager
    def open(self, name: str, file_name: str) -> Iterator[Path]:
        """The file that ``name`` stands for; its local name is ``file_name``, with only harmless characters."""
        kept = self._files.get(name) or self._fetched(name, file_name)
        self._files.move_to_end(name)
        kept.users += 1
        try:
            yield kept.path
        finally:
            kept.users -= 1
            self._files.move_to_end(name)
            self._forget(self._keep)

    def facts(self, name: str) -> Mapping[str, str]:
        """What was found out about a file that is open."""
        kept = self._files.get(name)
        return kept.facts if kept else {}

    def close(self) -> None:
        """Remove everything."""
        self._files.clear()
        if self._folder is not None:
            self._folder.remove()
        self._folder = None

    def _fetched(self, name: str, file_name: str) -> _Kept:
        if name in self._removed:
            self._removed.remove(name)
            self._keep += self._keep < MOST_KEPT
        self._forget(max(0, self._keep - 1))
        folder = self._own_folder() / str(self._number)
        self._number += 1
        folder.mkdir()
        path = folder / (_UNSAFE.sub("_", file_name)[-100:].lstrip(".-") or "file")
        try:
            facts = self._fetch(name, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self._files.setdefault(name, _Kept(path, facts))

    def _forget(self, keep: int) -> None:
        """Remove the files longest unused, but for so many."""
        unused = [name for name, kept in self._files.items() if not kept.users]
        for name in unused[: max(0, len(unused) - keep)]:
            shutil.rmtree(self._files.pop(name).path.parent, ignore_errors=True)
            self._removed.append(name)

    def _own_folder(self) -> Path:
        if self._folder is None:
            self._folder = LockedFolder(self._scratch_dir, PREFIX)
        return self._folder.path
