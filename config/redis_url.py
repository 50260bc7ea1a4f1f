"""What ``INGEST_REDIS_URL`` may say: only what redis-py, for the ledger, and kombu, for the queue, read alike."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

_CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_KNOWN: dict[str, dict[str, str]] = {
    "redis": {},
    "rediss": {
        **dict.fromkeys((*_CERTIFICATES, "ssl_password"), ".+"),
        "ssl_cert_reqs": "none|optional|required",
        "ssl_check_hostname": "true|false",
    },
    "unix": {"db": r"\d+"},
}
"""By scheme, what may stand behind ``?``, and the form of its value."""


def checked_redis_url(url: str) -> str:
    """The URL, where it can be used. No piece of it is shown where not, but a file's name: it may hold a password.

    Raises:
        ValueError: in words, what is wrong with it.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://, and name one server")
    parts = _split(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    if {"password", "username"} & dict(given).keys():
        raise ValueError("must not hold a user or password behind `?`; write redis://user:password@host")
    if parts.scheme == "unix" and (parts.hostname or not parts.path.strip("/")):
        raise ValueError("names no socket, as in unix:///run/redis.sock or unix://:password@/run/redis.sock")
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError(
            "has no number as its database, as in redis://host:6379/0; in a password write / as %2F"
        )
    known = _KNOWN[parts.scheme]
    if parts.fragment or not all(re.fullmatch(known.get(name, "(?!)"), value) for name, value in given):
        raise ValueError(
            "has more behind `?` or `#` than can be used; known are db=NUMBER of unix://, and of rediss:// "
            f"{', '.join(known or _KNOWN['rediss'])}; in a password write # as %23 and ? as %3F"
        )
    for name, value in given:
        if name in _CERTIFICATES and not Path(value).is_file():
            raise ValueError(f"names a file for {name} that is not there: {value}")
    return url


def _split(url: str) -> SplitResult:
    """The URL's parts. Where the port is no number it may be a piece of a password, so that error is not shown."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is looked at when asked for
    except ValueError:
        raise ValueError(
            "has no number as its port; in a password write / as %2F, # as %23, ? as %3F, @ as %40 and [ as %5B"
        ) from None
    return parts
