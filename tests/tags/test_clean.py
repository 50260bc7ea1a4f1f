"""Only what is proven stored is erased from a tag: here is each way known in which erasing would be wrong."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from click.testing import CliRunner, Result

from ingest.cli import main
from ingest.config import Settings
from ingest.conversions import encode_gzip
from ingest.errors import SourceAway, SourceUnreadable
from ingest.items import FileItem
from ingest.raw_audio import RawFormat, encode_flac
from ingest.ssh.tag import open_tag
from ingest.stores.local import LocalStore
from ingest.tags import evidence
from ingest.tags.clean import Cleaning, Erased
from ingest.tags.evidence import Offload, Row
from ingest.tags.proof import Left, Proof, Prover
from tests.cluster import run as command
from tests.plugins.tag_folder import sound
from tests.s3_servers import S3Server, use_credentials
from tests.ssh_servers import TAG, USER, OpenSsh, simulated_tag
from tests.tags.cleaning import (
    LIKE_IT,
    NESTED,
    NOT_UTF8,
    ODD,
    OLD_S,
    OPTION,
    RAW,
    TABLE,
    TEXT,
    World,
    files_of,
    fill,
)

OTHER = b"Content of readme.txt"
"""Other bytes, as many as the file has."""

FORM = RawFormat(3, 16, 96_000, "big")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, rclone_s3: S3Server) -> Iterator[World]:
    """A tag that is not offloaded yet."""
    folder = tmp_path_factory.mktemp("cleaning")
    with simulated_tag(folder / "tag") as tag:
        yield World(folder, tag, rclone_s3, rclone_s3.make_bucket(), folder / "state", folder / "backup")


@pytest.fixture
def world(made: World, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A tag that was offloaded, and no Redis: what is erased is proven without one."""
    use_credentials(monkeypatch, made.server)
    monkeypatch.setenv("INGEST_STATE_DIR", str(made.state))
    if not made.job_id:
        made.offload()
    made.restore()
    monkeypatch.setenv("INGEST_REDIS_URL", f"unix://{tmp_path}/no-redis.sock")
    return made


@pytest.fixture
def clean(world: World) -> Callable[..., Result]:
    """Runs ``ingest tags clean`` on the tag."""
    return lambda *options: CliRunner().invoke(main, ["tags", "clean", *world.options, *options])


