"""Files on a device: listed whole, read whole or said not to be, hashed there or here; whatever their names."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from ingest.errors import SourceAway, SourceChanged, SourceMissing, SourceRefused, SourceUnreadable, Stopped
from ingest.ssh.connection import Address, Connection, connect, quoted
from ingest.ssh.known_hosts import KnownHosts
from ingest.ssh.remote_files import RemoteFiles
from ingest.ssh.sftp import IN_FLIGHT_BYTES, Entry, _Body
from tests.ssh_servers import OpenSsh, SimulatedTag

Server = SimulatedTag | OpenSsh
ODD_NAMES = [
    "a b",
    "it's",
    'say "hi"',
    "two\nlines",
    "$(reboot)",
    "`reboot`",
    "-rf",
    "*",
    "ä…",
    "back\\slash",
    "\udcff",
]


@pytest.fixture(params=["tag", "openssh"])
def server(request: pytest.FixtureRequest) -> Server:
    made: Server = request.getfixturevalue(request.param)
    return made


def files_of(server: Server, known_hosts: KnownHosts) -> RemoteFiles:
    connection = server.connect(known_hosts)
    root = "/data" if isinstance(server, SimulatedTag) else str(server.data)
    return RemoteFiles(lambda: connection, root)


def listed(files: RemoteFiles, after: str | None = None) -> list[str]:
    return [item.path for item in files.list(after)]


def put(folder: Path, *paths: str, body: bytes = b"x") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


def test_every_file_is_listed_in_the_order_of_its_names_bytes(
    server: Server, known_hosts: KnownHosts
) -> None:
    put(
        server.data,
        "b",
        "a/2",
        "a/1/deep/er",
        "a.raw",
        "a!",
        ".hidden",
        "sub/lost+found/kept",
        "lost+found/x",
    )
    (server.data / "link").symlink_to("b")
    os.mkfifo(server.data / "pipe")
    os.utime(server.data / "b", (1_700_000_000, 1_700_000_000))
    left_out: Counter[str] = Counter()
    items = list(files_of(server, known_hosts).list(left_out=left_out))
    paths = [".hidden", "a/1/deep/er", "a/2", "a!", "a.raw", "b", "sub/lost+found/kept"]
    assert [item.path for item in items] == paths
    assert (items[5].size_bytes, items[5].mtime_ns) == (1, 1_700_000_000_000_000_000)
    assert left_out == {"system": 1, "symbolic link": 1, "special file": 1}
    for place, path in enumerate(paths):
        assert listed(files_of(server, known_hosts), path) == paths[place + 1 :]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_listed_read_hashed_and_removed(
    openssh: OpenSsh, known_hosts: KnownHosts, name: str
) -> None:
    body = os.urandom(100)
    put(openssh.data, name, "other", body=body)
    files, got = files_of(openssh, known_hosts), bytearray()
    assert sorted(listed(files)) == sorted([name, "other"])
    files.read(name, got.extend, size_bytes=100)
    assert got == body
    assert files.sha256(name) == hashlib.sha256(body).hexdigest()
    files.remove(name)
    assert listed(files) == ["other"]


@pytest.mark.parametrize("size_bytes", [0, 1, 255 << 10, (255 << 10) + 1, 3 * IN_FLIGHT_BYTES + 5])
def test_a_file_is_read_whole_and_from_anywhere(
    server: Server, known_hosts: KnownHosts, size_bytes: int
) -> None:
    body = os.urandom(size_bytes)
    put(server.data, "a", body=body)
    files = files_of(server, known_hosts)
    for offset in {0, size_bytes // 2, size_bytes}:
        got = bytearray()
        files.read("a", got.extend, size_bytes=size_bytes, offset=offset)
        assert got == body[offset:]


@pytest.mark.parametrize("most_read_bytes", [1000, 32 << 10])
def test_a_server_that_gives_less_than_is_asked_for(
    tag: SimulatedTag, known_hosts: KnownHosts, most_read_bytes: int
) -> None:
    body = os.urandom(500_003)
    put(tag.data, "a", "b", body=body)
    tag.most_read_bytes = most_read_bytes
    files = files_of(tag, known_hosts)
    for name in ("a", "b"):
        got = bytearray()
        files.read(name, got.extend, size_bytes=len(body))
        assert got == body
    assert tag.served_bytes <= 3 * len(body)


def test_a_file_that_is_shorter_than_listed(server: Server, known_hosts: KnownHosts) -> None:
    put(server.data, "a", body=b"x" * 1000)
    files = files_of(server, known_hosts)
    with pytest.raises(SourceChanged, match="has 1000 now"):
        files.read("a", lambda piece: None, size_bytes=2000)
    assert listed(files) == ["a"], "a new session takes the place of the broken one"


def test_a_file_that_is_longer_than_listed(server: Server, known_hosts: KnownHosts) -> None:
    put(server.data, "a", body=b"xyz")
    put(server.data, "empty", body=b"")
    files = files_of(server, known_hosts)
    for size_bytes in (0, 2):
        with pytest.raises(SourceChanged, match="has more now"):
            files.read("a", lambda piece: None, size_bytes=size_bytes)
    files.read("a", lambda piece: None, size_bytes=3, offset=3)
    assert files.sha256_here("empty") == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("size_bytes", [None, 2**63, 2**64 - 1])
def test_a_file_without_a_size_is_listed_and_cannot_be_read(
    size_bytes: int | None, tag: SimulatedTag, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = _Body.attributes
    monkeypatch.setattr(_Body, "attributes", lambda *them: replace(attributes(*them), size_bytes=size_bytes))
    put(tag.data, "a")
    files = files_of(tag, known_hosts)
    assert [(item.path, item.size_bytes) for item in files.list()] == [("a", None)]
    with pytest.raises(SourceUnreadable, match="no size that a file may have"):
        files.sha256_here("a")


def test_a_listing_that_has_no_end_is_ended(
    tag: SimulatedTag, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tag.data, "a/b/c", "a/d")
    monkeypatch.setattr("ingest.ssh.remote_files.DEEPEST", 1)
    with pytest.raises(SourceUnreadable, match="more than 1 folders deep"):
        listed(files_of(tag, known_hosts))
    monkeypatch.undo()
    monkeypatch.setattr("ingest.ssh.sftp.MOST_ENTRIES", 2)
    with pytest.raises(SourceUnreadable, match="lists over 2 entries"):
        listed(files_of(tag, known_hosts))


def test_what_is_not_there(server: Server, known_hosts: KnownHosts) -> None:
    files = files_of(server, known_hosts)
    put(server.data, "folder/a")
    for call in (
        lambda: files.read("gone", lambda piece: None, size_bytes=1),
        lambda: files.sha256("gone"),
        lambda: files.remove("gone"),
        lambda: files.look("gone"),
    ):
        with pytest.raises(SourceMissing, match="gone"):
            call()
    with pytest.raises(SourceUnreadable, match="no regular file"):
        files.look("folder")
    assert listed(files) == ["folder/a"]


def test_hashes_are_taken_there_or_where_that_cannot_be_here(
    tag: SimulatedTag, known_hosts: KnownHosts
) -> None:
    put(tag.data, "a", body=b"abc")
    files = files_of(tag, known_hosts)
    expected = hashlib.sha256(b"abc").hexdigest()
    assert files.sha256("a") == expected
    assert tag.served_bytes == 0
    tag.programs.remove("sha256sum")
    assert files.sha256("a") == expected
    assert tag.served_bytes == 3, "it failed"
    again = files_of(tag, known_hosts)
    assert again.sha256("a") == again.sha256("a") == expected
    assert sum("sha256sum" in command for command in tag.commands) == 4, "it is asked for once"


def test_a_device_that_vanishes_is_out_of_reach_and_all_that_came_before_is_given(
    server: Server, known_hosts: KnownHosts
) -> None:
    body = os.urandom(4 * IN_FLIGHT_BYTES)
    put(server.data, "a", body=body)
    files, got = files_of(server, known_hosts), bytearray()

    def take(piece: bytes) -> None:
        got.extend(piece)
        if len(got) > IN_FLIGHT_BYTES and isinstance(server, OpenSsh):
            server.vanish()

    if isinstance(server, SimulatedTag):
        server.breaks_at_bytes = 2 * IN_FLIGHT_BYTES
    with pytest.raises(SourceAway, match="out of reach"):
        files.read("a", take, size_bytes=len(body))
    assert 0 < len(got) < len(body)
    assert body.startswith(got)
    server.start()
    again = files_of(server, known_hosts)
    again.read("a", got.extend, size_bytes=len(body), offset=len(got))
    assert got == body


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the server's: it leaves files open
def test_a_silent_device_is_noticed_and_waiting_for_it_can_be_stopped(
    tag: SimulatedTag, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tag.data, "a", body=b"x" * 100)
    silence, answered = threading.Event(), threading.Event()

    async def hang(self: object, *_: object) -> bytes:
        answered.set()
        await asyncio.sleep(60)
        return b""

    monkeypatch.setattr("tests.ssh_servers._Files.read", hang)
    monkeypatch.setattr("ingest.ssh.connection.SILENT_FOR_S", 1.0)
    connection = tag.connect(known_hosts)
    files = RemoteFiles(lambda: connection, "/data")
    with pytest.raises(SourceAway, match="said nothing"):
        files.read("a", lambda piece: None, size_bytes=100)
    assert answered.is_set()

    def stop() -> None:
        if silence.is_set():
            raise Stopped("asked to stop")

    stopping: Connection = tag.connect(known_hosts)
    stopping.check = stop
    silence.set()
    with pytest.raises(Stopped):
        RemoteFiles(lambda: stopping, "/data").read("a", lambda piece: None, size_bytes=100)


@pytest.mark.parametrize("kind", ["exec", "subsystem"])
def test_a_device_that_leaves_a_request_unanswered_is_let_go_of(
    kind: str, tag: SimulatedTag, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = tag.connect(known_hosts)
    files = RemoteFiles(lambda: connection, "/data")
    monkeypatch.setattr("ingest.ssh.connection.SILENT_FOR_S", 0.5)
    monkeypatch.setattr(asyncssh.SSHServerChannel, f"_process_{kind}_request", lambda self, packet: None)

    with pytest.raises(SourceAway, match="out of reach"):
        files.sha256("a") if kind == "exec" else listed(files)


def test_a_command_that_does_not_end_is_given_up_and_a_long_hash_is_not(
    openssh: OpenSsh, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(openssh.data, "a")
    slow = openssh.folder / "bin" / "sha256sum"
    slow.write_text("#!/bin/sh\nsleep 2.5\nexec /usr/bin/sha256sum\n")
    monkeypatch.setattr("ingest.ssh.connection.SILENT_FOR_S", 0.5)
    monkeypatch.setattr("ingest.ssh.connection.CONNECT_WITHIN_S", 2.0)
    connection = openssh.connect(known_hosts)
    files = RemoteFiles(lambda: connection, str(openssh.data))

    with pytest.raises(SourceAway, match="said nothing"):
        connection.run(b"echo prompt; sleep 30")
    slow.chmod(0o755)
    assert files.sha256_there("a") == hashlib.sha256(b"x").hexdigest()
    with openssh.frozen_in(0.5), pytest.raises(SourceAway, match="Timeout opening channel"):
        files.sha256_there("a")


def test_a_device_that_is_too_slow_for_a_login_does_not_refuse_it(
    tag: SimulatedTag, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def think(self: object, *_: object) -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr("ingest.ssh.connection.CONNECT_WITHIN_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(SourceAway) as caught:
        connect(tag.name, [Address("127.0.0.1", mute.getsockname()[1])], tag.login(), known_hosts)
    assert not isinstance(caught.value, SourceRefused)
    monkeypatch.setattr("tests.ssh_servers._Login.validate_password", think)
    with pytest.raises(SourceAway, match="not ready for a login") as caught:
        connect(tag.name, [tag.address], tag.login(password="right"), known_hosts)
    assert not isinstance(caught.value, SourceRefused)


def test_a_listing_that_would_lead_elsewhere_is_refused(
    tag: SimulatedTag, known_hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Body, "entries", lambda self: [Entry(b"../../etc/passwd", 0o100644, 1, 0)])
    with pytest.raises(SourceUnreadable, match="no name"):
        listed(files_of(tag, known_hosts))


def test_words_are_quoted_for_the_devices_shell(openssh: OpenSsh, known_hosts: KnownHosts) -> None:
    connection = openssh.connect(known_hosts)
    for name in ODD_NAMES:
        assert connection.run(quoted("printf", "%s", name)).stdout == os.fsencode(name)
    assert connection.run(b"exit 7").status == 7
