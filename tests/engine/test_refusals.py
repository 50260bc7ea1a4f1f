"""What is wrong is said before anything is listed or stored, with a place and a hint, and the right exit code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from ingest.config import Settings
from tests.audit import make_files
from tests.engine.conftest import Invoke
from tests.engine.making import create, files_config, keys_in_redis, s3_folder
from tests.s3_servers import S3Server, free_port

TILES = {
    "type": "tiles",
    "extent": {"x": [0, 64], "y": [0, 64], "z": [0, 2]},
    "tile_size": {"x": 32, "y": 32},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of three files."""
    make_files(tmp_path / "source", 3)
    return tmp_path / "source"


def refused(invoke: Invoke, config: Path, code: int = 2, *options: str) -> str:
    """What ``ingest create`` says where it refuses; it has made no job, and claims no fault of ours."""
    done = invoke("create", config, "--yes", *options)
    assert done.exit_code == code, done.output
    assert "fault of ours" not in done.output
    assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr
    url = Settings.load().redis_url
    assert url is None or code == 5 or keys_in_redis(url) == set()
    return done.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "def __init__(self, params, context):\n        raise RuntimeError('no licence')",
            "fault in the plugin",
        ),
        ("def check(self):\n        raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("def suffix(self, item):\n        return 1 / 0", "own_refused.Tiles: ZeroDivisionError"),
        ("uploads = TileProcessor.uploads", "'own_refused.Tiles' lacks uploads()"),
    ],
    ids=["made", "checked", "asked", "unfinished"],
)
def test_a_faulty_plugin_is_named(
    tmp_path: Path,
    redis_url: str,
    invoke: Invoke,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    said: str,
) -> None:
    (tmp_path / "own_refused.py").write_text(
        "from ingest.processors import TileProcessor\n\n"
        "class Tiles(TileProcessor):\n    def uploads(self, source):\n        yield from ()\n\n    " + body
    )
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{tmp_path}/")
    monkeypatch.delitem(sys.modules, "own_refused", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    tiles = {"class": "own_refused.Tiles"}
    config = files_config(tmp_path, source, f"file://{tmp_path}/stored", tile_processor=tiles)

    assert said in refused(invoke, config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "x",\n  "ingest_job": {"type": "files",}}', "line 2, column"),
        ('{"name": "x"', "line 1, column"),
        ("[]", "holds a list; expected an object"),
        ('{"name": "x", "name": "y"}', "'name' appears twice"),
    ],
)
def test_a_config_that_is_no_json_says_where(
    tmp_path: Path, redis_url: str, invoke: Invoke, text: str, said: str
) -> None:
    (tmp_path / "config.json").write_text(text)

    assert said in refused(invoke, tmp_path / "config.json")


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"upload": {"digest": []}}, "upload.digest", "did you mean 'digests'?"),
        ({"pathprocessor": {}}, "pathprocessor", "did you mean 'path_processor'"),
        (
            {"path_processor": {"class": "foldr", "params": {}}},
            "path_processor.class",
            "did you mean 'folder'?",
        ),
        (
            {"path_processor": {"class": "file", "params": {}}},
            "path_processor.class",
            "it is a tile processor",
        ),
        (
            {"path_processor": {"class": "folder", "params": {}}},
            "path_processor.params.root_dir",
            "is missing",
        ),
        ({"tile_processor": {"class": "os.path"}}, "tile_processor.class", "INGEST_PLUGIN_PATHS"),
        ({"ingest_job": {"type": "tils"}}, "ingest_job.type", "did you mean 'tiles'"),
        ({"ingest_job": TILES | {"extent": {"x": [0, 0], "y": [0, 64]}}}, "extent.x", "is empty"),
        ({"ingest_job": TILES | {"extent": {"x": [64, 0], "y": [0, 64]}}}, "extent.x", "is empty"),
        ({"ingest_job": TILES | {"extent": {"x": [10, 64], "y": [0, 64]}}}, "ingest_job", "start at 0"),
        ({"ingest_job": TILES | {"extent": {"x": [-32, 64], "y": [0, 64]}}}, "extent.x", "not be negative"),
        ({"destination": {"key": "../{path}"}}, "destination.key", ".."),
        ({"destination": {"key": "/{path}"}}, "destination.key", "/"),
        ({"destination": {"key": "{path}/../../x"}}, "destination.key", ".."),
        ({"destination": {"key": ".ingest/{path}"}}, "destination.key", ".ingest"),
        ({"destination": {"key": "same"}}, "destination.key", "key"),
        ({"destination": {"key": "{name}"}}, "destination.key", "two items have one key"),
        ({"destination": {"url": "ftp://example.org/x"}}, "destination.url", "s3://"),
        ({"destination": {"url": "s3://user:secret@bucket"}}, "destination.url", "profile"),
        ({"expires_after_days": 0}, "expires_after_days", "greater than 0"),
    ],
)
def test_a_config_that_cannot_be_used_names_place_and_remedy(
    tmp_path: Path,
    source: Path,
    redis_url: str,
    invoke: Invoke,
    changes: dict[str, Any],
    place: str,
    said: str,
) -> None:
    (source / "twin").mkdir()
    (source / "twin" / "rec-00000.dat").write_bytes(b"twin")
    destination = {"url": f"file://{tmp_path}/stored", **changes.get("destination", {})}
    config = files_config(
        tmp_path, source, destination, **{k: v for k, v in changes.items() if k != "destination"}
    )

    error = refused(invoke, config)

    assert place in error
    assert said in error
    assert "secret" not in error
    assert not (tmp_path / "stored").exists() or place == "destination.key", "it looked before it touched"