def said(done: Result) -> dict[str, dict[str, Any]]:
    """What is said of each file, the last word."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["path"]: line for line in lines}


def test_what_is_proven_is_erased_and_logged(world: World, clean: Callable[..., Result]) -> None:
    before = files_of(world.tag.data)
    assert {RAW, NESTED, TABLE, TEXT, ODD, OPTION, LIKE_IT} < before.keys()

    done = clean("--yes", "--json")

    assert (done.exit_code, done.stderr.count("proven stored")) == (0, 1), done.output
    assert {path: line["event"] for path, line in said(done).items()} == dict.fromkeys(before, "erased")
    assert files_of(world.tag.data) == {}
    assert (world.tag.data / "dive 1").is_dir()
    assert {path.removeprefix("/data/") for path in world.tag.removed} == before.keys()
    assert {command.split()[0] for command in world.tag.commands} <= {"hostname", "sha256sum", "systemctl"}
    assert not list(world.folder.rglob("pwned"))
    log = [
        json.loads(line)
        for line in (world.state / "offloads" / f"{TAG}.cleaned.jsonl").read_text().splitlines()
    ]
    assert [line["event"] for line in log] == ["erasing", "erased"] * len(before)
    assert {line["path"]: line["sha256"] for line in log} == {
        path: hashlib.sha256(body).hexdigest() for path, body in before.items()
    }
    again = clean("--yes", "--json")
    assert (again.exit_code, again.stdout) == (0, "")


def test_each_proof_is_shown_on_a_line(world: World, clean: Callable[..., Result]) -> None:
    done = clean("--dry-run")

    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(files_of(world.tag.data))
    [raw] = [line for line in lines if RAW in line]
    assert "(flac, job" in raw and str(world.backup) in raw and "SHA-256" in raw
    assert world.tag.removed == []


@pytest.mark.parametrize(("options", "code"), [((), 2), (("--dry-run",), 0)])
def test_nothing_is_erased_where_nobody_said_so(
    options: tuple[str, ...], code: int, world: World, clean: Callable[..., Result]
) -> None:
    done = clean(*options)

    assert done.exit_code == code
    assert world.tag.removed == []
    assert bool(world.tag.commands) == (not code), "it is said before anything is read"


def test_of_several_tags_those_that_cannot_be_cleaned_are_left_and_named(
    world: World, clean: Callable[..., Result]
) -> None:
    others = ["wt-other1", "wt-other2"]
    for name in others:
        (world.state / "offloads" / f"{name}.jsonl").unlink(missing_ok=True)

    done = CliRunner().invoke(
        main,
        ["tags", "clean", *(f"{name}=127.0.0.1:9" for name in others), *world.options, "--yes", "--json"],
    )

    assert done.exit_code == 2, done.output
    assert files_of(world.tag.data) == {}
    assert "wt-other1 is left: this machine has no record of an offload of wt-other1" in done.stderr
    assert done.stderr.endswith("left: wt-other1, wt-other2\n")


def test_a_full_scratch_disk_erases_nothing_and_is_named(
    world: World, clean: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkdtemp", full)

    done = clean("--yes")

    assert done.exit_code == 2
    assert "scratch cannot be used: No space left on device" in done.output
    assert world.tag.removed == []


def keep_time(path: Path, body: bytes) -> None:
    path.write_bytes(body)
    os.utime(path, (OLD_S, OLD_S))


def stored_otherwise(world: World, path: str, body: bytes) -> None:
    """Other bytes under a file's key, which the manifest has too."""
    world.put(world.key_of(path), body)
    world.edit_row(path, sha256=hashlib.sha256(body).hexdigest(), stored_bytes=len(body))


def other_flac(world: World) -> None:
    raw, flac = world.folder / "other.raw", world.folder / "other.flac"
    raw.write_bytes(sound(2000, seed=2) + b"\x01")
    encode_flac(raw, flac, FORM, level=2)
    stored_otherwise(world, RAW, flac.read_bytes())


def other_gzip(world: World) -> None:
    table, packed = world.folder / "other.csv", world.folder / "other.gz"
    table.write_bytes(b"1,2\n" * 506)
    encode_gzip(table, packed)
    stored_otherwise(world, TABLE, packed.read_bytes())


def cut_gzip(world: World) -> None:
    stored_otherwise(world, TABLE, world.get(world.key_of(TABLE))[:-10])


def as_link(world: World) -> None:
    backup = world.backup / TAG / TEXT
    backup.rename(backup.with_name("elsewhere"))
    backup.symlink_to(backup.with_name("elsewhere"))


def of_another_job(world: World) -> None:
    world.edit_summary(job_id="another1")


def twice(world: World) -> None:
    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        [row] = [row for row in rows if row["item"] == f"{TAG}/{TEXT}"]
        others = [row for row in rows if row["item"] not in (f"{TAG}/{TEXT}", f"{TAG}/{NESTED}")]
        return [*others, row, row]

    world.edit_manifest(edit)


def another_manifest(world: World) -> None:
    world.edit_manifest(lambda rows: [{**row, "item": f"wt-other/{row['item']}"} for row in rows])


