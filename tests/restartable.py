"""Servers that a test stops, kills and starts again, at the same address and with the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from ingest.redis_binary import find_binary
from tests.needs import program
from tests.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, free_port

PASSWORD = "for-tests-only"


class RestartableRedis:
    """A Redis with an append-only file, as the embedded one has, that survives its own death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://:{PASSWORD}@{self.socket}"
        config = (
            f"port 0\nunixsocket {self.socket}\ndir {folder}\nrequirepass {PASSWORD}\n"
            'save ""\nappendonly yes\nappendfsync everysec\n'
        )
        (folder / "redis.conf").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [find_binary().path, str(self.folder / "redis.conf")], stdout=log, stderr=log
            )
        client = redis.Redis.from_url(self.url, retry=None)
        for _ in range(500):
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        raise AssertionError("Redis does not answer")

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_and_forget(self, seconds: float) -> int:
        """``kill -9``, and what the append-only file got in its last ``seconds`` is cut off; how many bytes."""
        (aof,) = self.folder.rglob("*.incr.aof") if self.is_multipart() else [self.folder / "appendonly.aof"]
        kept_bytes = aof.stat().st_size
        time.sleep(seconds)
        self.kill()
        forgotten_bytes = aof.stat().st_size - kept_bytes
        os.truncate(aof, kept_bytes)
        return forgotten_bytes

    def is_multipart(self) -> bool:
        """Whether its append-only file is a folder of files, as since Redis 7."""
        return (self.folder / "appendonlydir").is_dir()

    def freeze(self) -> None:
        """``SIGSTOP``: connections stay, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """``SIGCONT``."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it politely."""
        if self.process is not None:
            self.thaw()
            self.process.terminate()
            self.process.wait()


@contextmanager
def restartable_redis() -> Iterator[RestartableRedis]:
    """A running one."""
    with TemporaryDirectory(prefix="ingest-redis-", dir="/tmp") as folder:
        server = RestartableRedis(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


class RestartableS3:
    """``rclone serve s3`` at one address, over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.server = S3Server("rclone", f"http://127.0.0.1:{self.port}")
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "buckets" / "data").mkdir(parents=True)

    def start(self, secret_key: str = SECRET_KEY) -> None:
        """Start it, and wait until it answers. With another ``secret_key`` it refuses whoever has the usual one."""
        command = [program("rclone"), "serve", "s3", "--config", str(self.folder / "rclone.conf")]
        command += ["--auth-key", f"{ACCESS_KEY},{secret_key}", "--addr", f"127.0.0.1:{self.port}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, str(self.folder / "buckets")], stdout=log, stderr=log)
        self.server = replace(self.server, secret_key=secret_key)
        client = self.server.client()
        for _ in range(200):
            try:
                client.list_buckets()
            except Exception:
                time.sleep(0.05)
            else:
                client.close()
                return
        raise AssertionError("the S3 server does not answer")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def files(self, prefix: str) -> dict[str, bytes]:
        """Every object below a prefix, as it lies on the server's disk, without what rclone was writing when killed."""
        root = self.folder / "buckets" / "data" / prefix
        return {
            os.fspath(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
            and ".ingest" not in path.parts
            and not path.name.startswith(".rclone_temp_put_")
        }


@contextmanager
def restartable_s3(folder: Path) -> Iterator[RestartableS3]:
    """A running one."""
    server = RestartableS3(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
