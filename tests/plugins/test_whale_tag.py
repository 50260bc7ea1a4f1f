"""Files of whale tags: backed up first, gone on with where they broke off, and a tag out of reach fails nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from ingest import offloads
from ingest.config import Settings
from ingest.errors import (
    ConfigError,
    ItemError,
    SourceAway,
    SourceChanged,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
)
from ingest.items import FileItem
from ingest.plugins.whale_tag import WhaleTag, WhaleTagParams
from ingest.ssh.sftp import IN_FLIGHT_BYTES, _Body
from tests.plugins.making import context
from tests.ssh_servers import PASSWORD, TAG, OpenSsh, SimulatedTag, simulated_tag


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def whale_tag(
    backup: Path, *tags: SimulatedTag | OpenSsh, key: str | None = "{device}/{path}", **params: Any
) -> WhaleTag:
    first = tags[0]
    given = {
        "tags": {tag.name: str(tag.address) for tag in tags},
        "user": first.login().user,
        "key_file": str(first.user_key),
        "backup_dir": str(backup),
        **params,
    }
    processor = WhaleTag(
        WhaleTagParams.model_validate(given),
        replace(context(backup.parent), job_id="abcd2345", config={"destination": {"key": key}}),
    )
    processor.check()
    return processor


def put(folder: Path, path: str, body: bytes) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(body)


def opened(processor: WhaleTag, path: str) -> tuple[bytes, dict[str, str]]:
    item = next(item for item in processor.paths() if item.path == path)
    source = processor.path(item)
    with processor.open(source) as local:
        return local.read_bytes(), dict(processor.facts(source))


@pytest.mark.parametrize("server", ["tag", "openssh"])
def test_a_file_is_backed_up_and_the_second_time_nothing_moves(
    server: str, backup: Path, request: pytest.FixtureRequest
) -> None:
    tag = request.getfixturevalue(server)
    put(tag.data, "dive 1/it's\n.raw", b"sound")
    put(tag.data, "log.csv", b"a,b")
    root = {} if server == "tag" else {"root_dir": str(tag.data)}
    processor = whale_tag(backup, tag, **root)
    path = f"{TAG}/dive 1/it's\n.raw"
    assert [item.path for item in processor.paths()] == [path, f"{TAG}/log.csv"]
    body, facts = opened(processor, path)
    assert body == b"sound"
    assert facts == {
        "device": TAG,
        "source_path": "dive 1/it's\n.raw",
        "source_sha256": sha256(b"sound").hexdigest(),
        "backup": str(backup / path),
    }
    if isinstance(tag, SimulatedTag):
        assert opened(whale_tag(backup, tag), path)[0] == b"sound"
        assert tag.served_bytes == 5
    processor.close()


def test_the_files_beside_one_are_those_of_its_folder(tag: SimulatedTag, backup: Path) -> None:
    for path in ("a", "dive/b", "dive/a", "dive/deep/c"):
        put(tag.data, path, b"1")
    processor = whale_tag(backup, tag)
    in_dive = [one.path for one in processor.beside(FileItem(f"{TAG}/dive/a"))]
    assert in_dive == [f"{TAG}/dive/a", f"{TAG}/dive/b"]
    assert [one.path for one in processor.beside(FileItem(f"{TAG}/a"))] == [f"{TAG}/a"]


def test_a_tag_without_sha256sum_is_hashed_here(tag: SimulatedTag, backup: Path) -> None:
    tag.programs.remove("sha256sum")
    put(tag.data, "a", b"abc")
    assert opened(whale_tag(backup, tag), f"{TAG}/a")[1]["source_sha256"] == sha256(b"abc").hexdigest()
    assert tag.served_bytes == 3


@pytest.mark.parametrize("said_bytes", [0, 3])
def test_a_tag_that_says_less_than_a_file_has_is_not_believed(
    said_bytes: int, tag: SimulatedTag, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tag.data / "a.bin").write_bytes(b"content")
    tag.programs.remove("sha256sum")
    attributes = _Body.attributes
    monkeypatch.setattr(_Body, "attributes", lambda *them: replace(attributes(*them), size_bytes=said_bytes))
    with pytest.raises(SourceChanged, match="has more now"):
        opened(whale_tag(backup, tag), f"{TAG}/a.bin")

    assert not (backup / TAG / "a.bin").exists()


def test_a_tag_that_vanishes_in_a_file_is_gone_on_with_where_that_broke_off(
    tag: SimulatedTag, backup: Path
) -> None:
    body = os.urandom(5 * IN_FLIGHT_BYTES)
    put(tag.data, "big.raw", body)
    processor = whale_tag(backup, tag)
    tag.breaks_at_bytes = 3 * IN_FLIGHT_BYTES
    with pytest.raises(SourceAway, match="out of reach"):
        opened(processor, f"{TAG}/big.raw")
    processor.check()  # the folder is there: others go on
    with pytest.raises(SourceAway):
        opened(processor, f"{TAG}/big.raw")
    tag.start()
    assert opened(processor, f"{TAG}/big.raw")[0] == body
    assert tag.served_bytes <= len(body) + 2 * IN_FLIGHT_BYTES, "only what was on its way is served again"


def test_of_two_tags_one_away_is_no_trouble_to_the_other(
    tag: SimulatedTag, backup: Path, tmp_path: Path
) -> None:
    with simulated_tag(tmp_path / "other", "wt-e5f6a7b8") as other:
        other.take_login_of(tag)
        put(tag.data, "a", b"1")
        put(other.data, "a", b"2")
        processor = whale_tag(backup, tag, other)
        items = {item.path: processor.path(item) for item in processor.paths()}
        assert list(items) == [f"{TAG}/a", "wt-e5f6a7b8/a"]
        assert [item.path for item in processor.paths(f"{TAG}/a")] == ["wt-e5f6a7b8/a"]
        tag.vanish()
        with pytest.raises(SourceAway), processor.open(items[f"{TAG}/a"]):
            pass
        with processor.open(items["wt-e5f6a7b8/a"]) as local:
            assert local.read_bytes() == b"2"
        joined = whale_tag(backup, tag, other)  # a node that joins now
        other.vanish()
        with pytest.raises(ConfigError, match="out of reach"):
            whale_tag(backup, tag, other)
        joined.close()
        with pytest.raises(ConfigError, match="does not tell them apart"):
            whale_tag(backup, tag, other, key=None)


def test_a_changed_host_key_is_refused_before_a_password_is_told(
    tag: SimulatedTag, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_TAG_PASSWORD", PASSWORD)
    whale_tag(backup, tag, key_file=None).close()
    assert tag.logins == [PASSWORD]
    tag.vanish()
    tag.host_key = asyncssh.generate_private_key("ssh-ed25519")
    tag.start()
    with pytest.raises(ConfigError, match="host key of wt-a1b2c3d4 has changed") as caught:
        whale_tag(backup, tag, key_file=None)
    assert f"ingest tags trust {TAG}" in str(caught.value.hint)
    assert tag.logins == [PASSWORD]


def test_another_tag_at_the_address_is_refused(tag: SimulatedTag, backup: Path) -> None:
    tag.name = "wt-ffffffff"
    with pytest.raises(ConfigError, match="says that it is 'wt-ffffffff'"):
        whale_tag(backup, tag, tags={TAG: str(tag.address)})


def test_a_refused_login_says_what_to_give(
    tag: SimulatedTag, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_TAG_PASSWORD", "wrong-secret")
    with pytest.raises(ConfigError, match="refuses the login") as caught:
        whale_tag(backup, tag, key_file=None)
    assert isinstance(caught.value.__cause__, SourceRefused)
    assert "INGEST_TAG_PASSWORD" in str(caught.value.hint)
    assert "wrong-secret" not in repr(caught.value)


def test_the_capture_is_stopped_and_its_state_recorded(tag: SimulatedTag, backup: Path) -> None:
    put(tag.data, "a", b"1")
    processor = whale_tag(backup, tag)
    processor.context = replace(processor.context, is_preview=True)
    list(processor.paths())
    assert tag.service_state == "active", "a preview leaves the tag as it is"
    processor.context = replace(
        processor.context, is_preview=False, config={"destination": {"url": "s3://x"}}
    )
    list(processor.paths())
    list(processor.paths())
    assert tag.service_state == "inactive"
    [record] = offloads.read(Settings.load(), TAG)
    assert {name: record[name] for name in ("job_id", "device", "state", "backup", "destination")} == {
        "job_id": "abcd2345",
        "device": TAG,
        "state": "active",
        "backup": str(backup),
        "destination": {"url": "s3://x"},
    }
    tag.programs.remove("systemctl")
    with pytest.raises(SourceUnreadable, match="does not say whether its capture service"):
        list(processor.paths())


def test_another_file_of_the_name_in_the_backup_stays(tag: SimulatedTag, backup: Path) -> None:
    put(tag.data, "a.csv", b"new")
    put(backup / TAG, "a.csv", b"of last year")
    body, facts = opened(whale_tag(backup, tag), f"{TAG}/a.csv")
    assert body == b"new"
    assert facts["backup"] == str(backup / TAG / f"a.csv~{sha256(b'new').hexdigest()[:12]}")
    assert (backup / TAG / "a.csv").read_bytes() == b"of last year"


def test_a_file_written_to_or_removed_since_it_was_listed(tag: SimulatedTag, backup: Path) -> None:
    put(tag.data, "a", b"1")
    processor = whale_tag(backup, tag)
    [item] = processor.paths()
    source = processor.path(item)
    put(tag.data, "a", b"12")
    with pytest.raises(SourceChanged, match="when it was listed"), processor.open(source):
        pass
    (tag.data / "a").unlink()
    with pytest.raises(SourceMissing), processor.open(source):
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(point)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_a_full_disk_is_waited_for_and_then_gone_on(tag: SimulatedTag, small_disk: Path) -> None:
    body = os.urandom(2 * IN_FLIGHT_BYTES)
    put(tag.data, "big.raw", body)
    processor = whale_tag(small_disk / "backup", tag)
    serve = tag.serve

    def fill_up(data: bytes) -> bytes:
        tag.serve = serve  # type: ignore[method-assign]
        (small_disk / "other").write_bytes(b"\0" * (12 << 20))
        return serve(data)

    tag.serve = fill_up  # type: ignore[method-assign]
    with pytest.raises(SourceUnreadable, match="no space left in the backup folder"):
        opened(processor, f"{TAG}/big.raw")
    with pytest.raises(ConfigError, match="no space left in the backup folder"):
        processor.check()
    (small_disk / "other").unlink()
    processor.check()
    assert opened(processor, f"{TAG}/big.raw")[0] == body
    assert tag.served_bytes < 2 * len(body)


def test_names_that_are_no_tags_and_paths_that_lead_elsewhere(tag: SimulatedTag, backup: Path) -> None:
    with pytest.raises(ConfigError, match="is no name of a tag"):
        whale_tag(backup, tag, tags={"router": "127.0.0.1"})
    processor = whale_tag(backup, tag)

    for path in ("wt-other000/a", f"{TAG}/../a", f"{TAG}/a//b", TAG, "", f"{TAG}/a\0"):
        with pytest.raises(ItemError):
            processor.path(FileItem(path))
