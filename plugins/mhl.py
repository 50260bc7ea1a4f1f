"""The finisher ``mhl``: an ASC Media Hash List beside what is stored, for camera people."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from pydantic import Field

from ingest.config import MARKERS_FOLDER, Destination
from ingest.digests import c4_id_of_file
from ingest.errors import ConfigError
from ingest.plugins.mhl_history import CHAIN, FOLDER, Generation, KnownHashes, chain_text, read_chain
from ingest.plugins.stored_folders import FolderTemplate, StoredFolders, StoredObject, check_folder
from ingest.processors import Addition, Finisher, Params, Results
from ingest.version import __version__

log = logging.getLogger(__name__)

IGNORED = ("ascmhl", "ascmhl/", ".ingest", ".ingest/")
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML 1.0 cannot hold, https://www.w3.org/TR/xml/#charsets."""


class MhlParams(Params):
    """Parameters of ``mhl``."""

    folder: FolderTemplate = Field(
        default="",
        description="The folder that gets a hash list: the begin of `destination.key`, up to a slash, such as "
        "`raw/{ingest_date}/{device}`. Each folder that the job's keys make of it gets one. Default: the destination "
        "itself.",
    )


class Mhl(Finisher[MhlParams]):
    """An ASC Media Hash List (ASC MHL v2) of what is stored: `ascmhl/0001_….mhl` and `ascmhl/ascmhl_chain.xml`.

    `ascmhl verify` accepts a downloaded copy. Hashes are C4 IDs (SHA-512), taken as each upload was read from its
    source; what other jobs and finishers stored in the folder is read back and hashed, unless an earlier generation
    lists it. A folder that has a history already, from an earlier job, gets a further generation. One that came with a
    history of its own, from the camera, is left as it is. Files whose names XML cannot hold are left out.
    """

    Params: ClassVar[type[Params]] = MhlParams
    knows_duplicates: ClassVar[bool] = True
    digests: ClassVar[tuple[str, ...]] = ("c4",)

    def check(self) -> None:
        """Refuse a job whose keys do not lie in the folder, and one whose folder others change.

        Raises:
            ConfigError: as it says.
        """
        folder, config = self.params.folder, self.context.config
        check_folder("mhl", folder, "", self.context)
        destination = Destination.model_validate(config["destination"])
        root = destination.prefix + (f"{folder}/" if folder else "")
        if destination.dedupe is not None and MARKERS_FOLDER.startswith(root):
            raise ConfigError(
                "mhl: the markers of destination.dedupe lie in the same folder, and change",
                place="finishers",
                hint="set the finisher's `folder` to one beside them, or give the destination a prefix",
            )
        if any(not folder or _is_bag_in(folder, finisher) for finisher in self._later()):
            raise ConfigError(
                "mhl: what later finishers store would not be in the hash list",
                place="finishers",
                hint="put mhl after them",
            )

    def _later(self) -> list[dict[str, Any]]:
        """The config's finishers that run after this one."""
        finishers = list(self.context.config["finishers"])
        ours = [number for number, finisher in enumerate(finishers) if finisher["class"] == "mhl"]
        return finishers[ours[-1] + 1 :] if ours else []

    def additions(self, results: Results) -> Iterator[Addition]:
        """Each folder's hash list, and then its chain, which names it."""
        with StoredFolders(results, self.params.folder, self.context.scratch_dir) as folders:
            for folder in folders:
                yield from self._history(folder, folders, results)

    def _history(self, folder: str, folders: StoredFolders, results: Results) -> Iterator[Addition]:
        if any(found.sha256 is not None for found in folders.objects(folder, FOLDER)):
            log.warning("%s%s came with the data, and stays as it is: no hash list is added", folder, FOLDER)
            return
        chain = [one for one in read_chain(folder, results) if self.context.job_id not in one.name]
        number = max((one.number for one in chain), default=0) + 1
        created = datetime.fromtimestamp(self.context.created_s, UTC)
        name = f"{number:04}_{self.context.job_id}_{created:%Y-%m-%d_%H%M%SZ}.mhl"
        path = folders.scratch / name
        with KnownHashes(folder, chain, results, folders.scratch) as known:
            if not self._write(path, folder, folders, known, results):
                log.warning("no hash list is made in %r: none of its content lies there", folder or "/")
                return
        yield Addition(f"{folder}{FOLDER}{name}", path, "application/xml")
        chain.append(Generation(number, name, c4_id_of_file(path)))
        yield Addition(folder + CHAIN, chain_text(chain), "application/xml")

    def _write(
        self, path: Path, folder: str, folders: StoredFolders, known: KnownHashes, results: Results
    ) -> int:
        """Write a hash list; how many files are in it."""
        count = 0
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(self._head())
            for found in folders.objects(folder):
                name = found.key.removeprefix(folder)
                is_older = found.sha256 is None and known.has(name)
                if "ascmhl" in name.split("/") or is_older:
                    continue
                if _NO_XML.search(name):
                    log.warning("%r is not in the hash list: XML cannot hold its name", found.key)
                    continue
                c4 = found.c4 or _read_back(found.key, results)
                file.write(_entry(name, found, c4, known.action(name, c4)))
                count += 1
            file.write("  </hashes>\n</hashlist>\n")
        return count

    def _head(self) -> str:
        created = datetime.fromtimestamp(self.context.created_s, UTC)
        patterns = "".join(f"      <pattern>{pattern}</pattern>\n" for pattern in IGNORED)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<hashlist version="2.0" xmlns="urn:ASC:MHL:v2.0">\n'
            f"  <creatorinfo>\n    <creationdate>{created.isoformat()}</creationdate>\n"
            f"    <hostname>{escape(platform.node())}</hostname>\n"
            f'    <tool version="{escape(__version__)}">Ingest</tool>\n'
            f"    <comment>Job {self.context.job_id}: {escape(self.context.job_name)}</comment>\n  </creatorinfo>\n"
            f"  <processinfo>\n    <process>transfer</process>\n    <ignore>\n{patterns}    </ignore>\n"
            "  </processinfo>\n  <hashes>\n"
        )


def _is_bag_in(folder: str, finisher: dict[str, Any]) -> bool:
    """Whether a finisher of the config makes a bag of this folder, or of one in it."""
    other = str(finisher["params"].get("folder", "")).strip("/")
    return finisher["class"] == "bagit" and f"{other}/".startswith(f"{folder}/")


def _read_back(key: str, results: Results) -> str:
    with results.open(key) as path:
        return c4_id_of_file(path)


def _entry(name: str, found: StoredObject, c4: str, action: str) -> str:
    changed = ""
    if found.mtime_ns is not None:
        when = datetime.fromtimestamp(found.mtime_ns // 1_000_000_000, UTC)
        changed = f' lastmodificationdate="{when.isoformat()}"'
    path = escape(name, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
    return (
        f'    <hash>\n      <path size="{found.size_bytes}"{changed}>{path}</path>\n'
        f'      <c4 action="{action}">{c4}</c4>\n    </hash>\n'
    )
