"""Host keys: the first is recorded, another is refused, and a person may accept it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from ingest.config import Settings
from ingest.errors import SourceRefused
from ingest.ssh.connection import Address, Login, connect
from ingest.ssh.known_hosts import KnownHosts
from ingest.tags.discovery import Network, Scan, find_tags
from tests.ssh_servers import TAG, USER, SimulatedTag, simulated_tag


def test_a_first_key_is_recorded_and_another_refused_until_it_is_accepted(known_hosts: KnownHosts) -> None:
    first, other = paramiko.RSAKey.generate(1024), paramiko.ECDSAKey.generate()
    known_hosts.ensure("wt-a", first)
    assert known_hosts.keys("wt-a") == []
    known_hosts.record("wt-a", first)
    known_hosts.record("wt-a", first)
    known_hosts.record("wt-b", other)
    assert (known_hosts.name_of(first), known_hosts.name_of(other)) == ("wt-a", "wt-b")
    for refuse in (known_hosts.ensure, known_hosts.record):
        with pytest.raises(SourceRefused, match="wt-a has changed") as caught:
            refuse("wt-a", other)
        assert first.fingerprint in caught.value.what
        assert f"{other.fingerprint}, as wt-b has" in caught.value.what
        assert "`ingest tags list` shows where wt-a is" in str(caught.value.hint)
    with pytest.raises(SourceRefused, match="wt-a has changed") as caught:
        known_hosts.ensure("wt-a", paramiko.ECDSAKey.generate())
    assert str(caught.value.hint).startswith("if the tag was set up anew")
    known_hosts.replace("wt-a", other)
    known_hosts.ensure("wt-a", other)
    assert known_hosts.keys("wt-b") == [other], "others' keys stay"
    assert len(known_hosts.path.read_text().splitlines()) == 2


def test_several_may_record_at_once(known_hosts: KnownHosts) -> None:
    keys = {f"wt-{number}": paramiko.ECDSAKey.generate() for number in range(20)}
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(known_hosts.record, keys, keys.values()))
    assert {name: known_hosts.keys(name) for name in keys} == {name: [key] for name, key in keys.items()}


@pytest.mark.parametrize("name", [f"x,{TAG}", f"x ssh-ed25519 AAAA\n{TAG}", "my server", "#tag", ""])
def test_no_name_adds_a_key_to_another_device(
    name: str, tag: SimulatedTag, tmp_path: Path, known_hosts: KnownHosts
) -> None:
    tag.connect(known_hosts)
    with simulated_tag(tmp_path / "other", name) as other:
        other.take_login_of(tag)
        with pytest.raises(SourceRefused):
            connect(None, [other.address], other.login(), known_hosts)
        other.name = TAG
        with pytest.raises(SourceRefused, match="has changed"):
            other.connect(known_hosts)
    tag.connect(known_hosts)


@pytest.mark.parametrize(
    "line", ["nonsense", "\xff", "wt-a ssh-ed25519 !!!", "wt-a ssh-ed25519 AAAAB", "wt-a ssh-new AAAA"]
)
def test_a_damaged_file_is_no_reason_to_trust_anybody(known_hosts: KnownHosts, line: str) -> None:
    known_hosts.path.parent.mkdir()
    known_hosts.path.write_text(f"# made by hand\n\n{line}\n", encoding="latin-1")
    with pytest.raises(SourceRefused, match="line 3 of"):
        known_hosts.ensure("wt-a", paramiko.ECDSAKey.generate())


def test_a_file_that_cannot_be_read_or_written_is_named(tag: SimulatedTag, known_hosts: KnownHosts) -> None:
    in_the_way = known_hosts.path.with_suffix(".new")
    in_the_way.mkdir(parents=True)
    with pytest.raises(SourceRefused, match=f"cannot be recorded in {known_hosts.path}: Is a directory"):
        tag.connect(known_hosts)
    known_hosts.path.mkdir()
    with pytest.raises(SourceRefused, match=f"{known_hosts.path} cannot be read: Is a directory"):
        find_tags(Scan([Network("127.0.0.1/32")], tag.port), Settings(state_dir=known_hosts.path.parent))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("wt-a", Address("wt-a")),
        ("192.168.1.20:2222", Address("192.168.1.20", 2222)),
        ("[fe80::1]:22", Address("fe80::1")),
        ("fe80::1", Address("fe80::1")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["", ":22", "a:b", "a b", "a:", "a:0", "a:65536"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Address.parse(text)


def test_a_tag_whose_address_another_has_now_is_looked_for_by_its_name(
    tag: SimulatedTag, tmp_path: Path, known_hosts: KnownHosts
) -> None:
    with simulated_tag(tmp_path / "other", "wt-ffffffff") as other:
        other.take_login_of(tag)
        name = tag.address  # where its name leads to, as multicast DNS has it
        for at in (Address("127.0.0.1", 1), other.address):
            connect(TAG, [at, name], tag.login(), known_hosts).close()
        other.connect(known_hosts).close()
        connect(TAG, [other.address, name], tag.login(), known_hosts).close()
        with pytest.raises(SourceRefused, match=f"host key of {TAG} has changed.*as wt-ffffffff has"):
            connect(TAG, [other.address, Address("127.0.0.1", 1)], tag.login(), known_hosts)
        with pytest.raises(SourceRefused, match="refuses the login"):
            connect(TAG, [tag.address, other.address], Login(USER, password="wrong"), known_hosts)
    assert len(tag.logins) == 1