@pytest.mark.parametrize("kind", ["missing", "a file", "unreadable", "inside out"])
def test_a_source_that_cannot_be_listed(tmp_path: Path, redis_url: str, invoke: Invoke, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "a file":
        root.write_bytes(b"")
    elif kind == "unreadable":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        root.mkdir(mode=0)
    elif kind == "inside out":
        root.symlink_to("root")

    error = refused(invoke, files_config(tmp_path, root, f"file://{tmp_path}/stored"))

    assert str(root) in error
    assert not (tmp_path / "stored").exists()


class TestRedis:
    def test_that_is_not_there_is_5(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
    ) -> None:
        monkeypatch.setenv("INGEST_REDIS_URL", f"redis://:hushhush@127.0.0.1:{free_port()}/0")

        error = refused(invoke, files_config(tmp_path, source, f"file://{tmp_path}/stored"), 5)

        assert "cannot be reached" in error
        assert "hushhush" not in error
        assert invoke("status", "-j", "abcdefgh").exit_code == 5

    def test_that_refuses_the_password_is_5(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
    ) -> None:
        monkeypatch.setenv("INGEST_REDIS_URL", redis_url.replace("for-tests-only", "hushhush"))

        for command in (("list",), ("status", "-j", "abcdefgh"), ("join", "-j", "abcdefgh")):
            done = invoke(*command)
            assert done.exit_code == 5, done.output
            assert "refuses" in done.stderr
            assert "hushhush" not in done.output

    def test_without_the_job_is_2(self, redis_url: str, invoke: Invoke) -> None:
        for command in ("status", "join", "cancel", "retry", "complete", "failures", "verify"):
            done = invoke(command, "-j", "nosuchid", *(["--yes"] if command == "cancel" else []))
            assert done.exit_code == 2, done.output
            assert "no job 'nosuchid'" in done.stderr
            assert "ingest list" in done.stderr

    def test_with_a_job_of_a_newer_version_is_2(
        self, tmp_path: Path, source: Path, redis_url: str, invoke: Invoke
    ) -> None:
        config = files_config(tmp_path, source, f"file://{tmp_path}/stored")
        created = invoke("create", config, "--yes", "--detach", "--json")
        job_id = json.loads(created.stdout.splitlines()[0])["job_id"]
        with redis.Redis.from_url(redis_url) as client:
            client.hset(f"ingest:{{{job_id}}}", mapping={"format": 99, "version": "9.1"})

        for command in ("status", "join", "failures"):
            done = invoke(command, "-j", job_id)
            assert done.exit_code == 2, done.output
            assert "made by Ingest 9.1, which is newer" in done.stderr
        done = invoke("list")
        assert done.exit_code == 0, "one job that is too new hides no other"
        assert "newer" in done.stderr


class TestDestination:
    """Each is another sentence, said before the source is listed."""

    def test_bucket_that_is_missing_is_6(
        self,
        tmp_path: Path,
        source: Path,
        redis_url: str,
        rclone_s3: S3Server,
        monkeypatch: pytest.MonkeyPatch,
        invoke: Invoke,
    ) -> None:
        place = s3_folder(rclone_s3, monkeypatch, url="s3://no-such-bucket/run")

        error = refused(invoke, files_config(tmp_path, source, place), 6)

        assert "the bucket does not exist" in error
        assert "items:" not in error

    def test_that_refuses_the_credentials_is_6(
        self,
        tmp_path: Path,
        source: Path,
        redis_url: str,
        rclone_s3: S3Server,
        monkeypatch: pytest.MonkeyPatch,
        invoke: Invoke,
    ) -> None:
        place = s3_folder(rclone_s3, monkeypatch)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhush")

        error = refused(invoke, files_config(tmp_path, source, place), 6)

        assert "refused" in error
        assert "AWS_" in error
        assert "hushhush" not in error
        assert "items:" not in error

    def test_that_does_not_answer_is_6(
        self,
        tmp_path: Path,
        source: Path,
        redis_url: str,
        rclone_s3: S3Server,
        monkeypatch: pytest.MonkeyPatch,
        invoke: Invoke,
    ) -> None:
        place = s3_folder(rclone_s3, monkeypatch, endpoint_url=f"http://127.0.0.1:{free_port()}")

        error = refused(invoke, files_config(tmp_path, source, place), 6)

        assert "no answer" in error
        assert "endpoint_url" in error
        assert "items:" not in error

    def test_folder_of_which_more_than_the_last_is_missing_is_6(
        self, tmp_path: Path, source: Path, redis_url: str, invoke: Invoke
    ) -> None:
        error = refused(invoke, files_config(tmp_path, source, f"file://{tmp_path}/not mounted/stored"), 6)

        assert "the folder is not there" in error
        assert not (tmp_path / "not mounted").exists()


def test_nobody_to_ask_is_2(tmp_path: Path, source: Path, redis_url: str, invoke: Invoke) -> None:
    config = files_config(tmp_path, source, f"file://{tmp_path}/stored")

    done = invoke("create", config)

    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert keys_in_redis(redis_url) == set()


def test_nobody_is_asked_whether_to_cancel_what_has_ended(
    tmp_path: Path, source: Path, redis_url: str, invoke: Invoke
) -> None:
    job = create(files_config(tmp_path, source, f"file://{tmp_path}/stored"))

    done = invoke("cancel", "-j", job.job_id)

    assert done.exit_code == 2
    assert done.stderr == f"error: job {job.job_id} is complete: there is nothing left to cancel\n"
