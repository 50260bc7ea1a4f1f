"""Connecting to Redis, and turning redis-py's errors into ours at this one boundary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
import redis.exceptions

from ingest.errors import RedisError, RedisFull, RedisRefused, RedisUnreachable

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
            hint=_TLS_HINT if re.search("SSL|X509", str(error)) else "is it running? `ingest doctor` looks",
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
