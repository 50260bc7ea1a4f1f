"""Whale tags as people offload them: found, copied and stored whole, whatever happens to tag, laptop or node."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import asyncssh
import pytest
import redis

from ingest import offloads
from ingest.backup import PART_SUFFIX
from ingest.config import Settings
from ingest.ledger import State
from ingest.manifest import read_manifest
from ingest.ssh.sftp import IN_FLIGHT_BYTES
from tests.cluster import Command, run
from tests.engine.conftest import Invoke
from tests.engine.making import MIB, bucket_of, data, last_job, objects, s3_folder, until
from tests.plugins.tag_folder import sound, write_config, write_info
from tests.s3_servers import S3Server
from tests.ssh_servers import PASSWORD, SERVICE, TAG, OpenSsh, SimulatedTag, simulated_tag

BIG_MIB = int(os.environ.get("WHALE_TAG_BIG_MIB", "48"))
"""The size of the file in which things break; 1024 for a trial of an hour's worth of audio."""


def fill(folder: Path) -> dict[str, bytes]:
    """What lies on a tag: raw audio, FLAC, CSV, YAML, nested folders, odd names."""
    files = {
        "1658344300.raw": os.urandom(200_000),
        "1658344301.raw": os.urandom(200_000),
        "done.flac": b"fLaC" + os.urandom(1000),
        "data_light.csv": b"t,l\n" * 2000,
        "data_tag_info.yaml": b"wt_id: wt-a1b2c3d4\n",
        "old/2022/data config.txt": b"audio=on\n",
        "old/2022/it's $(odd)\n.csv": b"1,2\n",
        "empty.log": b"",
    }
    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    (folder / "lost+found").mkdir()
    (folder / "lost+found" / "x").write_bytes(b"never taken")
    return files


def login_options(tag: SimulatedTag | OpenSsh) -> tuple[str, ...]:
    return ("--user", tag.login().user, "--key-file", str(tag.user_key))


def offload_of(tag: SimulatedTag | OpenSsh, *more: str) -> list[str]:
    """The command that offloads a tag without asking."""
    return ["tags", "offload", f"{tag.name}={tag.address}", *login_options(tag), *more, "--yes"]


def to_s3(destination: dict[str, str]) -> list[str]:
    sets = [("--set", f"destination.{name}={value}") for name, value in destination.items() if name != "url"]
    return ["--to", destination["url"], *(word for pair in sets for word in pair)]


