from __future__ import annotations

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ingest.config import (
    Destination,
    JobConfig,
    Settings,
    load_config,
    load_job_config,
    local_folder,
    parse_config,
)
from ingest.config.load import destination_url, set_value
from ingest.errors import ConfigError
from ingest.items import Grid, Tile
from ingest.plugin_loader import load_processors, resolve_processors
from ingest.processors import JobContext, Source

EXAMPLES = Path(str(files("ingest.config.examples")))


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "name": "a job",
        "ingest_job": {"type": "files"},
        "path_processor": {"class": "folder", "params": {"root_dir": "data"}},
        "destination": {"url": "s3://bucket/prefix/"},
    }


@pytest.fixture
def tiles(config: dict[str, Any]) -> dict[str, Any]:
    extent = {"x": [0, 64], "y": [0, 64], "z": [0, 2]}
    return config | {"ingest_job": {"type": "tiles", "extent": extent, "tile_size": {"x": 32, "y": 32}}}


def refused(config: dict[str, Any], base_dir: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(config, base_dir=base_dir)
    return caught.value


class TestReading:
    def read(self, tmp_path: Path, text: str | bytes) -> dict[str, Any]:
        path = tmp_path / "job.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path)

    def test_drops_comments_at_every_depth(self, tmp_path: Path) -> None:
        text = '{"//": 1, "//": 2, "a": {"// why": "x", "b": [{"// c": 1, "d": 2}]}}'
        assert self.read(tmp_path, text) == {"a": {"b": [{"d": 2}]}}

    def test_takes_a_byte_order_mark(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, b'\xef\xbb\xbf{"a": 1}') == {"a": 1}

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ('{"a": 1,\n "b" 2}', "line 2, column 6"),
            ("", "job.json is empty"),
            (" \n", "job.json is empty"),
            ("name: x\n", "line 1, column 1\n  hint: a config is JSON, and begins with {"),
            ('{"a": 1, # one\n"b": 2}', "at line 1, column 10\n  hint: JSON has no comments, but a key"),
            ("{'a': 1}", "at line 1, column 2\n  hint: text stands in straight double quotes"),
            ('{"a": “b”}', "hint: text stands in straight double quotes"),
            ('{"a": True}', "hint: JSON writes true, false and null"),
            (r'{"a": "C:\data"}', "hint: a backslash in text is written twice"),
            ('{"a": "b', "starting at line 1, column 7"),
            ('{"a": [1', "hint: it ends too early"),
            (f'{{"a": {"1" * 5001}}}', "job.json is not valid JSON: a number has 5,001 digits"),
            ('{"a": 1,}', "(?s)line 1.*a comma too many"),
            ('{"a": {"b": 1, "b": 2}}', "the key 'b' appears twice"),
            ("[]", "holds a list; expected an object"),
            ("null", "holds null"),
            ("7", "holds a number"),
            (b'{"a": "\xff"}', "not UTF-8 text: byte 7 is 0xff\n  hint: save it in the encoding UTF-8"),
            ('{"a": NaN}', "NaN"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_says_what_is_wrong(self, tmp_path: Path, text: str | bytes, what: str) -> None:
        with pytest.raises(ConfigError, match=what):
            self.read(tmp_path, text)

    def test_says_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no file"):
            load_config(tmp_path / "gone.json")
        with pytest.raises(ConfigError, match="is a folder"):
            load_config(tmp_path)

    def test_names_the_file_of_a_key_that_appears_twice(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"job\.json"):
            self.read(tmp_path, '{"a": 1, "a": 2}')


class TestErrors:
    @pytest.mark.parametrize(
        ("place", "value", "what"),
        [
            ("name", "", "does not fit"),
            ("name", "a/b", "letters, digits, spaces"),
            ("name", 7, "expected text; found 7"),
            ("name", "鯨", 'found "鯨"'),
            ("ingest_job", "files", 'expected an object; found "files"'),
            (
                "ingest_job.type",
                "file",
                "expected 'files', 'tiles', found 'file'\n  hint: did you mean 'files'?",
            ),
            ("path_processor.class", "", "at least 1 character"),
            ("path_processor.params", [], "expected an object; found []"),
            ("destination.url", "ftp://x", "is no destination"),
            ("destination.url", "s3://", "names no bucket"),
            ("destination.url", "s3://key:secret@bucket", "must not hold a user or password"),
            ("destination.url", "file://host/x", "names the host"),
            ("destination.url", "file://", "names no folder"),
            ("destination.url", "file:x", "names no folder"),
            ("destination.url", "file:///a%FF", "escapes that are no UTF-8"),
            ("destination.url", "file:///a%00", "NUL"),
            ("destination.url", "", "is no destination"),
            ("destination.endpoint_url", "localhost:9000", "is no URL"),
            ("destination.endpoint_url", "http://a:b@c", "must not hold a user"),
            ("destination.endpoint_url", "http://a:b/c@d", "must not hold a user"),
            ("destination.endpoint_url", "http://two words:9000", "is no URL"),
            ("destination.endpoint_url", "http://s3_server:9000", "letters, digits"),
            ("destination.endpoint_url", "http://c:99999", "is no URL"),
            ("destination.endpoint_url", "http://c:9000 ", "is no URL"),
            ("destination.endpoint_url", "https://c?sig=secret", "must not hold `?`"),
            ("destination.url", "az://container/run?sv=1&sig=secret", "must not hold `?`"),
            ("destination.url", "s3://bucket/run#secret", "must not hold `?` or `#`"),
            ("destination.key", "../{path}", "leave the prefix"),
            ("destination.key", 7, "expected text"),
            ("destination.on_existing", "ask", 'found "ask"'),
            ("upload.threads", 0, "greater than or equal to 1; found 0"),
            ("upload.threads", "many", 'expected a whole number; found "many"'),
            ("upload.threads", 1.5, "expected a whole number; found 1.5"),
            ("path_processor", "folder", 'hint: write {"class": "folder"}'),
            ("path_processor", '{"class": "folder"', "looks like JSON, but is none"),
            ("upload.digests", "c4", 'expected a list; found "c4"\n  hint: write ["c4"]'),
            ("queue.lease_s", 1, "greater than or equal to 2"),
            ("expires_after_days", -1, "greater than 0"),
        ],
    )
    def test_have_a_place(self, config: dict[str, Any], place: str, value: Any, what: str) -> None:
        set_value(config, f"{place}={json.dumps(value)}")
        error = refused(config)
        assert what in str(error)
        assert error.place == place
        assert "secret" not in str(error)

    @pytest.mark.parametrize(
        ("place", "hint"),
        [
            ("destinaton", "did you mean 'destination'?"),
            ("destination.on_exist", "did you mean 'on_existing'?"),
            ("path_processor.clas", "did you mean 'class'?"),
            ("upload.digest", "did you mean 'digests'?"),
            ("ingest_job.tile_sizes", None),
            ("dest", "did you mean 'destination'?"),
            ("destination.bucket", f"known are {', '.join(sorted(Destination.model_fields))}"),
        ],
    )
    def test_for_unknown_keys_have_a_hint(self, config: dict[str, Any], place: str, hint: str | None) -> None:
        set_value(config, f"{place}=1")
        error = refused(config)
        assert (error.place, error.what) == (place, f"{place}: unknown key")
        if hint is not None:
            assert error.hint == hint

    def test_for_unknown_keys_of_tiles_have_a_hint(self, tiles: dict[str, Any]) -> None:
        tiles["ingest_job"]["tile_sizes"] = tiles["ingest_job"]["tile_size"]
        error = refused(tiles)
        assert (error.place, error.hint) == ("ingest_job.tile_sizes", "did you mean 'tile_size'?")

    @pytest.mark.parametrize(
        "place", ["name", "ingest_job", "ingest_job.type", "path_processor", "destination"]
    )
    def test_name_what_is_missing(self, config: dict[str, Any], place: str) -> None:
        *parents, last = place.split(".")
        section = config
        for name in parents:
            section = section[name]
        del section[last]
        error = refused(config)
        assert error.place == place
        assert "is missing" in str(error)

    def test_are_all_told_at_once(self, config: dict[str, Any]) -> None:
        error = refused(config | {"nam": 1, "upload": {"threads": 0}})
        assert "upload.threads: " in str(error)
        assert "nam: unknown key" in str(error)

    @pytest.mark.parametrize(
        ("changes", "place", "what"),
        [
            ({"extent": {"x": [0, 0], "y": [0, 9]}}, "ingest_job.extent.x", "is empty"),
            ({"extent": {"x": [-32, 32], "y": [0, 9]}}, "ingest_job.extent.x", "must not be negative"),
            ({"extent": {"x": [0], "y": [0, 9]}}, "ingest_job.extent.x.1", "is missing"),
            ({"extent": {"x": [16, 64], "y": [0, 64]}}, "ingest_job", "no multiple of tile_size.x (32)"),
            ({"extent": {"x": [0, 10**9], "y": [0, 10**18]}}, None, "more than 4,294,967,296 batches"),
            ({"tile_size": {"x": 0, "y": 32}}, "ingest_job.tile_size.x", "greater than or equal to 1"),
        ],
    )
    def test_of_grids(
        self, tiles: dict[str, Any], changes: dict[str, Any], place: str | None, what: str
    ) -> None:
        tiles["ingest_job"] |= changes
        error = refused(tiles)
        assert error.place == place
        assert what in str(error)

    def test_of_parameters_have_their_place(self, config: dict[str, Any], tmp_path: Path) -> None:
        config["path_processor"]["params"] = {"rootdir": "x", "include": 3}
        parsed = parse_config(config)
        with pytest.raises(ConfigError) as caught:
            resolve_processors(parsed, Settings(), tmp_path)
        assert caught.value.place == "path_processor.params.root_dir"
        assert "path_processor.params.rootdir: unknown key" in str(caught.value)
        assert caught.value.hint == "did you mean 'root_dir'?"

    @pytest.mark.parametrize(
        ("folder", "what"), [(42, "expected a path; found 42"), ("", "is empty; expected a path")]
    )
    def test_of_a_path_have_its_place(
        self, config: dict[str, Any], tmp_path: Path, folder: object, what: str
    ) -> None:
        config["path_processor"]["params"] = {"root_dir": folder}
        with pytest.raises(ConfigError, match=f"path_processor.params.root_dir: {what}"):
            resolve_processors(parse_config(config), Settings(), tmp_path)


class TestKeys:
    def test_have_defaults(self, config: dict[str, Any], tiles: dict[str, Any]) -> None:
        assert str(parse_config(config).key_template) == "{path}"
        assert str(parse_config(tiles).key_template) == "{resolution}/{z}/{y}_{x}{suffix}"
        tiles["ingest_job"]["extent"]["t"] = [0, 2]
        assert str(parse_config(tiles).key_template) == "{t}/{resolution}/{z}/{y}_{x}{suffix}"

    def test_must_tell_tiles_apart(self, tiles: dict[str, Any]) -> None:
        tiles["destination"]["key"] = "{z}/{y}{suffix}"
        assert "lacks {x}" in str(refused(tiles))

    @pytest.mark.parametrize(
        ("key", "together"),
        [
            ("{z}/{y}{x}", "y and x"),
            ("{z}{y}{x}", "z and y and x"),
            ("{z}/{y}7{x}", "y and x"),
            ("{z}/{y:02}{x:02}", "y and x"),
            ("{z}/{y:03}{x}{suffix}", ""),
            ("{z}/{y}{x:03}", ""),
            ("{z}/{x}/{y}{x}", ""),
            ("{t}{resolution}{z}{y:03}{x:03}", ""),
            ("{z}{job}{y}_{x}", ""),
        ],
    )
    def test_must_tell_numbers_apart(self, tiles: dict[str, Any], key: str, together: str) -> None:
        tiles["ingest_job"] |= {"extent": {"x": [0, 4096], "y": [0, 4096], "z": [0, 12]}}
        tiles["destination"]["key"] = key
        if together:
            assert f"does not tell {together} apart" in str(refused(tiles))
        else:
            assert parse_config(tiles).key_template.text == key

    def test_may_leave_out_an_axis_of_one_tile(self, tiles: dict[str, Any]) -> None:
        tiles["ingest_job"]["extent"]["z"] = [5, 6]
        tiles["destination"]["key"] = "{y}_{x}"
        assert parse_config(tiles).key_template.field_names == {"x", "y"}


class TestPaths:
    def test_are_taken_from_the_configs_folder(
        self, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        config["destination"]["url"] = "../out/"
        config["path_processor"]["params"]["root_dir"] = "../data"
        parsed = resolve_processors(
            parse_config(config, base_dir=Path("configs")), Settings(), Path("configs")
        )

        assert parsed.destination.url == f"file://{tmp_path}/out"
        assert parsed.path_processor.params["root_dir"] == f"{tmp_path}/data"

    def test_of_nobodys_home_are_refused(self, config: dict[str, Any], tmp_path: Path) -> None:
        config["path_processor"]["params"]["root_dir"] = "~nobody-here/x"
        with pytest.raises(ConfigError, match="does not know") as caught:
            resolve_processors(parse_config(config), Settings(), tmp_path)
        assert caught.value.place == "path_processor.params.root_dir"

    @pytest.mark.parametrize(
        ("url", "kept"),
        [
            ("s3://bucket/prefix/", "s3://bucket/prefix"),
            ("gs://b", "gs://b"),
            ("file:///a/b/", "file:///a/b"),
            ("file:///", "file:///"),
            ("/a/b", "file:///a/b"),
            ("file:///a/My%20Disk/", "file:///a/My Disk"),
            ("file:///a/My Disk", "file:///a/My Disk"),
            ("/a/My%20Disk", "file:///a/My%2520Disk"),
            ("file:///a/100%", "file:///a/100%25"),
            ("/a/100%", "file:///a/100%25"),
            ("file://localhost/a", "file:///a"),
            ("file:/a", "file:///a"),
        ],
    )
    def test_of_destinations(self, config: dict[str, Any], url: str, kept: str, tmp_path: Path) -> None:
        config["destination"]["url"] = url
        parsed = parse_config(config, base_dir=tmp_path)
        assert parsed.destination.url == kept
        assert parse_config(parsed.model_dump(mode="json", by_alias=True)) == parsed

    @pytest.mark.parametrize(
        ("url", "folder"),
        [("file:///a/My%20Disk", "/a/My Disk"), ("/a/My%20Disk", "/a/My%20Disk"), ("/a/ä%", "/a/ä%")],
    )
    def test_of_destinations_are_read_as_urls_only_where_they_are(
        self, config: dict[str, Any], url: str, folder: str
    ) -> None:
        config["destination"]["url"] = url
        parsed = parse_config(config)
        assert local_folder(parsed.destination.url) == Path(folder)
        assert local_folder(destination_url(url)) == Path(folder)
        again = parse_config(parsed.model_dump(mode="json", by_alias=True))
        assert local_folder(again.destination.url) == Path(folder)

    def test_of_destinations_that_may_mean_two_folders_are_refused(
        self, config: dict[str, Any], tmp_path: Path
    ) -> None:
        (tmp_path / "My%20Disk").mkdir()
        config["destination"]["url"] = f"file://{tmp_path}/My%20Disk"
        with pytest.raises(ConfigError, match=r"there is a folder .*My%20Disk.*plain path"):
            parse_config(config)
        config["destination"]["url"] = "My%20Disk"
        parsed = parse_config(config, base_dir=tmp_path)
        assert local_folder(parsed.destination.url) == tmp_path / "My%20Disk"
        assert parse_config(parsed.model_dump(mode="json", by_alias=True)) == parsed


class TestCommandLine:
    def test_to_replaces_the_destination(
        self, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "job.json").write_text(json.dumps(config))

        assert load_job_config(Path("job.json"))["destination"]["url"] == "s3://bucket/prefix/"
        assert load_job_config(Path("job.json"), to="gs://other")["destination"]["url"] == "gs://other"
        assert load_job_config(Path("job.json"), to="out")["destination"]["url"] == f"file://{tmp_path}/out"
        assert load_job_config(Path("job.json"), to="~/x")["destination"]["url"] == f"file://{Path.home()}/x"
        with pytest.raises(ConfigError, match="names no bucket; expected s3://bucket/prefix"):
            parse_config(load_job_config(Path("job.json"), to="s3:bucket"))

    def test_to_refuses_the_home_of_nobody(self) -> None:
        with pytest.raises(ConfigError, match="does not know") as caught:
            destination_url("~nobody-here/x")
        assert caught.value.place == "--to"

    def test_to_makes_a_destination_where_there_is_none(self, config: dict[str, Any], tmp_path: Path) -> None:
        del config["destination"]
        (tmp_path / "job.json").write_text(json.dumps(config))
        assert load_job_config(tmp_path / "job.json", to="s3://b/p")["destination"] == {"url": "s3://b/p"}

    def test_set_takes_json_or_text(self) -> None:
        config: dict[str, Any] = {"a": {"b": 1}}
        for assignment in ("a.b=2", "a.c=true", "d.e=text", "f=[1]", "g=", 'h="7"', "i=a=b"):
            set_value(config, assignment)
        expected = {"a": {"b": 2, "c": True}, "d": {"e": "text"}, "f": [1], "g": "", "h": "7", "i": "a=b"}
        assert config == expected

    @pytest.mark.parametrize(
        ("assignment", "what"),
        [
            ("a", "not of the form"),
            ("=1", "not of the form"),
            ("a.b.c=1", "cannot go below 'b'"),
            ("a..b=1", "not of the form"),
            pytest.param("a.b=" + "1" * 5000, "too long", id="a long number"),
            pytest.param("a.b=" + "[" * 50_000, "too deeply", id="a deep nest"),
        ],
    )
    def test_set_refuses(self, assignment: str, what: str) -> None:
        with pytest.raises(ConfigError, match=what):
            set_value({"a": {"b": 1}}, assignment)


class TestSettings:
    def test_come_from_variables_before_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "settings.json"
        path.write_text('{"log_level": "DEBUG", "processes": 3}')
        monkeypatch.setenv("INGEST_SETTINGS_FILE", str(path))
        monkeypatch.setenv("INGEST_PROCESSES", "5")

        settings = Settings.load()

        assert (settings.log_level, settings.processes) == ("DEBUG", 5)

    def test_refuse_an_unknown_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INGEST_REDISURL", "x")
        with pytest.raises(ConfigError, match="INGEST_REDISURL"):
            Settings.load()

    def test_have_no_hint_that_is_far_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INGEST_BUCKET", "x")
        with pytest.raises(ConfigError, match="hint: known are INGEST_LOG_LEVEL, INGEST_PLUGIN_PATHS"):
            Settings.load()

    @pytest.mark.parametrize("name", ["REDIS_URL", "STATE_DIR", "PROCESSES", "SETTINGS_FILE"])
    def test_take_an_empty_variable_for_none(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.delenv(f"INGEST_{name}", raising=False)
        expected = Settings.load()
        monkeypatch.setenv(f"INGEST_{name}", "")
        assert Settings.load() == expected

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('{"proceses": 3}', "unknown setting 'proceses'.*did you mean 'processes'"),
            ('{"INGEST_PROCESSES": 3}', "unknown setting 'INGEST_PROCESSES'.*did you mean 'processes'"),
            ('{"processes": 0}', r"processes in .*settings\.json: must be greater"),
            ('{"processes": "many"}', r"processes in .*settings\.json: expected a whole number"),
            ("[]", r"the settings file .*settings\.json: expected an object"),
        ],
    )
    def test_say_what_is_wrong_in_their_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
    ) -> None:
        path = tmp_path / "settings.json"
        path.write_text(text)
        monkeypatch.setenv("INGEST_SETTINGS_FILE", str(path))
        with pytest.raises(ConfigError) as caught:
            Settings.load()
        assert re.search(says, str(caught.value), re.DOTALL)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("INGEST_LOG_LEVEL", "LOUD"),
            ("INGEST_PROCESSES", "0"),
            ("INGEST_REDIS_URL", "http://x:secret@y"),
            ("INGEST_REDIS_URL", "redis://:secret/more@y:6379/0"),
        ],
    )
    def test_refuse_a_wrong_value(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError) as caught:
            Settings.load()
        assert caught.value.place == name
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(("folder", "found"), [("~/state", "{home}/state"), ("state", "{here}/state")])
    def test_name_folders_for_all_processes_and_libraries(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, found: str
    ) -> None:
        path = tmp_path / "settings.json"
        path.write_text(json.dumps({"state_dir": folder, "scratch_dir": folder}))
        monkeypatch.delenv("INGEST_STATE_DIR", raising=False)
        monkeypatch.setenv("INGEST_SETTINGS_FILE", str(path))
        monkeypatch.chdir(tmp_path)

        settings = Settings.load()

        expected = Path(found.format(home=Path.home(), here=tmp_path))
        assert (settings.state_dir, settings.scratch_dir) == (expected, expected)

    @pytest.mark.parametrize("name", ["STATE_DIR", "SCRATCH_DIR", "PLUGIN_PATHS", "SETTINGS_FILE"])
    def test_refuse_the_home_of_nobody(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(f"INGEST_{name}", "~nobody-here/x")
        with pytest.raises(ConfigError, match="does not know"):
            Settings.load()

    @pytest.mark.parametrize("name", ["scratch", "logs"])
    @pytest.mark.parametrize("found", ["a file in its place", "a folder that may not be written"])
    def test_name_the_folder_that_cannot_be_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str
    ) -> None:
        folder = tmp_path / name
        if found == "a file in its place":
            folder.touch()
        else:
            monkeypatch.setattr(os, "access", lambda path, mode: False)

        with pytest.raises(ConfigError, match=f"{folder} cannot be") as caught:
            getattr(Settings(state_dir=tmp_path), name)

        assert "_DIR" in (caught.value.hint or "")

    def test_say_which_variable_moves_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.touch()

        with pytest.raises(ConfigError) as by_default:
            _ = Settings(state_dir=closed).scratch
        with pytest.raises(ConfigError) as by_name:
            _ = Settings(state_dir=tmp_path, scratch_dir=closed / "scratch").scratch

        assert "set INGEST_STATE_DIR" in str(by_default.value), "another scratch folder would not do"
        assert "set INGEST_SCRATCH_DIR" in str(by_name.value)

    @pytest.mark.parametrize("text", ["{", "[]", "7", '{"log_lvel": "DEBUG"}', b"\xff"])
    def test_refuse_a_wrong_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes
    ) -> None:
        path = tmp_path / "settings.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv("INGEST_SETTINGS_FILE", str(path))
        with pytest.raises(ConfigError):
            Settings.load()


