"""The commands that need no job: validate, schema, plugins, doctor, down."""

from __future__ import annotations

import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from ingest.config import Settings
from ingest.plugin_loader import installed
from ingest.redis_server import redis_url, running
from tests.cli.conftest import Run
from tests.s3_servers import free_port


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config over a folder of two files."""
    data = tmp_path / "data"
    (data / "day").mkdir(parents=True)
    (data / "day" / "a.txt").write_text("a")
    (data / "b.txt").write_text("b")
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "name": "two files",
                "ingest_job": {"type": "files"},
                "path_processor": {"class": "folder", "params": {"root_dir": "data"}},
                "destination": {"url": "stored"},
            }
        )
    )
    return path


def facts(text: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(text)
    return result


def test_validate_says_what_a_config_means(run: Run, config: Path, tmp_path: Path) -> None:
    result = run("validate", config)

    assert result.exit_code == 0, result.stderr
    assert "two files: files" in result.stdout
    assert f"root_dir={tmp_path / 'data'}" in result.stdout
    assert f"file://{tmp_path / 'stored'}" in result.stdout
    assert "The config is valid." in result.stdout
    assert not (tmp_path / "stored").exists()


def test_validate_json_has_the_config_in_force_and_an_example(run: Run, config: Path, tmp_path: Path) -> None:
    said = facts(run("validate", config, "--json").stdout)

    assert said["valid"] is True
    assert said["items"] is None
    assert said["first_item"]["key"] in ("b.txt", "day/a.txt")
    assert said["first_item"]["path"] == str(tmp_path / "data" / said["first_item"]["key"])
    assert said["config"]["path_processor"]["params"]["hidden"] is False


@pytest.mark.parametrize("command", [("validate", "--json"), ("create", "--dry-run", "--json")])
def test_what_a_plugin_prints_is_not_among_the_json(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (tmp_path / f"own_chatty_{command[0]}.py").write_text(
        "from ingest.plugins.files import FileAsIs\n\n"
        "class Tiles(FileAsIs):\n    def check(self):\n        print('a plugin says hello')\n"
    )
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", f"{tmp_path}/")
    monkeypatch.setattr(sys, "path", [*sys.path])

    result = run(*command, config, "--set", f"tile_processor.class=own_chatty_{command[0]}.Tiles")

    assert result.exit_code == 0, result.stderr
    assert [bool(json.loads(line)) for line in result.stdout.splitlines()]
    assert "a plugin says hello" in result.stderr


def test_to_and_set_change_the_config(
    run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")

    said = facts(
        run(
            "validate", config, "--to", "tmp/x", "--set", "upload.threads=7", "--set", "name=other", "--json"
        ).stdout
    )

    assert said["config"]["destination"]["url"] == "file:///tmp/x"
    assert said["config"]["upload"]["threads"] == 7
    assert said["config"]["name"] == "other"


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("upload.thread=7", "upload.thread: unknown key"),
        ("path_processor.class=fodler", "did you mean 'folder'?"),
        ("path_processor.params.root=/x", "path_processor.params"),
        ("path_processor.params.root_dir=nowhere", "nowhere"),
        ("destination.key={pth}", "destination.key: {pth} is no field of a job over files"),
        ("destination.url=ftp://x", "destination.url"),
    ],
)
def test_what_is_wrong_is_named_and_ends_with_2(run: Run, config: Path, assignment: str, said: str) -> None:
    result = run("validate", config, "--set", assignment)

    assert result.exit_code == 2, result.stdout
    assert said in result.stderr
    assert "fault of ours" not in result.stderr


def test_a_first_item_that_would_fail_is_said(run: Run, config: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/\xff")).touch()
    for name in ("b.txt", "day/a.txt"):
        (tmp_path / "data" / name).unlink()

    result = run("validate", config)

    assert result.exit_code == 3, result.stderr
    assert "fails because" in result.stdout
    assert "The config is valid, but its first item would fail." in result.stdout


def test_a_name_with_a_line_break_says_nothing_of_its_own(run: Run, config: Path, tmp_path: Path) -> None:
    for name in ("b.txt", "day/a.txt"):
        (tmp_path / "data" / name).unlink()
    (tmp_path / "data" / "x\nsafe to reuse this card").touch()

    planned = run("create", config, "--dry-run")
    asked = run("create", config, "--to", tmp_path / "stored")
    checked = run("validate", config)

    assert planned.stdout.count("\n") == 1
    assert "x\\nsafe" in asked.stderr
    assert "x\\nsafe" in checked.stdout
    assert "\nsafe" not in planned.output + asked.output + checked.output


def test_an_empty_path_is_not_the_current_folder(run: Run, tmp_path: Path) -> None:
    for words in (
        ("offload", "", "cam-07", "--to", tmp_path),
        ("offload", tmp_path, "cam-07", "--to", tmp_path / "stored", "--backup", ""),
        ("create", ""),
    ):
        result = run(*words)

        assert result.exit_code == 2
        assert "it is empty; expected a path" in result.output


def test_a_source_with_nothing_in_it_is_said(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    result = run("validate", config, "--set", "path_processor.params.root_dir=empty")

    assert result.exit_code == 2
    assert "is empty" in result.stderr
    assert "is its drive mounted?" in result.stderr

    (tmp_path / "empty" / ".hidden").touch()
    result = run("validate", config, "--set", "path_processor.params.root_dir=empty")

    assert result.exit_code == 2
    assert "holds nothing" in result.stderr


def test_the_schema_accepts_configs_with_their_comments_and_refuses_an_unknown_key(
    run: Run, config: Path
) -> None:
    schema = json.loads(run("schema").stdout)
    good = json.loads(config.read_text())

    jsonschema.validate(good | {"$schema": "job.schema.json"}, schema)
    for example in files("ingest.config.examples").iterdir():
        if example.name.endswith(".json") and not example.name.startswith("boss"):
            jsonschema.validate(json.loads(example.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {"nonsense": 1}, schema)


def test_plugins_lists_all_that_are_installed(run: Run) -> None:
    result = run("plugins")

    assert result.exit_code == 0
    for name in (*installed("path"), *installed("tile")):
        assert f"\n{name} " in result.stdout


def test_plugins_with_a_name_lists_parameters(run: Run) -> None:
    result = run("plugins", "folder")

    assert "folder, a path processor" in result.stdout
    assert "root_dir" in result.stdout
    assert "(required)" in result.stdout


def test_plugins_json(run: Run) -> None:
    said = facts(run("plugins", "folder", "--json").stdout)

    assert said["kind"] == "path"
    assert said["parameters"][0] | {"description": ""} == {
        "name": "root_dir",
        "type": "path",
        "required": True,
        "default": None,
        "description": "",
    }


def test_plugins_with_a_wrong_name(run: Run) -> None:
    result = run("plugins", "fodler")

    assert result.exit_code == 2
    assert "did you mean 'folder'" in result.stderr


def test_doctor_on_a_fresh_machine(run: Run, state_dir: Path) -> None:
    result = run("doctor")

    assert result.exit_code == 0, result.stdout
    assert "starts when needed" in result.stdout
    assert not state_dir.exists(), "it changes nothing"


def test_doctor_says_where_settings_come_from_but_no_secret(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"processes": 3}')
    monkeypatch.setenv("INGEST_SETTINGS_FILE", str(file))
    monkeypatch.setenv("INGEST_REDIS_URL", "redis://user:hushhush@127.0.0.1:1/0")
    monkeypatch.setenv("INGEST_LOG_LEVEL", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhush")

    result = run("doctor", "--json")

    rows = {row["variable"]: row for row in facts(result.stdout)["settings"]}
    checks = {check["what"]: check for check in facts(result.stdout)["checks"]}
    assert rows["INGEST_PROCESSES"]["value"] == "3"
    assert rows["INGEST_PROCESSES"]["source"] == str(file)
    assert rows["INGEST_REDIS_URL"]["source"] == "variable"
    assert rows["INGEST_LOG_LEVEL"]["source"] == "default", "an empty variable is none"
    assert checks["S3 credentials"]["found"] == "from env"
    assert "hushhush" not in result.output
    assert "AKIAEXAMPLE" not in result.output


def test_doctor_where_redis_does_not_answer_is_5(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_REDIS_URL", "redis://127.0.0.1:1/0")

    result = run("doctor")

    assert result.exit_code == 5
    assert "MISSING" in result.stdout


def test_doctor_with_a_redis_of_ones_own(run: Run, redis_url: str) -> None:
    result = run("doctor")

    assert result.exit_code == 0, result.stdout
    assert "no append-only file" in result.stdout


def test_down_stops_the_bundled_redis(run: Run, state_dir: Path) -> None:
    settings = Settings(state_dir=state_dir)
    redis_url(settings)

    assert "bundled" in run("doctor").stdout
    assert run("down").stdout == f"stopped the bundled Redis of {state_dir}; jobs are kept\n"
    assert running(settings) is None
    assert facts(run("down", "--json").stdout)["stopped"] is False


def test_the_doctor_does_not_send_people_to_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")

    result = run("doctor")

    assert result.exit_code == 5
    assert "is it running?" in result.stdout
    assert "ingest doctor" not in result.stdout


def test_a_setting_that_does_not_exist_is_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_PROCESES", "1")

    result = run("doctor")

    assert result.exit_code == 2
    assert "did you mean 'INGEST_PROCESSES'" in result.stderr