THE_FILE: dict[str, tuple[str, Callable[[World], object], str]] = {
    "its content changed, with the same size and time": (
        TEXT,
        lambda w: keep_time(w.tag.data / TEXT, OTHER),
        "its content on the tag is not what was stored",
    ),
    "it grew": (
        TEXT,
        lambda w: keep_time(w.tag.data / TEXT, b"more"),
        "it has 4 bytes on the tag; 21 were stored",
    ),
    "it was written to, or a clock jumped": (
        TEXT,
        lambda w: os.utime(w.tag.data / TEXT),
        "or a clock jumped",
    ),
    "its time went back": (TEXT, lambda w: os.utime(w.tag.data / TEXT, (5, 5)), "or a clock jumped"),
    "it is new": (
        "new.raw",
        lambda w: (w.tag.data / "new.raw").write_bytes(b"new"),
        "it is not in the manifest",
    ),
    "it is new, in a folder": (
        "dive 1/1.raw",
        lambda w: (w.tag.data / "dive 1/1.raw").write_bytes(b"new"),
        "it is not in the manifest",
    ),
    "it moved": (
        "moved",
        lambda w: (w.tag.data / TEXT).rename(w.tag.data / "moved"),
        "it is not in the manifest",
    ),
    "its object is missing": (TEXT, lambda w: w.delete(w.key_of(TEXT)), "is missing from the destination"),
    "its object differs": (TEXT, lambda w: w.put(w.key_of(TEXT), OTHER), "has other content than was stored"),
    "its upload was cut off": (
        NESTED,
        lambda w: w.put(w.key_of(NESTED), w.get(w.key_of(NESTED))[:-1]),
        "bytes; 27 were stored",
    ),
    "its object is empty": (RAW, lambda w: w.put(w.key_of(RAW), b""), "has 0 bytes"),
    "its FLAC decodes to other sound": (RAW, other_flac, "does not decode to the bytes of the file"),
    "its FLAC is none": (RAW, lambda w: stored_otherwise(w, RAW, b"fLaC" + b"\0" * 900), "cannot be decoded"),
    "its table unpacks to another": (TABLE, other_gzip, "does not decode to the bytes of the file"),
    "its table is cut off": (TABLE, cut_gzip, "cannot be decoded"),
    "its object is another file": (
        TEXT,
        lambda w: stored_otherwise(w, TEXT, b"another"),
        "has not the content of the file",
    ),
    "its backup copy is missing": (NESTED, lambda w: (w.backup / TAG / NESTED).unlink(), "is not there"),
    "its backup copy differs": (
        TEXT,
        lambda w: (w.backup / TAG / TEXT).write_bytes(OTHER),
        "has other content",
    ),
    "its backup copy is cut off": (
        TEXT,
        lambda w: (w.backup / TAG / TEXT).write_bytes(b"con"),
        "has 3 bytes, not 21",
    ),
    "its backup copy is a link": (TEXT, as_link, "is no regular file"),
    "it has no backup copy": (TEXT, lambda w: w.edit_row(TEXT, {"backup": None}), "names no backup copy"),
    "its backup copy is named by half": (
        TEXT,
        lambda w: w.edit_row(TEXT, {"backup": TEXT}),
        "names no backup copy",
    ),
    "the manifest has another hash of it": (
        TEXT,
        lambda w: w.edit_row(TEXT, {"source_sha256": "0" * 64}),
        "has other content",
    ),
    "the manifest has no hash of it": (
        TEXT,
        lambda w: w.edit_row(TEXT, {"source_sha256": None}),
        "does not say what its content was",
    ),
    "the manifest has it of another device": (
        TEXT,
        lambda w: w.edit_row(TEXT, {"device": "wt-other1"}),
        "it is not in the manifest",
    ),
    "the manifest has another path of it": (
        TEXT,
        lambda w: w.edit_row(TEXT, {"source_path": NESTED}),
        "it is not in the manifest",
    ),
    "the manifest has it twice": (TEXT, twice, "says several things of it"),
    "it was stored in an unknown form": (
        TEXT,
        lambda w: w.edit_row(TEXT, {"conversion": "ape"}),
        "in a form that is not known",
    ),
}
"""A file of which something is wrong, what that is, and the reason that is given. All other files are erased."""


@pytest.mark.parametrize("case", THE_FILE)
def test_a_file_stays_where(case: str, world: World, clean: Callable[..., Result]) -> None:
    path, wrong, reason = THE_FILE[case]
    wrong(world)
    before = files_of(world.tag.data)

    done = clean("--yes", "--json")

    assert done.exit_code == 3, done.output
    assert said(done)[path]["event"] == "left"
    assert reason in said(done)[path]["reason"]
    left = files_of(world.tag.data)
    assert left[path] == before[path]
    assert all(said(done)[other]["event"] == "left" for other in left)
    assert f"/data/{path}" not in world.tag.removed
    assert len(left) < len(before)


