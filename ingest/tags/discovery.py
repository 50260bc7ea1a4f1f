"""Finding whale tags: which addresses answer as SSH servers do, and which of them are tags."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ingest.config import Settings
from ingest.errors import ConfigError, ItemError, SourceAway, SourceRefused
from ingest.ssh.connection import PORT, Address, connect
from ingest.ssh.tag import NAME_PATTERN, ROOT, USER, Tag, known_hosts_of, login_of

Network = ipaddress.IPv4Network

USB_GADGET = Network("192.168.11.0/24")
"""Tags that are plugged in by USB are here, as CETI sets them up."""

LARGEST_PREFIX = 22
"""Of a larger network of this machine's, only the 256 addresses around its own are looked at."""

MOST_ADDRESSES = 1 << 16
AT_ONCE = 256
ANSWER_WITHIN_S = 1.0
LOGINS_AT_ONCE = 16
MOST_SHOWN = 3
BANNER = b"SSH-"


@dataclass(frozen=True, slots=True)
class Scan:
    """Where to look for tags, and how to log in."""

    networks: Sequence[Network]
    port: int = PORT
    user: str = USER
    key_file: Path | None = None
    root: str = ROOT
    pattern: str = NAME_PATTERN


@dataclass(frozen=True, slots=True)
class Found:
    """What answered at an address.

    Attributes:
        name: the tag's; None where it did not let us in, and may be something else.
        trouble: why nothing is known of it, or of its files.
        free_bytes, files, size_bytes, firmware, capture: what it says of itself; None for what it does not.
    """

    address: Address
    name: str | None = None
    trouble: str = ""
    free_bytes: int | None = None
    files: int | None = None
    size_bytes: int | None = None
    firmware: str | None = None
    capture: str | None = None


def networks_of(texts: Sequence[str]) -> list[Network]:
    """The networks that ``--network`` names, or this machine's own and that of USB gadgets.

    Raises:
        ConfigError: one is no IPv4 network, or they are too large to look through.
    """
    try:
        networks = [Network(text, strict=False) for text in texts] or own_networks()
    except ValueError as error:
        raise ConfigError(str(error), place="--network", hint="such as 192.168.1.0/24") from None
    count = sum(network.num_addresses for network in networks)
    if count > MOST_ADDRESSES:
        raise ConfigError(
            f"{count} addresses are too many to look at", place="--network", hint="name a smaller one"
        )
    return networks


def own_networks() -> list[Network]:
    """The IPv4 networks that this machine is in, bounded, and that of USB gadgets."""
    networks = {USB_GADGET}
    up = psutil.net_if_stats()
    for interface, addresses in psutil.net_if_addrs().items():
        if interface not in up or not up[interface].isup:
            continue
        for one in addresses:
            if (
                one.family == socket.AF_INET
                and one.netmask
                and not ipaddress.ip_address(one.address).is_loopback
            ):
                network = Network(f"{one.address}/{one.netmask}", strict=False)
                small = Network(f"{one.address}/24", strict=False)
                networks.add(network if network.prefixlen >= LARGEST_PREFIX else small)
    return sorted(ipaddress.collapse_addresses(networks))


def ssh_servers(networks: Iterable[Network], port: int = PORT) -> list[Address]:
    """The addresses at which something answers as an SSH server does, in order."""
    return asyncio.run(_ssh_servers(_addresses(networks, port)))


def _addresses(networks: Iterable[Network], port: int) -> list[Address]:
    hosts = (host for network in networks for host in network.hosts())
    return [Address(str(host), port) for host in dict.fromkeys(hosts)]


async def _ssh_servers(addresses: Sequence[Address]) -> list[Address]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(address: Address) -> bool:
        async with gate:
            with suppress(OSError, TimeoutError):
                return await asyncio.wait_for(_answers(address), ANSWER_WITHIN_S)
            return False

    answers = await asyncio.gather(*map(look, addresses))
    return [address for address, answered in zip(addresses, answers, strict=True) if answered]