@pytest.mark.parametrize("server", ["tag", "openssh"])
def test_a_tag_is_listed_and_offloaded_to_s3_and_every_byte_accounted_for(
    server: str,
    request: pytest.FixtureRequest,
    redis_url: str,
    rclone_s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    tag = request.getfixturevalue(server)
    files = fill(tag.data)
    destination = s3_folder(rclone_s3, monkeypatch)
    backup = tmp_path / "backup"
    if server == "tag":
        listed = run(
            "tags",
            "list",
            "--network",
            "127.0.0.1/32",
            "--port",
            str(tag.port),
            *login_options(tag),
            "--json",
        )
        assert listed.returncode == 0, listed.stderr
        assert json.loads(listed.stdout) == {
            "tag": TAG,
            "address": str(tag.address),
            "free_bytes": 999 * 1024,
            "files": len(files),
            "size_bytes": sum(map(len, files.values())),
            "firmware": "2.3-1",
            "capture": "active",
            "trouble": None,
        }
    offload = [
        *offload_of(tag, *to_s3(destination), "--no-convert", "--backup", str(backup), "-p", "2"),
        "--restart-capture",
        *(() if server == "tag" else ("--set", f"path_processor.params.root_dir={tag.data}")),
    ]
    done = run(*offload)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its capture service runs again" in done.stderr

    job = last_job()
    day = job.context.date
    stored = data(objects(rclone_s3, bucket_of(destination)))
    assert stored == {f"raw/{day}/{TAG}/{path}": body for path, body in files.items()}
    assert {
        str(path.relative_to(backup / TAG)): path.read_bytes() for path in backup.rglob("*") if path.is_file()
    } == files
    rows = {row["item"]: row for row in read_manifest(job.store, job.job_id, job.settings.scratch)}
    for path, body in files.items():
        facts = dict(rows[f"{TAG}/{path}"]["metadata"])
        assert facts["source_sha256"] == rows[f"{TAG}/{path}"]["sha256"] == sha256(body).hexdigest()
        assert (facts["device"], facts["source_path"]) == (TAG, path)
        assert facts["backup"] == str(backup / TAG / path)
    [record] = offloads.read(Settings.load(), TAG)
    assert (record["job_id"], record["state"], record["backup"]) == (job.job_id, "active", str(backup))
    assert {path.name for path in tag.data.iterdir()} >= {"1658344300.raw", "lost+found"}, "nothing is erased"

    if isinstance(tag, SimulatedTag):
        served_bytes = tag.served_bytes
        assert run(*offload).returncode == 0
        assert tag.served_bytes == served_bytes, "the second time nothing moves"
        assert last_job().status().counts.skipped == len(files)


def test_raw_audio_is_converted_by_what_the_tag_says_of_it(
    tag: SimulatedTag, redis_url: str, tmp_path: Path
) -> None:
    files = {"dive/1700000000000.raw": sound(5000), "dive/data_light.csv": b"t,l\n" * 100}
    for path, body in files.items():
        (tag.data / path).parent.mkdir(exist_ok=True)
        (tag.data / path).write_bytes(body)
    write_config(tag.data / "dive")
    write_info(tag.data / "dive")
    stored = tmp_path / "stored"
    done = run(*offload_of(tag, "--to", str(stored), "-p", "1"))
    assert done.returncode == 0, done.stderr
    job = last_job()
    below = stored / "raw" / job.context.date / TAG / "dive"
    assert {path.name for path in below.iterdir()} == {
        *(
            "1700000000000.flac",
            "data_light.csv.gz",
            "data_config_1700000000.txt",
            "data_tag_info_1700000000.yaml",
        )
    }
    rows = {
        row["item"]: dict(row["metadata"])
        for row in read_manifest(job.store, job.job_id, job.settings.scratch)
    }
    for path, body in files.items():
        facts = rows[f"{TAG}/{path}"]
        assert facts["source_sha256"] == sha256(body).hexdigest()
        assert Path(facts["backup"]).read_bytes() == body
    assert rows[f"{TAG}/dive/1700000000000.raw"]["conversion"] == "flac"
    assert job.settings.state_dir / "backup" / TAG in Path(facts["backup"]).parents


def test_a_tag_vanishes_in_a_big_file_the_node_is_killed_and_nothing_is_lost(
    tag: SimulatedTag, redis_url: str, tmp_path: Path
) -> None:
    fill(tag.data)
    big = tag.data / "big.raw"
    piece = os.urandom(MIB)
    with big.open("wb") as file:
        for number in range(BIG_MIB):
            file.write(number.to_bytes(4) + piece[4:])
    expected = sha256(big.read_bytes()).hexdigest()
    total_bytes = sum(path.stat().st_size for path in tag.data.rglob("*") if path.is_file()) - len(
        b"never taken"
    )
    backup, part = tmp_path / "backup", tmp_path / "backup" / TAG / f".big.raw{PART_SUFFIX}"
    tag.breaks_at_bytes = 16 * MIB

    offload = [
        *("tags", "offload", f"{TAG}={tag.address}", *login_options(tag), "--to", str(tmp_path / "stored")),
        *("--no-convert", "--backup", str(backup), "--yes", "-p", "1", "--json", "--set", "queue.lease_s=4"),
    ]
    with Command(*offload) as first:
        until(lambda: tag.breaks_at_bytes is None)  # the tag has vanished
        until(lambda: "out of reach" in (last_job().status().trouble or ""))
        first.kill()
    job = last_job()
    assert job.status().counts.failed == 0
    kept_bytes = part.stat().st_size
    assert 0 < kept_bytes < BIG_MIB * MIB
    tag.breaks_at_bytes = tag.served_bytes + 16 * MIB
    tag.start()
    with Command("join", "-j", job.job_id, "-p", "1", "--json") as second:
        until(lambda: tag.breaks_at_bytes is None)  # ... and once more
        assert job.status().counts.failed == 0
        tag.start()
        assert second.exit_code() == 0, second.errors

    assert job.status().state is State.COMPLETE
    assert job.status().counts.failed == 0
    assert sha256((backup / TAG / "big.raw").read_bytes()).hexdigest() == expected
    stored = tmp_path / "stored" / "raw" / job.context.date / TAG / "big.raw"
    assert sha256(stored.read_bytes()).hexdigest() == expected
    assert tag.removed == []
    # What was on its way when the tag broke off is served again, and nothing else.
    assert tag.served_bytes <= total_bytes + 2 * 2 * IN_FLIGHT_BYTES
    print(f"{total_bytes} bytes on the tag, {tag.served_bytes} served")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={BIG_MIB}m", "tmpfs", str(point)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_the_laptops_disk_is_full_and_the_job_waits_until_there_is_room(
    tag: SimulatedTag, redis_url: str, small_disk: Path, tmp_path: Path
) -> None:
    files = fill(tag.data)
    (tag.data / "big.raw").write_bytes(files.setdefault("big.raw", os.urandom(BIG_MIB // 2 * MIB)))
    other = small_disk / "other"
    other.write_bytes(b"\0" * (BIG_MIB * 3 // 4 * MIB))
    stored = tmp_path / "stored"
    offload = offload_of(
        tag, "--to", str(stored), "--no-convert", "--backup", str(small_disk / "backup"), "-p", "1", "--json"
    )
    with Command(*offload) as command:
        in_hand = command.wait_for(
            lambda event: (
                any("no space left" in node.get("in_hand", "") for node in event.get("nodes", []))
                or "no space left" in str(event)
            )
        )
        assert in_hand["state"] == "uploading"
        other.unlink()
        assert command.exit_code() == 0, command.errors
    job = last_job()
    assert job.status().counts.failed == 0
    below = stored / "raw" / job.context.date / TAG
    assert {
        str(path.relative_to(below)): path.read_bytes() for path in below.rglob("*") if path.is_file()
    } == files
    assert tag.served_bytes == sum(map(len, files.values())), "nothing is fetched twice"


def test_passwords_are_told_to_nobody_but_the_tag(
    tag: SimulatedTag, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    fill(tag.data)
    monkeypatch.setenv("INGEST_TAG_PASSWORD", PASSWORD)
    stored = tmp_path / "stored"
    done = run(
        "tags",
        "offload",
        f"{TAG}={tag.address}",
        "--to",
        str(stored),
        "--no-convert",
        "--yes",
        "-p",
        "1",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert set(tag.logins) == {PASSWORD}
    written = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "tag" not in path.parts
    )
    with redis.Redis.from_url(redis_url) as client:
        dumped = b"".join(client.dump(key) or b"" for key in client.scan_iter())
    for text in (done.stdout.encode(), done.stderr.encode(), written, dumped):
        assert PASSWORD.encode() not in text


def test_two_tags_are_found_and_one_that_is_away_keeps_nobody_waiting(
    tag: SimulatedTag, redis_url: str, tmp_path: Path
) -> None:
    with simulated_tag(tmp_path / "other", "wt-e5f6a7b8") as other:
        other.take_login_of(tag)
        files = {TAG: fill(tag.data), "wt-e5f6a7b8": fill(other.data)}
        tag.breaks_at_bytes = 100_000
        stored = tmp_path / "stored"
        offload = [
            *("tags", "offload", f"{TAG}={tag.address}", f"wt-e5f6a7b8={other.address}", *login_options(tag)),
            *(
                "--to",
                str(stored),
                "--no-convert",
                "--yes",
                "-p",
                "1",
                "--json",
                "--set",
                "queue.batch_items=2",
            ),
        ]
        with Command(*offload) as command:
            until(lambda: tag.breaks_at_bytes is None)
            until(lambda: len(list(stored.rglob("wt-e5f6a7b8/**/*.csv"))) == 2)
            assert last_job().status().state is State.UPLOADING
            tag.start()
            assert command.exit_code() == 0, command.errors
        day = last_job().context.date
        for name, expected in files.items():
            below = stored / "raw" / day / name
            found = {
                str(path.relative_to(below)): path.read_bytes() for path in below.rglob("*") if path.is_file()
            }
            assert found == expected


def test_a_tag_whose_capture_stays_stopped_is_said_to_be_so(
    tag: SimulatedTag, redis_url: str, tmp_path: Path
) -> None:
    (tag.data / "a.bin").write_bytes(b"1")
    to = ("--to", str(tmp_path / "stored"), "-p", "1", "--restart-capture")
    tag.service_state = "inactive"  # as an offload that was broken off left it

    done = run(*offload_of(tag, *to))

    assert done.returncode == 0, done.stderr
    assert f"{TAG}: its capture service was inactive when this offload began" in done.stderr
    assert f"run `sudo systemctl start {SERVICE}`" in done.stderr
    assert tag.service_state == "inactive"


def test_a_new_key_is_refused_until_it_is_trusted(tag: SimulatedTag, invoke: Invoke, tmp_path: Path) -> None:
    fill(tag.data)
    at = f"{TAG}={tag.address}"
    offload = [
        "tags",
        "offload",
        at,
        *login_options(tag),
        "--to",
        str(tmp_path / "stored"),
        "--no-convert",
        "--dry-run",
    ]
    assert invoke(*offload).exit_code == 0
    assert tag.service_state == "active", "a dry run leaves the tag as it is"
    tag.vanish()
    tag.host_key = asyncssh.generate_private_key("ssh-ed25519")
    tag.start()
    refused = invoke(*offload)
    assert refused.exit_code == 2
    assert f"host key of {TAG} has changed" in refused.stderr
    listed = invoke(
        "tags", "list", "--network", "127.0.0.1/32", "--port", str(tag.port), *login_options(tag), "--json"
    )
    assert "has changed" in json.loads(listed.stdout)["trouble"]
    assert invoke("tags", "trust", at).exit_code == 2, "nobody is there to ask"
    trusted = invoke("tags", "trust", at, "--yes")
    assert trusted.exit_code == 0
    assert tag.host_key.get_fingerprint() in trusted.stderr
    away = invoke("tags", "trust", f"{TAG}=127.0.0.1:1", "--yes")
    assert f"{TAG}=ADDRESS says where it is" in away.stderr
    assert invoke(*offload).exit_code == 0


def test_tags_are_named_or_found(tag: SimulatedTag, invoke: Invoke, tmp_path: Path) -> None:
    fill(tag.data)
    here = ("--network", "127.0.0.1/32", "--port", str(tag.port), *login_options(tag))
    more = ("--to", str(tmp_path / "stored"), "--no-convert", "--dry-run")
    for names in ((TAG,), ("--all",)):
        done = invoke("tags", "offload", *names, *here, *more)
        assert done.exit_code == 0, done.stderr
        assert f"{TAG}:/data/1658344300.raw -> raw/" in done.stdout
    converted = invoke("tags", "offload", TAG, *here, "--to", str(tmp_path / "stored"), "--dry-run")
    assert re.search(rf"-> raw/[0-9-]+/{TAG}/1658344300\.flac\n", converted.stdout)
    missing = invoke("tags", "offload", "wt-zzzzzzzz", *here, *more)
    assert missing.exit_code == 2
    assert "wt-zzzzzzzz does not answer on 127.0.0.1/32" in missing.stderr
    assert "name the tags" in invoke("tags", "offload", *more).stderr
    assert "is no address" in invoke("tags", "offload", f"{TAG}=a b", *more).stderr
    assert "99999 is no port" in invoke("tags", "list", "--port", "99999").stderr