def another_key(world: World) -> None:
    world.tag.vanish()
    world.tag.host_key, old = asyncssh.generate_private_key("ssh-ed25519"), world.tag.host_key
    world.tag.start()
    world.tag.host_key = old


def nothing_there(world: World) -> None:
    destination = {**world.records()[-1]["destination"], "url": f"s3://{world.server.make_bucket()}/field"}
    world.edit_record(destination=destination)


def bucket_gone(world: World) -> None:
    destination = {**world.records()[-1]["destination"], "url": "s3://gone-for-good/field"}
    world.edit_record(destination=destination)


def store_gone(world: World) -> None:
    world.edit_record(
        destination={**world.records()[-1]["destination"], "endpoint_url": "http://127.0.0.1:9"}
    )


def lost_row(world: World) -> None:
    world.edit_manifest(lambda rows: rows[:-1])


def garbled(world: World) -> None:
    key = f"{world.prefix}manifest.parquet"
    world.put(key, world.get(key)[:-20])


def not_asked_for(world: World) -> None:
    config = json.loads(world.get(f"{world.prefix}job.json"))["config"]
    config["path_processor"]["params"]["tags"] = {"wt-other1": ""}
    world.edit_summary(config=config)


def from_elsewhere(world: World) -> None:
    config = json.loads(world.get(f"{world.prefix}job.json"))["config"]
    config["path_processor"]["params"]["root_dir"] = "/data/old"
    world.edit_summary(config=config)


def gone_elsewhere(world: World) -> None:
    config = json.loads(world.get(f"{world.prefix}job.json"))["config"]
    config["destination"]["url"] = "s3://elsewhere/field"
    world.edit_summary(config=config)


THE_TAG: dict[str, tuple[Callable[[World], object], str, int]] = {
    "its host key has changed": (another_key, "the host key of wt-a1b2c3d4 has changed", 2),
    "another tag answers": (lambda w: setattr(w.tag, "name", "wt-other1"), "says that it is 'wt-other1'", 2),
    "it is out of reach": (lambda w: w.tag.vanish(), "is out of reach", 2),
    "it still records": (
        lambda w: setattr(w.tag, "service_state", "active"),
        "is active: it may write to any file",
        3,
    ),
    "it was never offloaded": (
        lambda w: shutil.rmtree(w.state / "offloads"),
        "has no record of an offload",
        2,
    ),
    "the record is of another device": (
        lambda w: w.edit_record(device="wt-other1"),
        "is not one of wt-a1b2c3d4",
        3,
    ),
    "the record's job leads elsewhere": (
        lambda w: w.edit_record(job_id="../x"),
        "is not one of wt-a1b2c3d4",
        3,
    ),
    "the record names no destination": (lambda w: w.edit_record(destination=None), "names no destination", 3),
    "the record names another bucket": (nothing_there, "has not finished", 3),
    "the bucket is gone": (bucket_gone, "or offload the tag again", 3),
    "the job was cancelled": (lambda w: w.edit_summary(state="cancelled"), "is cancelled, not complete", 3),
    "the job has failed items": (lambda w: w.edit_summary(state="failed"), "is failed, not complete", 3),
    "the job has not finished": (lambda w: w.delete(f"{w.prefix}job.json"), "has not finished", 3),
    "the job's summary is garbled": (lambda w: w.put(f"{w.prefix}job.json", b"{"), "is garbled", 3),
    "the job is another": (of_another_job, "is of job another1", 3),
    "the job did not offload this tag": (not_asked_for, "did not offload wt-a1b2c3d4", 3),
    "the job took another folder": (from_elsewhere, "offloaded /data/old/ of wt-a1b2c3d4, not /data/", 3),
    "the job went elsewhere": (gone_elsewhere, "went to another destination", 3),
    "the manifest is missing": (lambda w: w.delete(f"{w.prefix}manifest.parquet"), "has no manifest", 3),
    "the manifest is garbled": (garbled, "is truncated or garbled", 3),
    "the manifest lost a row": (lost_row, "objects; the job stored", 3),
    "the manifest is another job's": (another_manifest, "it is not in the manifest", 3),
    "the backup drive is not there": (
        lambda w: w.backup.rename(w.backup.with_name("away")),
        "is not there",
        3,
    ),
    "the store is out of reach": (store_gone, "127.0.0.1:9", 6),
    "the store refuses": (
        lambda w: os.environ.update(AWS_SECRET_ACCESS_KEY="wrong"),
        "SignatureDoesNotMatch",
        6,
    ),
}
"""What is wrong with the whole tag, its offload or the store, the reason that is given, and the exit code."""