async def _answers(address: Address) -> bool:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        return (await reader.read(len(BANNER))).startswith(BANNER)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def find_tags(
    scan: Scan, settings: Settings, *, look_inside: bool = True, unknown: list[Found] | None = None
) -> list[Found]:
    """The tags on some networks, in the order of their names.

    A tag that answers at several addresses is there once; what calls itself like it, and has another host key, is there
    too, with that trouble. An SSH server whose name is that of no tag is left out.

    Args:
        look_inside: also count the files, and ask for what the tag says of itself.
        unknown: gets the servers that do not let us in, and so may be tags, unless their host key says that they are.

    Raises:
        SourceRefused: this machine's file of host keys cannot be read.
    """
    known_hosts_of(settings).check()
    addresses = ssh_servers(scan.networks, scan.port)
    with ThreadPoolExecutor(LOGINS_AT_ONCE, "tags") as executor:
        looked = executor.map(lambda address: _look(address, scan, settings, look_inside), addresses)
        found = [one for one in looked if one is not None]
    if unknown is not None:
        unknown += [one for one in found if one.name is None]
    tags: dict[tuple[str, str], Found] = {}
    for one in found:
        if one.name is not None:
            tags.setdefault((one.name, one.trouble and str(one.address)), one)
    return [tags[place] for place in sorted(tags)]


def _look(address: Address, scan: Scan, settings: Settings, look_inside: bool) -> Found | None:
    login, known_hosts = login_of(settings, scan.user, scan.key_file), known_hosts_of(settings)
    try:
        connection = connect(None, [address], login, known_hosts)
    except SourceRefused as error:
        is_tag = error.name is not None and re.fullmatch(scan.pattern, error.name)
        return Found(address, error.name if is_tag else None, error.what)
    except SourceAway as error:
        return Found(address, None, error.what)
    connection.close()
    if not re.fullmatch(scan.pattern, connection.name):
        return None
    if not look_inside:
        return Found(address, connection.name)
    tag = Tag(connection.name, [address], login, known_hosts, root=scan.root)
    try:
        return _described(tag, address)
    finally:
        tag.close()


def _described(tag: Tag, address: Address) -> Found:
    try:
        items = list(tag.files.list())
        return Found(
            address,
            tag.name,
            free_bytes=tag.free_bytes(),
            files=len(items),
            size_bytes=sum(item.size_bytes or 0 for item in items),
            firmware=tag.firmware(),
            capture=_capture(tag),
        )
    except (SourceAway, ItemError) as error:
        return Found(address, tag.name, error.what)


def _capture(tag: Tag) -> str | None:
    with suppress(ItemError):
        return tag.capture_state()
    return None


def resolved(
    names: Sequence[str], scan: Scan, settings: Settings, unknown: list[Found] | None = None
) -> dict[str, str]:
    """The addresses of tags: those given as ``NAME=ADDRESS``, others looked for. No names: all that are found.

    Args:
        unknown: as in :func:`find_tags`.

    Raises:
        ConfigError: a tag is not found, or none is; or of all one lets us not in.
    """
    given = dict(_split(name) for name in names)
    wanted = [name for name, address in given.items() if not address]
    if names and not wanted:
        return given
    unknown = [] if unknown is None else unknown
    tags = find_tags(scan, settings, look_inside=False, unknown=unknown)
    found = {
        one.name: str(one.address) for one in reversed(tags) if one.name
    }  # one without trouble comes first
    where, hint = ", ".join(map(str, scan.networks)), not_let_in(unknown) or _NOT_FOUND
    if not names:
        if not found:
            raise ConfigError(f"no tag answers on {where}", hint=hint)
        for one in tags:
            if one.trouble:
                raise ConfigError(f"{one.name} at {one.address}: {one.trouble}", hint=_NOT_ALL)
        return found
    for name in wanted:
        if name not in found:
            raise ConfigError(f"{name} does not answer on {where}", hint=hint)
        given[name] = found[name]
    return given


def not_let_in(unknown: Sequence[Found]) -> str:
    """What to do about SSH servers that may be tags; "" where there are none."""
    if not unknown:
        return ""
    count = "an SSH server answers" if len(unknown) == 1 else f"{len(unknown)} SSH servers answer"
    first = "; ".join(one.trouble for one in unknown[:MOST_SHOWN])
    more = " …" if len(unknown) > MOST_SHOWN else ""
    return (
        f"{count} without letting us in ({first}{more}); if it is a tag, give `--user` and `--key-file`, or "
        "`--ask-password`"
    )


_NOT_FOUND = (
    "is it on, charged, and in this network? `--network` says where to look; NAME=ADDRESS says where it is"
)
_NOT_ALL = "see to it (`ingest tags list` shows all), or name the tags to take instead of --all"


def _split(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    try:
        Address.parse(address or name)
    except ValueError as error:
        raise ConfigError(str(error), place="TAG") from None
    return name, address
