"""SFTP, as much of it as is needed to list, read and remove files.

Version 3 of the protocol (draft-ietf-secsh-filexfer-02), spoken over a channel of paramiko's. paramiko's own client
takes only names that are UTF-8, and its prefetching looks through all that is under way for each answer, so that its
work grows with the square of a file's size.
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest.errors import SourceMissing, SourceUnreadable
from ingest.ssh.connection import POLL_S, Connection, away, reaching

READ_BYTES = 255 << 10
"""A request's; OpenSSH's server gives as much at once. One that gives less is asked for less."""

IN_FLIGHT_BYTES = 8 << 20
MOST_MESSAGE_BYTES = 16 << 20
MOST_ENTRIES = 1_000_000
"""Of a folder; a server that lists more is taken to go on for ever."""

INIT, OPEN, CLOSE, READ, LSTAT, OPENDIR, READDIR, REMOVE = 1, 3, 4, 5, 7, 11, 12, 13
VERSION, STATUS, HANDLE, DATA, NAME, ATTRS = 2, 101, 102, 103, 104, 105
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED = 0, 1, 2, 3
FOR_READING = 1
HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES, HAS_MORE = 1, 2, 4, 8, 1 << 31

Sink = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder on the device, as a listing shows it; ``mtime_s`` is in seconds since 1970 UTC."""

    name: bytes
    mode: int
    size_bytes: int | None
    mtime_s: int | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)


