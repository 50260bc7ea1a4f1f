"""The IDs of registered devices: what may be one, and the text that lists them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from ingest.errors import ConfigError, did_you_mean

LIST_NAME = "Device ID List.txt"
"""The name of the list at a bucket's root, as CETI's data-ingest reads it: UTF-8, an ID a line."""

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,98}[A-Za-z0-9])?")


def checked_id(device: str) -> str:
    """``device`` itself, if it may be a device's ID: it becomes a folder's name, and a part of keys.

    Raises:
        ConfigError: it may not.
    """
    if not _ID.fullmatch(device) or ".." in device:
        raise ConfigError(
            f"{device!r} is no device ID",
            hint="letters, digits, '-', '_', '.' and spaces between them, at most 100, as in wt-a1b2c3",
        )
    return device


def parse(text: bytes, where: str) -> list[str]:
    """The IDs that a list holds, in its order, each once. Blank lines, and blanks around an ID, do not count.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}",
            hint="it should hold a device ID a line",
        ) from None
    return [*dict.fromkeys(line.strip() for line in lines if line.strip())]


def added(text: bytes, devices: Iterable[str], where: str) -> bytes:
    """The list with those IDs at its end that it lacks; what stands in it stays as it is.

    Raises:
        ConfigError: as :func:`parse` and :func:`checked_id`.
    """
    known = parse(text, where)
    new = [device for device in dict.fromkeys(map(checked_id, devices)) if device not in known]
    if not new:
        return text
    newline = b"" if not text or text.endswith((b"\n", b"\r")) else b"\n"
    return text + newline + "".join(f"{device}\n" for device in new).encode()


def refuse_unknown(devices: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse a device that is not registered, with the nearest that are.

    Raises:
        ConfigError: it is not.
    """
    registered = [*known]
    for device in devices:
        if device not in registered:
            near = did_you_mean(device, registered)
            raise ConfigError(
                f"the device {device!r} is not registered in {where}",
                hint=f"{near}; " * bool(near)
                + f"to register it: ingest devices add {shlex.quote(device)} --to URL (or --file FILE)",
            )
