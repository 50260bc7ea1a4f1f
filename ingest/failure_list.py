"""The list of a job's failed items, beside its manifest: ``failures.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from ingest.handle import JobHandle
from ingest.manifest import folder, put_local

FIRST = 1000


def list_failures(job: JobHandle, scratch_dir: Path, *, was_listed: bool) -> list[dict[str, str]]:
    """Store the list, an object of JSON a line; the first of them, as ``job.json`` names them. May be repeated.

    There may be millions: they pass through a file in the scratch folder. Where there are none, there is no list.

    Args:
        was_listed: whether there may be one from before.
    """
    key = f"{folder(job.job_id)}failures.jsonl"
    first: list[dict[str, str]] = []
    with TemporaryDirectory(dir=scratch_dir, prefix="failures-") as scratch:
        path = Path(scratch, "failures.jsonl")
        with path.open("w", encoding="ascii") as file:
            for failure in job.failures():
                file.write(json.dumps(failure.to_dict()) + "\n")
                if len(first) < FIRST:
                    first.append(
                        {"item": failure.item.name, "error": failure.error, "reason": failure.reason}
                    )
        if first:
            put_local(job.store, key, path, "application/x-ndjson")
    if was_listed and not first:
        job.store.delete([key])
    return first