class Sftp:
    """A session over a connection. Belongs to one thread. After an error it is of no use any more.

    Raises:
        SourceAway: the device is out of reach; here and in every method.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._number = 0
        self._read_bytes = READ_BYTES
        self._channel = connection.channel()
        with reaching(connection.name):
            with connection.asking():
                self._channel.invoke_subsystem("sftp")
            self._send(struct.pack(">BI", INIT, 3))
            if self._message()[0] != VERSION:
                raise away(connection.name, "its SFTP server does not speak the protocol")

    def listdir(self, path: bytes) -> list[Entry]:
        """The entries of a folder, but for ``.`` and ``..``.

        Raises:
            SourceMissing, SourceUnreadable: it cannot be listed, or lists what is no name and might lead elsewhere.
        """
        entries: list[Entry] = []
        with self._opened(OPENDIR, _text(path), path) as handle:
            while (body := self._ask(READDIR, _text(handle), NAME, path, at_end=EOF)) is not None:
                entries += body.entries()
                if len(entries) > MOST_ENTRIES:
                    raise SourceUnreadable(
                        f"the folder {path!r} on the device lists over {MOST_ENTRIES:,} entries"
                    )
        for entry in entries:
            if not entry.name or b"/" in entry.name or b"\0" in entry.name:
                raise SourceUnreadable(
                    f"the folder {path!r} on the device lists {entry.name!r}, which is no name"
                )
        return [entry for entry in entries if entry.name not in (b".", b"..")]

    def lstat(self, path: bytes) -> Entry:
        """What lies at a path; a link is not followed.

        Raises:
            SourceMissing, SourceUnreadable: nothing, or it cannot be looked at.
        """
        body = self._ask(LSTAT, _text(path), ATTRS, path)
        assert body is not None
        return body.attributes(path)

    def remove(self, path: bytes) -> None:
        """Delete a file.

        Raises:
            SourceMissing, SourceUnreadable: it is not there, or may not be deleted.
        """
        self._ask(REMOVE, _text(path), STATUS, path)

    def read(self, path: bytes, offset: int, end: int, sink: Sink) -> int:
        """Give a file's bytes from ``offset`` to before ``end`` to ``sink``, in order and in pieces.

        Returns:
            How many they were: fewer where the file ends before.

        Raises:
            SourceMissing, SourceUnreadable: it cannot be read.
        """
        with self._opened(OPEN, _text(path) + struct.pack(">II", FOR_READING, 0), path) as handle:
            return _Reading(self, handle, path, offset, end, sink).all()

    def close(self) -> None:
        """Let go of it. May be repeated."""
        with reaching(self._connection.name):
            self._channel.close()

    @contextmanager
    def _opened(self, kind: int, asked: bytes, path: bytes) -> Iterator[bytes]:
        body = self._ask(kind, asked, HANDLE, path)
        assert body is not None
        handle = body.text()
        yield handle
        self._ask(CLOSE, _text(handle), STATUS, path)

    def _ask(
        self, kind: int, asked: bytes, expected: int, path: bytes, at_end: int | None = None
    ) -> _Body | None:
        """The answer to a request, or None where it is the status ``at_end``."""
        (number,) = self.request(kind, asked)
        found, answered, body = self._answer()
        if answered != number:
            raise away(self._connection.name, f"its SFTP server answers request {answered}, not {number}")
        if found == STATUS:
            code = body.number()
            if code == at_end or (code == OK and expected == STATUS):
                return None
            raise status_error(code, path)
        if found != expected:
            raise away(self._connection.name, f"its SFTP server gives an answer of kind {found}")
        return body

    def request(self, kind: int, *asked: bytes) -> list[int]:
        """Send requests; their numbers."""
        numbers = [(self._number + place) & 0xFFFFFFFF for place in range(1, len(asked) + 1)]
        self._number = numbers[-1]
        self._send(
            *(struct.pack(">BI", kind, number) + one for number, one in zip(numbers, asked, strict=True))
        )
        return numbers

    def _send(self, *messages: bytes) -> None:
        with reaching(self._connection.name):
            self._channel.settimeout(None)  # the connection itself notices when nothing is acknowledged
            self._channel.sendall(b"".join(map(_text, messages)))
            self._channel.settimeout(POLL_S)

    def _answer(self) -> tuple[int, int, _Body]:
        """The next answer: its kind, the number of the request, and the rest."""
        message = self._message()
        kind, number = struct.unpack_from(">BI", message)
        return kind, number, _Body(message, 5)

    def _message(self) -> bytes:
        size_bytes = int.from_bytes(self.exactly(4))
        if not 1 <= size_bytes <= MOST_MESSAGE_BYTES:
            raise away(self._connection.name, f"its SFTP server sends a message of {size_bytes} bytes")
        return self.exactly(size_bytes)

    def exactly(self, size_bytes: int) -> bytes:
        """So many bytes of what the device sends."""
        piece = self.some(size_bytes)
        if len(piece) == size_bytes:
            return piece
        pieces = [piece]
        missing = size_bytes - len(piece)
        while missing:
            pieces.append(self.some(missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def some(self, most_bytes: int) -> bytes:
        """Some bytes of what the device sends, at least one."""
        connection = self._connection
        with reaching(connection.name):
            piece = connection.patiently(lambda: self._channel.recv(most_bytes))
        if not piece:
            raise away(connection.name, "it closed the connection")
        return piece

    @property
    def read_bytes(self) -> int:
        """How many bytes the server gives at once, as far as it is known."""
        return self._read_bytes

    def gives_only(self, size_bytes: int) -> None:
        """It was asked for more, and gave so many."""
        self._read_bytes = max(1, min(self._read_bytes, size_bytes))


class _Reading:
    """One pass over a file, with many requests under way. Its bytes go to the sink in order.

    Servers answer in order as good as always; what comes before its turn is held.
    """

    def __init__(self, sftp: Sftp, handle: bytes, path: bytes, offset: int, end: int, sink: Sink) -> None:
        self._sftp = sftp
        self._handle = handle
        self._path = path
        self._sink = sink
        self._asked_to = self._given_to = offset
        self._begin = offset
        self._end = end
        self._under_way: dict[int, tuple[int, int]] = {}
        self._early: dict[int, bytes] = {}

    def all(self) -> int:
        """Read to the end."""
        while True:
            self._ask_for_more()
            if not self._under_way:
                return self._given_to - self._begin
            self._take(*self._header())
            self._give_early()

    def _ask_for_more(self) -> None:
        at_once = max(2, IN_FLIGHT_BYTES // self._sftp.read_bytes)
        held = len(self._under_way) + len(self._early)
        if held > at_once // 2:
            return
        wanted: list[tuple[int, int]] = []
        while self._asked_to < self._end and len(wanted) < at_once - held:
            size_bytes = min(self._sftp.read_bytes, self._end - self._asked_to)
            wanted.append((self._asked_to, size_bytes))
            self._asked_to += size_bytes
        self._ask(*wanted)

    def _ask(self, *wanted: tuple[int, int]) -> None:
        """Ask for parts: their offsets and sizes."""
        if wanted:
            handle = _text(self._handle)
            numbers = self._sftp.request(READ, *(handle + struct.pack(">QI", *part) for part in wanted))
            self._under_way.update(zip(numbers, wanted, strict=True))

    def _header(self) -> tuple[int, int, int]:
        """Of the next answer: the size of its body, its kind, and the number of its request."""
        size_bytes, kind, number = struct.unpack(">IBI", self._sftp.exactly(9))
        return size_bytes - 5, kind, number

    def _take(self, body_bytes: int, kind: int, number: int) -> None:
        offset, asked_bytes = self._under_way.pop(number, (-1, 0))
        if kind != DATA:
            self._take_status(self._sftp.exactly(body_bytes), offset)
            return
        size_bytes = int.from_bytes(self._sftp.exactly(4))
        if not 0 < size_bytes <= asked_bytes or size_bytes != body_bytes - 4:
            raise SourceUnreadable(
                f"{self._path!r}: the SFTP server gives {size_bytes} bytes, not {asked_bytes}"
            )
        if offset == self._given_to:
            self._stream(size_bytes)
        else:
            self._early[offset] = self._sftp.exactly(size_bytes)
        if size_bytes < asked_bytes:
            if asked_bytes == self._sftp.read_bytes:
                self._sftp.gives_only(size_bytes)
            self._ask((offset + size_bytes, asked_bytes - size_bytes))

    def _stream(self, size_bytes: int) -> None:
        while size_bytes:
            piece = self._sftp.some(size_bytes)
            self._sink(piece)
            self._given_to += len(piece)
            size_bytes -= len(piece)

    def _take_status(self, body: bytes, offset: int) -> None:
        code = _Body(body, 0).number()
        if code != EOF:
            raise status_error(code, self._path)
        self._end = min(self._end, offset)

    def _give_early(self) -> None:
        while (piece := self._early.pop(self._given_to, None)) is not None:
            self._sink(piece)
            self._given_to += len(piece)


class _Body:
    """An answer's fields, read one after another."""

    def __init__(self, message: bytes, at: int) -> None:
        self._message = message
        self._at = at

    def number(self) -> int:
        """A number of 32 bits."""
        return int(self._take(">I"))

    def text(self) -> bytes:
        """A string."""
        size_bytes = self.number()
        if self._at + size_bytes > len(self._message):
            raise SourceUnreadable("the SFTP server's answer is cut off")
        self._at += size_bytes
        return self._message[self._at - size_bytes : self._at]

    def entries(self) -> list[Entry]:
        """The entries of a folder."""
        return [self._entry() for _ in range(self.number())]

    def _entry(self) -> Entry:
        name = self.text()
        self.text()  # a line for people
        return self.attributes(name)

    def attributes(self, name: bytes) -> Entry:
        """What is known of a file."""
        flags = self.number()
        size_bytes = int(self._take(">Q")) if flags & HAS_SIZE else None
        if flags & HAS_OWNER:
            self._take(">Q")
        mode = self.number() if flags & HAS_MODE else 0
        mtime_s = int(self._take(">Q")) & 0xFFFFFFFF if flags & HAS_TIMES else None
        for _ in range(2 * self.number() if flags & HAS_MORE else 0):
            self.text()
        return Entry(name, mode, size_bytes, mtime_s)

    def _take(self, form: str) -> int:
        try:
            (value,) = struct.unpack_from(form, self._message, self._at)
        except struct.error:
            raise SourceUnreadable("the SFTP server's answer is cut off") from None
        self._at += struct.calcsize(form)
        return int(value)


def _text(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def status_error(code: int, path: bytes) -> SourceMissing | SourceUnreadable:
    """The item's error for a status of the protocol."""
    shown = repr(path.decode(errors="surrogateescape"))
    if code == NO_SUCH_FILE:
        return SourceMissing(f"there is no {shown} on the device")
    if code == PERMISSION_DENIED:
        return SourceUnreadable(f"{shown} on the device may not be read: {errno.errorcode[errno.EACCES]}")
    return SourceUnreadable(f"{shown} on the device cannot be read (SFTP status {code})")
