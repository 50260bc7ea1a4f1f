"""The bundled Redis: started once, kept private, never losing what it was given."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis

from ingest import redis_binary
from ingest.config import Settings
from ingest.errors import RedisUnreachable
from ingest.redis_files import MAX_SOCKET_PATH_BYTES
from ingest.redis_server import redis_url, running, stop


@pytest.fixture
def settings(state_dir: Path) -> Settings:
    return Settings(state_dir=state_dir)


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def servers_in(state_dir: Path) -> list[int]:
    """The processes that work in the server's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == state_dir / "redis":
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_url_that_is_set_is_used_and_nothing_is_started(state_dir: Path) -> None:
    settings = Settings(state_dir=state_dir, redis_url="redis://elsewhere:1/0")

    assert redis_url(settings) == "redis://elsewhere:1/0"
    assert not state_dir.exists()


def test_it_is_started_once_and_says_so_once(settings: Settings) -> None:
    said: list[str] = []

    first = redis_url(settings, said.append)
    second = redis_url(settings, said.append)

    assert first == second
    assert len(said) == 1
    assert "`ingest down` stops it" in said[0]
    with client(first) as redis_client:
        assert redis_client.ping()


def test_it_keeps_every_write_and_never_evicts(settings: Settings) -> None:
    with client(redis_url(settings)) as redis_client:
        config = redis_client.config_get("*")

    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["port"] == "0"


def test_only_its_owner_can_reach_it(settings: Settings) -> None:
    url = redis_url(settings)
    folder = settings.state_dir / "redis"

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.rglob("*"):
        if not file.is_dir() and file.suffix != ".lock":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    path = url.rpartition("@")[2]
    with client(f"unix://{path}") as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_its_password_is_on_no_command_line(settings: Settings) -> None:
    password = redis_url(settings).removeprefix("unix://:").partition("@")[0]
    server = running(settings)

    assert server is not None
    assert len(password) >= 32
    assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_commands_that_start_together_share_one_server(settings: Settings) -> None:
    script = """if True:
        from ingest.config import Settings
        from ingest.redis_server import redis_url
        print(redis_url(Settings.load(), print))"""

    def command(_: int) -> list[str]:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(command, range(6)))

    assert len({lines[-1] for lines in said}) == 1
    assert sum(len(lines) for lines in said) == 7, "one of them says that it started the server"
    assert len(servers_in(settings.state_dir)) == 1


def test_jobs_survive_stop_and_start(settings: Settings) -> None:
    url = redis_url(settings)
    with client(url) as redis_client:
        redis_client.set("job", "kept")

    assert stop(settings) is True
    assert running(settings) is None
    assert redis_url(settings) == url
    with client(url) as redis_client:
        assert redis_client.get("job") == "kept"


def test_stop_ends_the_process_and_removes_the_socket(settings: Settings) -> None:
    path = Path(redis_url(settings).rpartition("@")[2])
    assert path.is_socket()

    stop(settings)

    assert not path.exists()
    assert servers_in(settings.state_dir) == []
    assert stop(settings) is False


def test_stop_where_nothing_was_ever_started(settings: Settings) -> None:
    assert stop(settings) is False
    assert running(settings) is None
    assert not settings.state_dir.exists()


def test_a_killed_server_is_started_anew_with_its_data(settings: Settings) -> None:
    with client(redis_url(settings)) as redis_client:
        redis_client.set("job", "kept")
    server = running(settings)
    assert server is not None

    os.kill(server.pid, signal.SIGKILL)
    said: list[str] = []
    url = redis_url(settings, said.append)

    assert len(said) == 1
    with client(url) as redis_client:
        assert redis_client.get("job") == "kept"


def test_a_reboot_leaves_a_stale_socket_and_pid(settings: Settings) -> None:
    path = Path(redis_url(settings).rpartition("@")[2])
    stop(settings)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    (settings.state_dir / "redis" / "redis.pid").write_text(str(os.getpid()))

    with client(redis_url(settings)) as redis_client:
        assert redis_client.ping()


def test_a_server_whose_socket_was_tidied_away_is_replaced(settings: Settings) -> None:
    url = redis_url(settings)
    with client(url) as redis_client:
        redis_client.set("job", "kept")
    Path(url.rpartition("@")[2]).unlink()

    with client(redis_url(settings)) as redis_client:
        assert redis_client.get("job") == "kept"
    assert len(servers_in(settings.state_dir)) == 1


@pytest.mark.parametrize("name", ["deep/" * 30 + "state", "with space", "späße", "quote'\"\\#?%40"])
def test_a_state_folder_whose_path_cannot_be_a_sockets(tmp_path: Path, name: str) -> None:
    settings = Settings(state_dir=tmp_path / name)
    url = redis_url(settings)
    try:
        path = Path(url.rpartition("@")[2])
        assert len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with client(url) as redis_client:
            assert redis_client.config_get("dir")["dir"] == str(settings.state_dir / "redis")
    finally:
        stop(settings)
        path.parent.rmdir()


def test_a_socket_folder_that_others_can_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / ("deep/" * 30))
    path = Path(redis_url(settings).rpartition("@")[2])
    stop(settings)
    path.parent.chmod(0o755)

    with pytest.raises(RedisUnreachable, match="open to other users"):
        redis_url(settings)
    path.parent.rmdir()


def test_without_a_program_it_says_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_binary, "_candidates", lambda: iter(()))

    with pytest.raises(RedisUnreachable, match=r"(?s)no Redis server.*hint:.*INGEST_REDIS_URL"):
        redis_url(settings)


def test_a_program_that_is_too_old_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.7 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setattr(redis_binary, "_candidates", lambda: iter([old]))

    with pytest.raises(RedisUnreachable, match=r"is 5\.0\.7"):
        redis_url(settings)


def test_a_server_that_does_not_start_shows_its_log(settings: Settings) -> None:
    redis_url(settings)
    stop(settings)
    for file in (settings.state_dir / "redis").rglob("*.aof"):
        file.write_bytes(b"*3\r\n$3\r\nSET\r\nnonsense\r\n" * 3)

    with pytest.raises(RedisUnreachable, match=r"(?s)does not start.*(AOF|append only)"):
        redis_url(settings)


def test_data_of_a_newer_server_are_not_given_to_an_older_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_url(settings)
    stop(settings)
    facts = settings.state_dir / "redis" / "server.json"
    facts.write_text(facts.read_text().replace('"version": "', '"version": "9'))

    with pytest.raises(RedisUnreachable, match="cannot read them"):
        redis_url(settings)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_record_of_it_is_told_with_what_to_do(settings: Settings, text: str) -> None:
    facts = settings.state_dir / "redis" / "server.json"
    facts.parent.mkdir(parents=True)
    facts.write_text(text)

    for command in (redis_url, stop):
        with pytest.raises(RedisUnreachable, match=r"(?s)server\.json is damaged.*hint: remove it"):
            command(settings)
    facts.unlink()


def test_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RedisUnreachable, match=r"(?s)cannot use .*hint: set INGEST_STATE_DIR"):
        redis_url(Settings(state_dir=tmp_path / "file" / "state"))
