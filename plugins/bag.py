"""The finisher ``bagit``: what makes a bag of the stored folder, for archives."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from ingest.digests import hashed_body
from ingest.plugins.stored_folders import FolderTemplate, StoredFolders, check_folder
from ingest.processors import Addition, Finisher, Params, Results
from ingest.version import __version__

log = logging.getLogger(__name__)

PAYLOAD = "data/"
TEXT = "text/plain; charset=utf-8"
DUPLICATES = "duplicates.tsv"
_OURS = frozenset(("bagging-date", "bag-software-agent", "payload-oxum", "ingest-job"))


@dataclass(slots=True)
class _Payload:
    """What a bag holds. ``has_percent`` says whether a name of it has a percent sign."""

    files: int = 0
    size_bytes: int = 0
    has_percent: bool = False

    @property
    def version(self) -> str:
        """The version of BagIt whose rules for names the manifest follows.

        Version 1.0 wants a percent sign written as ``%25``, which bagit.py (as other programs: issue 46 of
        LibraryOfCongress/bagit-spec) does not read; 0.97 knows no such rule. Other names are written alike in both.
        """
        return "0.97" if self.has_percent else "1.0"


class BagItParams(Params):
    """Parameters of ``bagit``."""

    folder: FolderTemplate = Field(
        default="",
        description="The bag's folder: the begin of `destination.key`, up to the `/data/` in it, such as "
        "`raw/{ingest_date}/{device}`. Each folder that the job's keys make of it becomes a bag. Default: the "
        "destination itself.",
    )
    info: dict[str, str] = Field(
        default_factory=dict,
        description='Lines for `bag-info.txt`, such as `{"Source-Organization": "Project CETI"}`.',
    )

    @field_validator("info")
    @classmethod
    def _lines(cls, info: dict[str, str]) -> dict[str, str]:
        for name, value in info.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]*", name) or not value.isprintable():
                raise ValueError(
                    f"{name!r}: a line is a name of letters, digits and `-`, and a value of one line"
                )
            if name.lower() in _OURS:
                raise ValueError(f"{name!r} is written by the finisher itself")
        return info


class BagIt(Finisher[BagItParams]):
    """The tag files of a bag (BagIt, RFC 8493) beside what is stored, so that the folder is a valid bag.

    `bagit.txt`, `bag-info.txt` with `Payload-Oxum`, `manifest-sha256.txt` and `tagmanifest-sha256.txt`. The payload is
    what lies in `data/` when the job ends, so keys must begin with `data/`, or with `folder` and `/data/`. Where other
    jobs stored into the same folder, their objects are part of it.

    A bag lists each object that is there once. Where the destination has `dedupe`, files that have no object of
    their own are named, with the key of the object that has their bytes, in a tag file `duplicates.tsv`.
    """

    Params: ClassVar[type[Params]] = BagItParams
    knows_duplicates: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse a job whose keys do not lie in ``data/``.

        Raises:
            ConfigError: they do not.
        """
        check_folder("bagit", self.params.folder, PAYLOAD, self.context)

    def additions(self, results: Results) -> Iterator[Addition]:
        """The tag files of each bag; what lists the payload is written to the scratch folder first."""
        with StoredFolders(results, self.params.folder, self.context.scratch_dir) as folders:
            for folder in folders:
                yield from self._bag(folder, folders, results)

    def _bag(self, folder: str, folders: StoredFolders, results: Results) -> Iterator[Addition]:
        manifest, duplicates = folders.scratch / "manifest-sha256.txt", folders.scratch / DUPLICATES
        payload = _write_manifest(manifest, folder, folders, results)
        if not payload.files:
            log.warning(
                "no bag is made in %r: all of its content lies elsewhere in the bucket", folder or "/"
            )
            return
        tags: dict[str, bytes | Path] = {
            "bagit.txt": f"BagIt-Version: {payload.version}\nTag-File-Character-Encoding: UTF-8\n".encode(),
            "bag-info.txt": self._info(payload, results.failed_items),
            "manifest-sha256.txt": manifest,
        }
        if _write_duplicates(duplicates, folder, folders):
            tags[DUPLICATES] = duplicates
        lines = "".join(f"{hashed_body(body)[0]}  {name}\n" for name, body in sorted(tags.items()))
        for name, body in {**tags, "tagmanifest-sha256.txt": lines.encode()}.items():
            yield Addition(folder + name, body, TEXT)

    def _info(self, payload: _Payload, failed_items: int) -> bytes:
        lines = {
            **self.params.info,
            "Bagging-Date": self.context.date,
            "Bag-Software-Agent": f"Ingest {__version__}",
            "Payload-Oxum": f"{payload.size_bytes}.{payload.files}",
            "Ingest-Job": self.context.job_id,
        }
        if failed_items:
            lines["Ingest-Failed-Items"] = str(failed_items)
        return "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()


def _write_manifest(path: Path, folder: str, folders: StoredFolders, results: Results) -> _Payload:
    payload = _Payload()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for found in folders.objects(folder, PAYLOAD):
            name = found.key.removeprefix(folder)
            file.write(f"{found.sha256 or results.sha256(found.key)}  {_encoded(name)}\n")
            payload.files += 1
            payload.size_bytes += found.size_bytes
            payload.has_percent |= "%" in name
    return payload


def _write_duplicates(path: Path, folder: str, folders: StoredFolders) -> int:
    """List the files that have no object of their own; how many they are."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("sha256\tpath\tduplicate_of\n")
        for duplicate in folders.duplicates(folder):
            names = (_encoded(name).replace("\t", "%09") for name in (duplicate.path, duplicate.duplicate_of))
            file.write("\t".join((duplicate.sha256, *names)) + "\n")
            count += 1
    return count


def _encoded(name: str) -> str:
    """A name as a manifest has it, on one line."""
    return name.replace("\r", "%0D").replace("\n", "%0A")
