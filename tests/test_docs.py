"""The documentation says what the code does, and leaves nothing out."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from ingest.cli import COMMANDS, main
from ingest.config import Settings, parse_config
from ingest.config.strict import Strict
from ingest.errors import EXIT_CODES
from ingest.ledger import State
from ingest.manifest import SCHEMA
from ingest.plugin_loader import installed, resolve_processors
from tests.cli.conftest import Run, run

__all__ = ["run"]

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
BY_HAND = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
COMPOSE_VARIABLES = {"INGEST_REDIS_PASSWORD", "INGEST_CONFIG_DIR", "INGEST_DATA_DIR", "INGEST_BUCKET"}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", re.sub(r"(?m)^ {3}", "", path.read_text()), re.DOTALL)


def test_reference_pages_are_fresh() -> None:
    pages = generator().pages()

    stale = [name for name, text in pages.items() if (REFERENCE / name).read_text() != text]
    assert not stale, "run `python docs/generate.py`"
    assert {path.name for path in REFERENCE.iterdir()} == set(pages)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("commands.md", [f"## ingest {name}\n" for name in COMMANDS]),
        ("settings.md", [f"`INGEST_{name.upper()}`" for name in Settings.model_fields]),
        (
            "plugins.md",
            [f"## `{name}`" for name in (*installed("path"), *installed("tile"), *installed("finisher"))],
        ),
        ("exit-codes.md", [f"| `{code}` |" for code in EXIT_CODES]),
    ],
)
def test_nothing_is_undocumented(page: str, names: list[str]) -> None:
    text = (REFERENCE / page).read_text()

    assert [name for name in names if name not in text] == []


def test_every_part_of_a_config_is_documented() -> None:
    assert set(Strict.__subclasses__()) == set(generator().CONFIG_PARTS.values())


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings, for links."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?s)```.*?```", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*BY_HAND, *REFERENCE.glob("*.md")], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text())

    for path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", BY_HAND, ids=lambda path: path.name)
def test_commands_and_settings_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    commands = set(re.findall(r"(?:^|`|bin/)\s*ingest ([a-z]+)\b", text, re.MULTILINE))
    settings = set(re.findall(r"INGEST_[A-Z_]+[A-Z]", text)) - COMPOSE_VARIABLES - {"INGEST_SETTINGS_FILE"}

    assert commands - set(COMMANDS) == set()
    assert settings - {f"INGEST_{name.upper()}" for name in Settings.model_fields} == set()


def commands_in(page: Path) -> list[list[str]]:
    """The words of each command of ours in a page's shell blocks and indented lines, without what follows it."""
    text = "\n".join([*blocks(page, "sh"), *re.findall(r"(?m)^    (?=ingest )(.*)$", page.read_text())])
    lines = text.replace("\\\n", " ").splitlines()
    words = (shlex.split(line, comments=True) for line in lines if re.search(r"\bingest [a-z]", line))
    return [line[line.index("ingest") + 1 :] for line in words if "ingest" in line]


def test_the_docs_have_commands_of_each_kind() -> None:
    first_words = {words[0] for page in BY_HAND for words in commands_in(page)}

    assert {"create", "validate", "join", "offload", "devices", "tags", "doctor"} <= first_words


@pytest.mark.parametrize("page", BY_HAND, ids=lambda path: path.name)
def test_options_in_the_docs_exist(page: Path) -> None:
    for words in commands_in(page):
        command: click.Command = main
        rest = [*words]
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest.pop(0))
            assert found is not None, words
            command = found
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert [word for word in rest if re.match("--?[a-z]", word) and word not in known] == [], words


def as_config(text: str) -> dict[str, Any]:
    """A config, whole or a part of one, in a config that is whole."""
    if text.startswith("{"):
        return dict(json.loads(text))
    part: dict[str, Any] = json.loads(f"{{{text}}}")
    if "params" in part:
        part = {"path_processor": {"class": "ooi_hydrophone", **part}}
    folder = {"class": "folder", "params": {"root_dir": "data"}}
    whole: dict[str, Any] = {"name": "docs", "ingest_job": {"type": "files"}, "path_processor": folder}
    return whole | {"destination": {"url": "s3://my-bucket"}} | part


@pytest.mark.parametrize("page", BY_HAND, ids=lambda path: path.name)
def test_configs_in_the_docs_are_valid(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "json"):
        if not text.startswith("["):
            resolve_processors(parse_config(as_config(text)), Settings(), tmp_path)


def test_the_readmes_first_screen_has_the_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    commands = re.findall(r"```sh\n(.*?)\n```", first_screen, re.DOTALL)

    assert len(commands) == 2
    assert all(
        command.startswith("python3 -m venv .venv && .venv/bin/pip install -e ") for command in commands
    )
    config = next(word for word in shlex.split(commands[0]) if word.endswith(".json"))
    assert (ROOT / config).is_file()
    assert commands[1].endswith("'.[dev]' && .venv/bin/pytest")


def test_the_readmes_job_runs_and_its_json_is_documented(tmp_path: Path, state_dir: Path) -> None:
    config = ROOT / "config" / "examples" / "folder.json"
    script = Path(sys.executable).with_name("ingest")
    done = subprocess.run(
        [script, "create", config, "--to", tmp_path / "stored", "--yes", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    text = (ROOT / "docs" / "json-output.md").read_text()
    events = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stored" / "notes.txt").is_file()
    for event in events:
        assert f"`{event['event']}`" in text
        for key in (*event, *event.get("items", ()), *event.get("bytes", ())):
            assert f"`{key}`" in text


def test_the_json_of_a_dry_run_and_of_an_item_that_would_fail_is_documented(run: Run, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.bin")).touch()
    config = ROOT / "config" / "examples" / "folder.json"
    lines = (ROOT / "docs" / "json-output.md").read_text().splitlines()
    source = (
        "--set",
        f"path_processor.params.root_dir={tmp_path}",
        "--set",
        "path_processor.params.include=[]",
    )

    (event,) = run("create", config, *source, "--dry-run", "--json").stdout.splitlines()
    first = json.loads(run("validate", config, *source, "--json").stdout)["first_item"]

    (of_item,) = (line for line in lines if "--dry-run --json" in line)
    (of_config,) = (line for line in lines if "`validate --json`" in line)
    assert json.loads(event)["problem"] and first["problem"]
    assert [key for key in json.loads(event) if f"`{key}`" not in of_item] == []
    assert [key for key in first if f"`{key}`" not in of_config] == []


def test_the_plugin_in_the_docs_works(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = blocks(ROOT / "docs" / "plugins.md", "python")
    (tmp_path / "my_plugins.py").write_text("\n".join(codes))
    monkeypatch.setenv("INGEST_PLUGIN_PATHS", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    result = run(
        "validate",
        ROOT / "config" / "examples" / "folder.json",
        *("--set", "tile_processor.class=my_plugins.Gzip"),
        *("--set", "destination.key={parent}{stem}{suffix}"),
        *("--set", 'finishers=[{"class": "my_plugins.KeyList"}]'),
    )

    assert result.exit_code == 0, result.stderr
    assert ".gz\n" in result.stdout
    assert "my_plugins.KeyList\n" in result.stdout
    assert "How hard to compress." in run("plugins", "my_plugins.Gzip").stdout


def test_every_column_of_the_manifest_and_every_state_is_explained() -> None:
    columns = (ROOT / "docs" / "manifest.md").read_text()
    states = (ROOT / "docs" / "how-it-works.md").read_text()

    assert [name for name in SCHEMA.names if f"`{name}`" not in columns] == []
    assert [state for state in State if f"`{state}`" not in states] == []
