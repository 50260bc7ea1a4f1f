"""Reading one large file of a whale tag, beside OpenSSH's own ``scp``: same server, same file, same rounds.

    PYTHONPATH=. python benchmarks/sftp.py --mib 1024 --rounds 3

It needs ``/usr/sbin/sshd`` and ``scp``. Each round takes, one after another: ``scp`` as it is; Ingest's reader into a
file; the same with all that an offload does (SHA-256 on the other side meanwhile, fsync, reading back and hashing), and
paramiko's own ``get``. The ratio is of the best rates, so that what else the machine did counts least.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from ingest.plugins.whale_tag import WhaleTag, WhaleTagParams
from ingest.processors import JobContext
from ingest.ssh.known_hosts import KnownHosts
from ingest.ssh.tag import Tag
from tests.ssh_servers import OpenSsh

MIB = 1 << 20
WANTED_RATIO = 0.8


class Bench:
    """A server with one file, and the ways to get it."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self.size_mib = size_mib
        self.server = OpenSsh(folder / "server")
        piece = os.urandom(MIB)
        with (self.server.data / "big.raw").open("wb") as file:
            for number in range(size_mib):
                file.write(number.to_bytes(8) + piece[8:])
        os.environ["INGEST_STATE_DIR"] = str(folder / "state")

    def scp(self) -> None:
        """OpenSSH's client, with its own choice of cipher."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        subprocess.run(
            [
                *("scp", "-q", "-P", str(self.server.port), "-i", str(self.server.user_key)),
                *(word for option in options for word in ("-o", option)),
                f"{self.server.login().user}@127.0.0.1:{self.server.data}/big.raw",
                str(self.folder / "by_scp"),
            ],
            check=True,
        )

    def reader(self) -> None:
        """Ingest's reader, into a file, as ``scp`` does."""
        known_hosts = KnownHosts(self.folder / "state" / "known_hosts")
        login = self.server.login()
        tag = Tag(self.server.name, [self.server.address], login, known_hosts, root=str(self.server.data))
        with (self.folder / "by_ingest").open("wb", buffering=0) as file:
            tag.files.read("big.raw", file.write, size_bytes=self.size_mib * MIB)
        tag.close()

    def offload(self) -> None:
        """All that an offload does before the upload."""
        params = {
            "tags": {self.server.name: str(self.server.address)},
            "user": self.server.login().user,
            "key_file": str(self.server.user_key),
            "root_dir": str(self.server.data),
            "backup_dir": str(self.folder / "backup"),
        }
        context = JobContext("bench", "bench", "2026-01-31", None, self.folder, is_preview=True)
        processor = WhaleTag(WhaleTagParams.model_validate(params), context)
        processor.check()
        [item] = processor.paths()
        with processor.open(processor.path(item)) as path:
            path.unlink()
        processor.close()

    def paramiko(self) -> None:
        """paramiko's own client, its prefetching bounded: without a bound it takes minutes for a large file."""
        with paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            login = self.server.login()
            client.connect("127.0.0.1", self.server.port, login.user, key_filename=str(login.key_file))
            sftp = client.open_sftp()
            source, target = self.server.data / "big.raw", self.folder / "by_paramiko"
            sftp.get(str(source), str(target), max_concurrent_prefetch_requests=64)

    def hash(self) -> None:
        """SHA-256 of the file here."""
        with (self.server.data / "big.raw").open("rb") as file:
            hashlib.file_digest(file, "sha256")


def rate_mib_per_s(way: Callable[[], None], size_mib: int) -> float:
    """MiB/s of one way."""
    began_s = time.perf_counter()
    way()
    return size_mib / (time.perf_counter() - began_s)


def run(size_mib: int, rounds: int, *, with_paramiko: bool) -> dict[str, object]:
    """All rounds; the rates of each way, and the ratios of the best."""
    with tempfile.TemporaryDirectory(prefix="ingest-sftp-") as name:
        bench = Bench(Path(name), size_mib)
        bench.server.start()
        ways: dict[str, Callable[[], None]] = {
            "scp": bench.scp,
            "ingest": bench.reader,
            "ingest offload": bench.offload,
            "sha256": bench.hash,
        }
        if with_paramiko:
            ways["paramiko"] = bench.paramiko
        rates: dict[str, list[float]] = {way: [] for way in ways}
        try:
            for _ in range(rounds):
                for way, call in ways.items():
                    rates[way].append(round(rate_mib_per_s(call, size_mib), 1))
        finally:
            bench.server.vanish()
    best = {way: max(some) for way, some in rates.items()}
    ratios = {way: round(best[way] / best["scp"], 2) for way in best if way not in ("scp", "sha256")}
    return {"size_mib": size_mib, "mib_per_s": rates, "best": best, "ratio_to_scp": ratios}


def main() -> None:
    """Measure, and say whether the bar was met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--paramiko", action="store_true", help="measure paramiko's own client too, which is slow"
    )
    arguments = parser.parse_args()
    found = run(arguments.mib, arguments.rounds, with_paramiko=arguments.paramiko)
    print(json.dumps(found, indent=2))
    ratio = dict(found["ratio_to_scp"])["ingest"]  # type: ignore[call-overload]
    print(f"ingest at {ratio} of scp's rate; wanted: {WANTED_RATIO}")


if __name__ == "__main__":
    main()
