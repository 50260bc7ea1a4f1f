"""The audit that every trial of the engine ends with: store, manifest and ledger say the same, and it is right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingest import manifest
from ingest.job import Job


def make_files(root: Path, count: int, size_bytes: int = 2000) -> dict[str, bytes]:
    """``count`` files of different contents and sizes below ``root``; path → content."""
    made = {}
    for number in range(count):
        path = f"day-{number % 7}/site {number % 3}/rec-{number:05}.dat"
        seed = hashlib.sha256(str(number).encode()).digest()
        content = (seed * (size_bytes // 32 + 1))[: size_bytes + number % 97]
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        made[path] = content
    return made


def audit(job: Job, expected: Mapping[str, bytes], stored: Mapping[str, bytes]) -> dict[str, Any]:
    """Check that exactly ``expected`` is stored, byte for byte, and that ledger and manifest agree; the status."""
    assert sorted(stored) == sorted(expected), "an object is missing, or one too many is there"
    for key, content in expected.items():
        assert stored[key] == content, f"{key} differs"
    rows = list(manifest.read_manifest(job.store, job.job_id, job.settings.scratch))
    assert sorted(row["key"] for row in rows) == sorted(expected), "the manifest lists other keys"
    for row in rows:
        assert row["sha256"] == hashlib.sha256(expected[row["key"]]).hexdigest()
        assert row["stored_bytes"] == len(expected[row["key"]])
    status = job.status().to_dict()
    items = status["items"]
    assert items["done"] + items["skipped"] == items["total"] == len(expected), items
    assert items["failed"] == 0
    assert status["bytes"]["done"] == sum(map(len, expected.values()))
    return status
