"""A node of a trial: the real command, its processes, and its own way to Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from tests.chaos.tcp_proxy import TcpProxy
from tests.cluster import Command, descendants


class Node:
    """``ingest create`` or ``ingest join``, reaching Redis through a proxy that is this node's alone."""

    def __init__(self, redis: TcpProxy, command: Command) -> None:
        self.redis = redis
        self.command = command

    @classmethod
    def of(cls, redis: TcpProxy, password: str, *arguments: str, env: Mapping[str, str]) -> Self:
        """Start one."""
        url = f"redis://:{password}@127.0.0.1:{redis.port}/0"
        return cls(redis, Command(*arguments, env={**env, "INGEST_REDIS_URL": url}))

    @property
    def group(self) -> list[int]:
        """The process IDs of the command, its node, and the node's pool."""
        return [self.command.process.pid, *descendants(self.command.process.pid)]

    @property
    def pool(self) -> list[int]:
        """The process IDs of the node's pool: what works on batches."""
        nodes = descendants(self.command.process.pid)[:1]
        return [child for node in nodes for child in descendants(node)]

    def kill(self) -> None:
        """``kill -9`` of all of it."""
        self.command.kill()

    def kill_child(self, number: int = 0) -> None:
        """``kill -9`` of one process of its pool."""
        os.kill(self.pool[number], signal.SIGKILL)

    def stop(self) -> None:
        """``SIGSTOP`` for all of it, as a laptop that sleeps."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """``SIGCONT`` for all of it."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.group:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def said(self) -> str:
        """All that it wrote on standard error."""
        return "".join(self.command.errors)