class TestExamples:
    def parsed(self, name: str, to: str | None = None) -> JobConfig:
        path = EXAMPLES / name
        return resolve_processors(
            parse_config(load_job_config(path, to), base_dir=path.parent), Settings(), path.parent
        )

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
    def test_are_whole(self, path: Path, tmp_path: Path) -> None:
        to = str(tmp_path) if path.stem.startswith("boss") else None
        self.parsed(path.name, to)
        assert '"// ' in path.read_text()

    @pytest.mark.parametrize(
        ("name", "items"),
        [("folder.json", 5), ("z_stack.json", 16), ("catmaid_files.json", 18), ("boss-z-stack.json", 48)],
    )
    def test_run(self, name: str, items: int, tmp_path: Path) -> None:
        config = self.parsed(name, str(tmp_path))
        grid = Grid(config.ingest_job) if config.ingest_job.type == "tiles" else None
        as_json = config.model_dump(mode="json", by_alias=True)
        context = JobContext("j", config.name, "2026-01-31", grid, tmp_path, as_json)
        processors = load_processors(config, context, Settings())
        processors.path.check()
        processors.tile.check()

        uploads = []
        for item in processors.path.paths() if grid is None else grid.tiles():
            origin = processors.path.origin(item) if isinstance(item, Tile) else (0, 0)
            with processors.path.open(processors.path.path(item)) as path:
                uploads += list(processors.tile.uploads(Source(item, path, origin)))

        assert len(uploads) == items
        if name == "catmaid_files.json":
            assert all(isinstance(upload.body, Path) for upload in uploads)

    def test_there_is_one_for_each_path_processor(self) -> None:
        classes = {
            load_config(path).get("path_processor", {}).get("class") for path in EXAMPLES.glob("*.json")
        }
        assert {"folder", "z_stack", "catmaid_files"} <= classes
