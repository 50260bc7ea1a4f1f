"""What redis-py says becomes one of our errors, and no password is shown."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ingest.config import Settings
from ingest.errors import ConfigError, RedisError, RedisFull, RedisRefused, RedisUnreachable
from ingest.redis_binary import find_binary
from ingest.redis_client import connect, fit_info, redis_errors, without_password
from tests.engine.jobs_by_hand import job_over
from tests.engine.making import until
from tests.s3_servers import free_port


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:hushhush@host/0", "redis://:***@host/0"),
        ("rediss://me:hush%40hush@host:1/2", "rediss://me:***@host:1/2"),
        ("unix://:hushhush@/run/redis.sock", "unix://:***@/run/redis.sock"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://host/0?password=hushhush", "redis://host/0?password=***"),
        (
            "redis://host/0?db=1&username=me&password=hushhush",
            "redis://host/0?db=1&username=***&password=***",
        ),
        (
            "rediss://:hushhush@h?ssl_password=hushhush&ssl_ca_certs=/ca.pem",
            "rediss://:***@h?ssl_password=***&ssl_ca_certs=/ca.pem",
        ),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "sentinel://h:26379/hushhush",
        "redis+cluster://:hushhush@h",
        "redis://h/hushhush",
        "redis://h/0/1",
        "redis://h/-1",
        "redis://h/0 ",
        "redis://h:99999/0",
        "redis://h1:1,h2:2/0",
        "redis://:hush[hush@h/0",
        "redis://:12/hushhush@h/0",
        "redis://:12?hushhush@h/0",
        "redis://:12#hushhush@h/0",
        "redis://h?db=1",
        "redis://h/0?socket_timeout=hushhush",
        "rediss://h?db=1",
        "rediss://h?ssl_cert_reqs=hushhush",
        "rediss://h?ssl_min_version=TLSv1_2",
        "rediss://h?ssl_ca_certs=/nowhere/ca.pem",
        "unix://run/redis.sock",
        "unix://:hushhush@",
        "unix:///run/redis.sock?db=hushhush",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("INGEST_REDIS_URL", url)

    with pytest.raises(ConfigError, match=r"INGEST_REDIS_URL: (must start|has |names )") as caught:
        Settings.load()

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "query", ["password=hushhush", "username=me&password=hushhush", "db=1&password=hushhush"]
)
def test_a_password_behind_a_question_mark_is_refused(monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.setenv("INGEST_REDIS_URL", f"redis://host/0?{query}")

    with pytest.raises(ConfigError, match="redis://user:password@host") as caught:
        Settings.load()

    assert "hushhush" not in str(caught.value)


def raised(url: str, do: Callable[[Any], Any]) -> RedisError:
    client: Any = connect(url)
    with client, pytest.raises(RedisError) as caught, redis_errors(url):
        do(client)
    return caught.value


SCRIPT = "return redis.call('SET', 'x', 'y')"


@pytest.mark.parametrize(
    "do",
    [
        lambda client: client.set("x", "y"),
        lambda client: client.eval(SCRIPT, 0),
        lambda client: client.pipeline().set("x", "y").execute(),
        lambda client: client.pipeline(transaction=False).set("x", "y").execute(),
    ],
)
def test_a_redis_without_memory_is_full(redis_url: str, do: Callable[[Any], Any]) -> None:
    client: Any = connect(redis_url)
    client.config_set("maxmemory", 1)
    try:
        assert isinstance(raised(redis_url, do), RedisFull)
    finally:
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("script", [False, True])
def test_a_replica_takes_no_writes(redis_url: str, script: bool) -> None:
    client: Any = connect(redis_url)
    client.replicaof("127.0.0.1", free_port())
    try:
        error = raised(redis_url, lambda c: c.eval(SCRIPT, 0) if script else c.set("x", "y"))
        assert isinstance(error, RedisFull), error
    finally:
        client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    "text",
    [
        "MISCONF Redis is configured to save RDB snapshots, but is currently not able to persist on disk",
        "Error running script (call to f_2922): @user_script:5: @user_script: 5: -MISCONF Redis is configured to",
        "Error running script (call to f_2922): @user_script:5: @user_script: 5: -OOM command not allowed when used",
        "Error running script (call to f_2922): @user_script:5: @user_script: 5: -READONLY You can't write against",
    ],
)
def test_what_redis_says_of_a_full_disk_or_in_a_script_is_full(text: str) -> None:
    with pytest.raises(RedisFull), redis_errors("redis://host"):
        raise redis.exceptions.ResponseError(text)


def test_a_redis_that_takes_no_more_connections_is_told_with_what_to_do() -> None:
    told = pytest.raises(RedisUnreachable, match=r"(?s)max number.*hint: raise its maxclients")
    with told, redis_errors("redis://host"):
        raise redis.exceptions.ConnectionError("max number of clients reached")


def test_what_is_wrong_otherwise(redis_url: str) -> None:
    assert type(raised(redis_url, lambda client: client.lpush("a", 1) and client.get("a"))) is RedisError
    refused = raised(redis_url.replace("for-tests-only", "hushhush"), lambda client: client.ping())
    assert isinstance(refused, RedisRefused)
    gone = raised(f"redis://:hushhush@127.0.0.1:{free_port()}", lambda client: client.ping())
    assert isinstance(gone, RedisUnreachable)
    assert gone.what.endswith("cannot be reached: Connection refused")
    assert "hushhush" not in f"{refused} {gone}"


@pytest.fixture
def throwing_away(redis_url: str) -> Iterator[str]:
    client: Any = connect(redis_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    yield redis_url
    client.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def replica(redis_url: str) -> Iterator[str]:
    client: Any = connect(redis_url)
    client.replicaof("127.0.0.1", free_port())
    yield redis_url
    client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("throwing_away", "maxmemory-policy is allkeys-lru"),
        ("replica", r"is a replica.* of 127\.0\.0\.1:\d+"),
    ],
)
def test_a_redis_that_cannot_keep_jobs_is_refused(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, said: str
) -> None:
    request.getfixturevalue(kind)

    with pytest.raises(RedisError, match=rf"(?s){said}.*hint: "):
        job_over(tmp_path)


@pytest.mark.parametrize("option", ["--cluster-enabled yes", "--sentinel"])
def test_what_is_no_single_server_is_refused(tmp_path: Path, option: str) -> None:
    config, address = tmp_path / "conf", tmp_path / "redis.sock"
    config.touch()
    command: list[str | Path] = [
        find_binary().path,
        config,
        "--port",
        "0",
        "--unixsocket",
        address,
        "--dir",
        tmp_path,
    ]
    with subprocess.Popen([*command, *option.split()], stdout=subprocess.DEVNULL) as server:
        until(address.exists)
        with pytest.raises(RedisError, match=r"is no single server \((cluster|sentinel)\)"):
            fit_info(f"unix://{address}")
        server.terminate()
