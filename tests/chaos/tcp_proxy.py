"""A TCP proxy that delays, throttles, cuts or swallows what passes through it. Its loop runs in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PIECE_BYTES = 1 << 16
CLOSED = (ConnectionError, OSError, asyncio.IncompleteReadError)


class Loop:
    """An asyncio loop in a thread of its own, for all proxies of a trial."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._end_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Listener:
    """What both proxies share: a port on loopback, and a task for each connection, which may be reset."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._loop.do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.do(self._close())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset_all()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (*CLOSED, asyncio.CancelledError):
            pass  # either side went away, or the trial is over
        finally:
            self._writers.discard(writer)
            reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once; what was under way is lost."""
    with suppress(*CLOSED):
        writer.transport.abort()


class TcpProxy(Listener):
    """Before one server, for one client, so that this client alone can be cut off.

    ``open`` relays. ``cut`` refuses connections and has reset those there were. ``swallow`` accepts and takes no
    byte further, as a network that drops packets: what was under way arrives when it is open again.
    """

    def __init__(self, loop: Loop, connect: Callable[[], Coroutine[Any, Any, Streams]]) -> None:
        super().__init__(loop)
        self._connect = connect
        self._open = asyncio.Event()
        self._open.set()
        self.mode: Literal["open", "cut", "swallow"] = "open"
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None

    def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        self.mode = "cut"
        self._loop.do(self._close())

    def swallow(self) -> None:
        """Take no byte further, in either direction."""
        self.mode = "swallow"
        self._loop.loop.call_soon_threadsafe(self._open.clear)

    def mend(self, *, forget: bool = False) -> None:
        """Relay again; with ``forget``, connections that were held up are reset instead."""
        self.mode = "open"
        self._loop.do(self._mend(forget))

    async def _mend(self, forget: bool) -> None:
        if forget:
            self._reset_all()
        self._open.set()
        if self._server is None:
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        server_reader, server_writer = await self._connect()
        self._writers.add(server_writer)
        ways = [
            asyncio.ensure_future(self._relay(reader, server_writer)),
            asyncio.ensure_future(self._relay(server_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(server_writer)
            reset(server_writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            await self._open.wait()
            writer.write(data)
            await writer.drain()
