"""Connecting to Redis, and turning redis-py's errors into ours at this one boundary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import redis
import redis.exceptions

from ingest.errors import RedisError, RedisFull, RedisRefused, RedisUnreachable
from ingest.redis_binary import OLDEST_VERSION

SOCKET_TIMEOUT_S = 10.0
_LOGIN_HINT = "check the user and password in INGEST_REDIS_URL"
_RIGHTS_HINT = "give its user (ACL) these rights: ~ingest* ~_kombu* &* +@all -@admin -@dangerous +info"
_TLS_HINT = (
    "behind `?` ssl_ca_certs names the file of its CA; ssl_certfile and ssl_keyfile those of this machine"
)


def connect(url: str) -> redis.Redis:
    """A client for ``url`` (``redis://``, ``rediss://`` or ``unix://``). Does not connect yet."""
    return redis.Redis.from_url(
        url,
        decode_responses=False,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=5.0,
        health_check_interval=15,
    )


def without_password(url: str) -> str:
    """``url`` as it may be shown: without its password, and of what is behind a ``?`` with numbers and files alone."""
    address, mark, query = url.partition("?")
    parts = urlsplit(address)
    if parts.password is not None:
        shown = parts.netloc.rpartition("@")[2]
        address = parts._replace(netloc=f"{parts.username or ''}:***@{shown}").geturl()
    return address + mark + re.sub(r"\b(?!db=|ssl_\w+(?<!password)=)(\w+)=[^&]*", r"\1=***", query)


def _takes_no_writes(error: redis.exceptions.ResponseError) -> bool:
    """Whether it has no memory, cannot save, is a replica, or has none; a failed script quotes that in the middle."""
    no_memory = ("OOM command", "command not allowed when used memory")
    words = (*no_memory, "MISCONF", "READONLY", "NOREPLICAS", "MASTERDOWN")
    kinds = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)
    return isinstance(error, kinds) or any(word in str(error) for word in words)


def _lacks_a_right(error: redis.exceptions.ResponseError) -> bool:
    """Whether its user may not do that; a script says so in words of its own."""
    words = ("NOPERM", "user executing the script can't")
    return isinstance(error, redis.exceptions.NoPermissionError) or any(word in str(error) for word in words)


def _connection_hint(said: str) -> str:
    if "max number of clients" in said:
        return "raise its maxclients, or work with fewer processes (-p)"
    return _TLS_HINT if re.search("SSL|X509", said) else "is it running? `ingest doctor` looks"


def _reason(error: Exception) -> str:
    """Why there is no connection, without the address, which redis-py repeats."""
    return re.sub(r"^Error -?\d+ connecting to .*?\. ", "", str(error)).rstrip(".")


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Within it, what redis-py raises becomes one of our :class:`~ingest.errors.RedisError`."""
    shown = without_password(url)
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise RedisRefused(f"Redis at {shown} refuses: {error}", hint=_LOGIN_HINT) from error
    except redis.exceptions.OutOfMemoryError as error:
        raise RedisFull(
            f"Redis at {shown} has no memory left", hint="raise maxmemory; the work goes on by itself"
        ) from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise RedisUnreachable(
            f"Redis at {shown} cannot be reached: {_reason(error)}",
            hint=_connection_hint(str(error)),
        ) from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(("NOAUTH", "WRONGPASS")):
            raise RedisRefused(f"Redis at {shown} refuses: {error}", hint=_LOGIN_HINT) from error
        if _lacks_a_right(error):
            raise RedisRefused(f"Redis at {shown} refuses: {error}", hint=_RIGHTS_HINT) from error
        if _takes_no_writes(error):
            raise RedisFull(
                f"Redis at {shown} takes no writes: {error}",
                hint="has it memory, disk space and its replicas, and is it none itself? The work goes on by itself",
            ) from error
        raise RedisError(f"Redis at {shown} answered: {error}") from error


def fit_info(url: str) -> dict[str, Any]:
    """What the Redis says of itself (``INFO``), where jobs can be kept in it.

    Raises:
        RedisError: it is too old, a replica, a Sentinel, of a cluster, or throws keys away when its memory is full.
    """
    with redis_errors(url), connect(url) as client:
        info = cast("dict[str, Any]", client.info())
    wrong, hint = _unfit(info)
    if wrong:
        raise RedisError(f"Redis at {without_password(url)} {wrong}", hint=hint)
    return info


def _unfit(info: Mapping[str, Any]) -> tuple[str, str | None]:
    """Why no job can be kept in it, or "", and what to do."""
    version, policy = str(info["redis_version"]), str(info.get("maxmemory_policy", "noeviction"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        return f"is {version}; 6.2 or newer is needed", None
    if info.get("redis_mode", "standalone") != "standalone":
        return f"is no single server ({info['redis_mode']})", "jobs need one of their own, without a cluster"
    if info.get("role", "master") != "master":
        where = f"{info.get('master_host')}:{info.get('master_port')}"
        return f"is a replica, which takes no writes, of {where}", "name that in INGEST_REDIS_URL"
    if policy.startswith("allkeys"):
        return (
            f"may throw jobs away: its maxmemory-policy is {policy}",
            "set it to noeviction (`redis-cli config set maxmemory-policy noeviction`, and in its config file)",
        )
    return "", None
