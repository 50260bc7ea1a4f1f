"""A tag that was offloaded to S3 by the real commands, as often as a test wants it anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.cluster import run
from tests.engine.making import objects
from tests.plugins.tag_folder import START_MS, sound, write_config, write_info, write_status
from tests.s3_servers import S3Server
from tests.ssh_servers import TAG, USER, SimulatedTag

RAW, NESTED, TABLE, TEXT = f"{START_MS}.raw", "dive 1/notes.bin", "data_light.csv", "readme.txt"
ODD = 'dive 1/it\'s "odd" $(touch pwned); *?`id` \\ new\nline'
OPTION = "-rf"
NOT_UTF8, LIKE_IT = os.fsdecode(b"dive 1/caf\xe9 100%.csv"), "caf\\udce9"
OLD_S = 1_700_000_100


def fill(folder: Path) -> None:
    """What lies on the tag."""
    (folder / "dive 1").mkdir()
    write_config(folder)
    write_info(folder)
    write_status(folder, [(75_000, "Restarted! | ", False, 1)])
    (folder / RAW).write_bytes(sound(2000) + b"\x01")
    (folder / TABLE).write_bytes(b"Timestamp [us],Light\n" + b"1,2\n" * 500)
    for path in (NESTED, TEXT, ODD, OPTION, LIKE_IT):
        (folder / path).write_bytes(b"content of " + os.fsencode(path))
    for path in files_of(folder):
        os.utime(folder / path, (OLD_S, OLD_S))


def files_of(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@dataclass
class World:
    """A tag, its backup and its objects. :meth:`restore` makes all as it was when the offload had ended."""

    folder: Path
    tag: SimulatedTag
    server: S3Server
    bucket: str
    state: Path
    backup: Path
    job_id: str = ""
    _stored: dict[str, bytes] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """Where the job's own objects lie."""
        return f"field/.ingest/{self.job_id}/"

    @property
    def options(self) -> list[str]:
        """What names the tag to a command."""
        return [f"{TAG}={self.tag.address}", "--user", USER, "--key-file", str(self.tag.user_key)]

    def offload(self) -> None:
        """Run ``ingest tags offload``."""
        fill(self.tag.data)
        destination = [f"destination.endpoint_url={self.server.endpoint_url}", "destination.region=us-east-1"]
        sets = [word for one in destination for word in ("--set", one)]
        to = ["--to", f"s3://{self.bucket}/field", "--backup", str(self.backup), "--yes", "-p", "1"]
        done = run("tags", "offload", *self.options, *to, *sets)
        assert done.returncode == 0, done.stdout + done.stderr
        self.job_id = self.records()[-1]["job_id"]
        self._stored = objects(self.server, self.bucket)
        for name, source in (("state", self.state), ("backup", self.backup), ("data", self.tag.data)):
            shutil.copytree(source, self.folder / "kept" / name)

    def restore(self) -> None:
        """Make all as it was."""
        for name, target in (("state", self.state), ("backup", self.backup), ("data", self.tag.data)):
            shutil.rmtree(target)
            shutil.copytree(self.folder / "kept" / name, target)
        now = objects(self.server, self.bucket)
        client = self.server.client()
        for key in now.keys() - self._stored.keys():
            client.delete_object(Bucket=self.bucket, Key=key)
        for key, body in self._stored.items():
            if now.get(key) != body:
                client.put_object(Bucket=self.bucket, Key=key, Body=body)
        client.close()
        self.tag.name, self.tag.service_state = TAG, "inactive"
        self.tag.removed.clear()
        self.tag.commands.clear()

    def records(self) -> list[dict[str, Any]]:
        """The record of the tag's offloads."""
        return [
            json.loads(line) for line in (self.state / "offloads" / f"{TAG}.jsonl").read_text().splitlines()
        ]

    def edit_record(self, **changes: Any) -> None:
        """Change the record of the last offload."""
        record = {**self.records()[-1], **changes}
        (self.state / "offloads" / f"{TAG}.jsonl").write_text(json.dumps(record) + "\n")

    def key_of(self, path: str) -> str:
        """The key, from the bucket's root, of a file's object."""
        [row] = [row for row in self.rows() if row["item"] == f"{TAG}/{path}"]
        return f"field/{row['key']}"

    def get(self, key: str) -> bytes:
        """An object."""
        return objects(self.server, self.bucket)[key]

    def put(self, key: str, body: bytes) -> None:
        """Write an object behind the job's back."""
        client = self.server.client()
        client.put_object(Bucket=self.bucket, Key=key, Body=body)
        client.close()

    def delete(self, key: str) -> None:
        """Delete an object behind the job's back."""
        client = self.server.client()
        client.delete_object(Bucket=self.bucket, Key=key)
        client.close()

    def edit_summary(self, **changes: Any) -> None:
        """Change the job's ``job.json``."""
        key = f"{self.prefix}job.json"
        self.put(key, json.dumps({**json.loads(self.get(key)), **changes}).encode())

    def rows(self) -> list[dict[str, Any]]:
        """The manifest's rows."""
        return pq.read_table(pa.BufferReader(self.get(f"{self.prefix}manifest.parquet"))).to_pylist()

    def edit_row(self, path: str, metadata: Mapping[str, str | None] | None = None, **changes: Any) -> None:
        """Change what the manifest says of a file; a metadatum of None is taken away."""

        def edited(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            for row in rows:
                if row["item"] == f"{TAG}/{path}":
                    facts = {**dict(row["metadata"]), **(metadata or {})}
                    row.update(
                        changes, metadata=[(name, fact) for name, fact in facts.items() if fact is not None]
                    )
            return rows

        self.edit_manifest(edited)

    def edit_manifest(self, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Change the manifest's rows."""
        key = f"{self.prefix}manifest.parquet"
        table = pq.read_table(pa.BufferReader(self.get(key)))
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(edit(table.to_pylist()), table.schema), sink)
        self.put(key, sink.getvalue().to_pybytes())
