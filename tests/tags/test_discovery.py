"""Finding tags: bounded, and only what is one. Nothing but loopback is looked at."""

from __future__ import annotations

import socket
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest

from ingest.config import Settings
from ingest.errors import ConfigError
from ingest.tags.discovery import (
    USB_GADGET,
    Found,
    Network,
    Scan,
    find_tags,
    networks_of,
    own_networks,
    resolved,
    ssh_servers,
)
from tests.needs import require
from tests.ssh_servers import PASSWORD, TAG, SimulatedTag, simulated_tag

HERE = Network("127.0.0.0/29")
Interface = namedtuple("Interface", "family address netmask")
State = namedtuple("State", "isup")


def test_only_ssh_servers_are_found(tag: SimulatedTag) -> None:
    assert ssh_servers([HERE], tag.port) == [tag.address]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert ssh_servers([HERE], silent.getsockname()[1]) == []
    tag.vanish()
    assert ssh_servers([HERE], tag.port) == []


def test_a_tag_says_what_is_on_it(tag: SimulatedTag) -> None:
    (tag.data / "deep").mkdir()
    (tag.data / "deep" / "a").write_bytes(b"12345")
    [found] = find_tags(Scan([HERE], tag.port, key_file=tag.user_key), Settings.load())
    assert (found.name, found.address, found.files, found.size_bytes) == (TAG, tag.address, 1, 5)
    assert (found.free_bytes, found.firmware, found.capture, found.trouble) == (
        1_022_976,
        "2.3-1",
        "active",
        "",
    )
    tag.programs = {"hostname"}
    [found] = find_tags(Scan([HERE], tag.port, key_file=tag.user_key), Settings.load())
    assert (found.files, found.free_bytes, found.firmware, found.capture) == (1, None, None, None)


def test_what_is_no_tag_or_lets_nobody_in_is_left_out(
    tag: SimulatedTag, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGEST_TAG_PASSWORD", "wrong")
    unknown: list[Found] = []
    assert find_tags(Scan([HERE], tag.port), Settings.load(), unknown=unknown) == []
    assert "refuses the login" in unknown[0].trouble, "it may be a tag, and is not passed over without a word"
    monkeypatch.setenv("INGEST_TAG_PASSWORD", PASSWORD)
    [found] = find_tags(Scan([HERE], tag.port), Settings.load())
    assert found.name == TAG
    monkeypatch.setenv("INGEST_TAG_PASSWORD", "wrong")
    [found] = find_tags(Scan([HERE], tag.port), Settings.load())
    assert "refuses the login" in found.trouble, "its host key says that it is a tag"
    tag.name = "nas"
    assert (
        find_tags(Scan([HERE], tag.port, key_file=tag.user_key), Settings(state_dir=tmp_path / "other")) == []
    )


def test_a_tag_that_was_renamed_is_found_by_its_new_name(tag: SimulatedTag) -> None:
    scan = Scan([HERE], tag.port, key_file=tag.user_key)
    tag.name = "raspberrypi"
    assert find_tags(scan, Settings.load()) == []
    tag.name = TAG
    [found] = find_tags(scan, Settings.load())
    assert (found.name, found.trouble) == (TAG, "")


def test_tags_that_are_copies_of_one_card_are_both_found(tag: SimulatedTag, tmp_path: Path) -> None:
    with twin(tag, tmp_path, "wt-e5f6a7b8", tag.host_key) as other:
        networks = [Network("127.0.0.1/32"), Network("127.0.0.2/32")]
        for _ in ("they are new", "their key is known"):
            found = find_tags(Scan(networks, tag.port, key_file=tag.user_key), Settings.load())
            assert [(one.name, one.trouble) for one in found] == [(TAG, ""), (other.name, "")]


def test_of_two_that_have_one_name_neither_is_passed_over(tag: SimulatedTag, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    with twin(tag, tmp_path, TAG, key) as other:
        there = Scan([Network("127.0.0.2/32")], tag.port, key_file=tag.user_key)
        both = replace(there, networks=[Network("127.0.0.1/32"), *there.networks])
        assert find_tags(there, Settings.load())[0].trouble == "", "it is the first to be seen"
        found = find_tags(both, Settings.load())
        assert [(one.address, "has changed" in one.trouble) for one in found] == [
            (other.address, False),
            (tag.address, True),
        ]
        assert resolved([TAG], both, Settings.load()) == {TAG: str(other.address)}
        with pytest.raises(ConfigError, match="has changed"):
            resolved([], both, Settings.load())


@contextmanager
def twin(tag: SimulatedTag, folder: Path, name: str, host_key: Any) -> Iterator[SimulatedTag]:
    """Another tag, at the same port of another address, which lets in whom the first lets in."""
    require(sys.platform == "linux", "elsewhere than on Linux, loopback has one address only")
    with simulated_tag(folder / "twin", name, "127.0.0.2") as other:
        other.host_key, other.port = host_key, tag.port
        other.take_login_of(tag)
        yield other


def test_own_networks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    inet = socket.AF_INET
    interfaces = {
        "lo": [Interface(inet, "127.0.0.1", "255.0.0.0")],
        "eth0": [Interface(inet, "10.1.2.3", "255.0.0.0"), Interface(socket.AF_INET6, "fe80::1", None)],
        "wlan0": [Interface(inet, "192.168.1.7", "255.255.255.0")],
        "down": [Interface(inet, "172.16.0.1", "255.255.255.0")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: State(name != "down") for name in interfaces})
    assert own_networks() == [Network("10.1.2.0/24"), Network("192.168.1.0/24"), USB_GADGET]


@pytest.mark.parametrize("texts", [["nonsense"], ["10.0.0.0/8"], ["::1/128"]])
def test_networks_that_cannot_be_looked_at(texts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        networks_of(texts)
    assert caught.value.place == "--network"