@pytest.mark.parametrize("case", THE_TAG)
def test_nothing_is_erased_where(
    case: str, world: World, clean: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "RETRIES", 0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", world.server.secret_key)
    wrong, reason, code = THE_TAG[case]
    before = files_of(world.tag.data)
    try:
        wrong(world)

        done = clean("--yes", "--json")
    finally:
        world.tag.vanish()
        world.tag.start()
        with_away = world.backup.with_name("away")
        if with_away.exists():
            with_away.rename(world.backup)

    error = (
        done.exception if done.exception is not None and not isinstance(done.exception, SystemExit) else None
    )
    assert done.exit_code != 0
    assert reason in done.output + str(error)
    assert getattr(error, "exit_code", done.exit_code) == code
    assert world.tag.removed == []
    assert files_of(world.tag.data) == before


def link_now(world: World) -> None:
    (world.tag.data / TEXT).unlink()
    (world.tag.data / TEXT).symlink_to(NESTED)


AFTER: dict[str, tuple[Callable[[World], object], str]] = {
    "it was written to": (lambda w: (w.tag.data / TEXT).write_bytes(OTHER), "written to since it was proven"),
    "its content changed, with the same time": (
        lambda w: keep_time(w.tag.data / TEXT, OTHER),
        "its content changed since",
    ),
    "it vanished": (lambda w: (w.tag.data / TEXT).unlink(), "there is no"),
    "it is a link now": (
        link_now,
        "no regular file any more",
    ),
    "its backup copy is gone": (lambda w: (w.backup / TAG / TEXT).unlink(), "is not there"),
    "its backup copy was touched": (lambda w: (w.backup / TAG / TEXT).write_bytes(b"x"), "was touched since"),
    "its object is gone": (lambda w: w.delete(w.key_of(TEXT)), "was touched since"),
    "its object was replaced": (lambda w: w.put(w.key_of(TEXT), OTHER), "was touched since"),
}
"""What happens to a file between its proof and its erasing."""


def cleaning(world: World) -> tuple[Cleaning, Proof]:
    settings = Settings.load()
    tag = open_tag(TAG, str(world.tag.address), settings, user=USER, key_file=world.tag.user_key)
    made = Cleaning(tag, settings)
    [proof] = [one for one in made.findings() if isinstance(one, Proof) and one.file.path == TEXT]
    return made, proof


@pytest.mark.parametrize("case", AFTER)
def test_a_file_stays_where_after_its_proof(case: str, world: World) -> None:
    made, proof = cleaning(world)
    wrong, reason = AFTER[case]
    wrong(world)

    done = made.erase(proof)

    assert isinstance(done, Left)
    assert reason.lower() in done.reason.lower()
    assert world.tag.removed == []


def test_a_tag_that_records_again_meanwhile_keeps_its_files(world: World) -> None:
    made, proof = cleaning(world)
    world.tag.service_state = "active"

    with pytest.raises(SourceUnreadable, match="it may write to any file"):
        made.erase(proof)

    assert world.tag.removed == []


def test_a_file_that_is_still_there_is_not_logged_as_erased(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.ssh.remote_files.RemoteFiles.remove", lambda self, path: None)
    made, proof = cleaning(world)

    done = made.erase(proof)

    assert isinstance(done, Left)
    assert "still has it" in done.reason
    log = (world.state / "offloads" / f"{TAG}.cleaned.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in log] == ["erasing", "kept"]


def test_a_tag_that_vanishes_meanwhile_keeps_its_files(world: World) -> None:
    made, proof = cleaning(world)
    world.tag.vanish()
    try:
        with pytest.raises(SourceAway):
            made.erase(proof)
    finally:
        world.tag.start()

    assert TEXT in files_of(world.tag.data)
    assert isinstance(made.erase(proof), Erased), "it is back"
    assert TEXT not in files_of(world.tag.data)


def test_a_backup_copy_that_is_the_object_itself_is_no_second_copy(world: World, tmp_path: Path) -> None:
    body, key = (world.tag.data / TEXT).read_bytes(), "stored/object"
    (tmp_path / "stored").mkdir()
    (tmp_path / key).write_bytes(body)
    (tmp_path / "backup").hardlink_to(tmp_path / key)
    sha256 = hashlib.sha256(body).hexdigest()
    row = Row(
        TEXT, len(body), OLD_S * 10**9, sha256, key, len(body), sha256, "as_is", str(tmp_path / "backup")
    )
    store = LocalStore(f"file://{tmp_path}", tmp_path)
    tag = open_tag(TAG, str(world.tag.address), Settings.load(), user=USER, key_file=world.tag.user_key)
    prover = Prover(tag.files, [Offload("j1", rows={TEXT: row}, bucket=store)], tmp_path)

    found = prover.proof(FileItem(TEXT, len(body), OLD_S * 10**9))

    assert isinstance(found, Left)
    assert "there is no second copy" in found.reason


def test_an_earlier_offload_may_prove_what_the_latest_does_not(
    world: World, clean: Callable[..., Result]
) -> None:
    record = world.records()[-1]
    with (world.state / "offloads" / f"{TAG}.jsonl").open("a") as file:
        file.write(json.dumps({**record, "job_id": "unfinished"}) + "\n")

    assert clean("--yes").exit_code == 0
    assert files_of(world.tag.data) == {}


def test_what_an_offload_found_stored_already_is_proven_as_what_it_stored(
    world: World, clean: Callable[..., Result]
) -> None:
    count = len(world.rows())
    world.edit_row(TEXT, status="skipped")
    world.edit_row(TABLE, status="skipped")
    world.edit_summary(objects=count - 2)

    done = clean("--yes")

    assert done.exit_code == 0, done.output
    assert files_of(world.tag.data) == {}


def test_a_tag_with_openssh_is_offloaded_and_cleaned(
    openssh: OpenSsh, tmp_path: Path, redis_url: str
) -> None:
    fill(openssh.data)
    (openssh.data / NOT_UTF8).write_bytes(b"a,b\n")
    login = ["--user", openssh.login().user, "--key-file", str(openssh.user_key)]
    tag, root = f"{TAG}={openssh.address}", str(openssh.data)
    to = ["--to", str(tmp_path / "stored"), "--backup", str(tmp_path / "backup"), "--yes", "-p", "1"]
    done = command("tags", "offload", tag, *login, *to, "--set", f"path_processor.params.root_dir={root}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([*(tmp_path / "stored").rglob("caf%E9 100%25.csv.gz")]) == 1
    again = command("tags", "offload", tag, *login, *to, "--set", f"path_processor.params.root_dir={root}")
    assert again.returncode == 0, again.stdout + again.stderr
    records = Settings.load().state_dir / "offloads" / f"{TAG}.jsonl"
    records.write_text(records.read_text().splitlines()[-1] + "\n")
    (openssh.data / "new").write_bytes(b"new")

    erased = CliRunner().invoke(main, ["tags", "clean", tag, *login, "--root-dir", root, "--yes"])

    assert erased.exit_code == 3, erased.output
    assert files_of(openssh.data) == {"new": b"new"}


def test_the_gzip_in_the_store_is_one_that_gunzip_reads(world: World) -> None:
    assert gzip.decompress(world.get(world.key_of(TABLE))) == (world.tag.data / TABLE).read_bytes()
