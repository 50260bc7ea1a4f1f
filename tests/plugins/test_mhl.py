from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bagit
import pytest

from ingest.digests import c4_id
from ingest.errors import ConfigError
from ingest.ledger import State
from tests.plugins.conftest import Place
from tests.stores.helpers import put
from tests.whole_jobs import do, done, download, job_of

LISTS = "{urn:ASC:MHL:v2.0}"
CHAINS = "{urn:ASC:MHL:DIRECTORY:v2.0}"
EMPTY_C4 = "c459dsjfscH38cYeXXYogktxf4Cd9ibshE3BHUo6a58hBXmRQdZrAkZzsWcbWtDg5oQstpDuni4Hirj75GEmTc1sFT"
"""Of no bytes, as the standard gives it."""


def mhl(**params: Any) -> list[dict[str, Any]]:
    """The finisher in a config."""
    return [{"class": "mhl", "params": params}]


def chain_of(folder: Path) -> list[tuple[str, str, str]]:
    """Number, file name and C4 ID of each generation."""
    root = ElementTree.parse(folder / "ascmhl/ascmhl_chain.xml").getroot()
    assert root.tag == f"{CHAINS}ascmhldirectory"
    return [
        (one.attrib["sequencenr"], one.findtext(f"{CHAINS}path", ""), one.findtext(f"{CHAINS}c4", ""))
        for one in root
    ]


def hashes_of(path: Path) -> dict[str, tuple[str, str]]:
    """Path → action and C4 ID of each file in a hash list, which has all that the schema wants, in its order."""
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.attrib) == (f"{LISTS}hashlist", {"version": "2.0"})
    assert [part.tag for part in root] == [
        f"{LISTS}{name}" for name in ("creatorinfo", "processinfo", "hashes")
    ]
    creator, process, hashes = root
    names = [part.tag.removeprefix(LISTS) for part in (*creator, *process)]
    assert names == ["creationdate", "hostname", "tool", "comment", "process", "ignore"]
    found = {}
    for entry in hashes:
        assert [part.tag for part in entry] == [f"{LISTS}path", f"{LISTS}c4"]
        found[entry[0].text or ""] = (entry[1].attrib["action"], entry[1].text or "")
    return found


def ascmhl(command: str, folder: Path) -> str:
    """What the ASC's own program says of a folder, where it finds nothing wrong."""
    if importlib.util.find_spec("ascmhl") is None:
        return ""  # CONTRIBUTING says how it is installed: it wants an older click than ours
    program = [sys.executable, "-c", f"from ascmhl.commands import {command}; {command}()", "-v", str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_c4_ids_are_those_of_the_standard() -> None:
    assert c4_id([]) == c4_id([b""]) == EMPTY_C4
    assert c4_id([b"a", b"bc"]) == c4_id([b"abc"]) != EMPTY_C4
    assert len(c4_id([b"abc"])) == 90


def test_what_is_stored_has_a_hash_list(tmp_path: Path, place: Place) -> None:
    files = {"A001/C001.mov": os.urandom(6 << 20), "A001/C002.mov": b"2", "empty": b"", ".DS_Store": b"x"}

    job = done(tmp_path, files, place("{path}"), finishers=mhl())

    copy = download(job, tmp_path / "copy")
    [(number, name, c4)] = chain_of(copy)
    assert (number, name[:14]) == ("1", f"0001_{job.job_id}_")
    assert c4 == c4_id([(copy / "ascmhl" / name).read_bytes()])
    assert hashes_of(copy / "ascmhl" / name) == {
        path: ("original", c4_id([content])) for path, content in files.items()
    }
    ascmhl("verify", copy)
    ascmhl("diff", copy)
    # and nothing was read back for it: the hashes are in the manifest
    assert job.config.upload.digests == ("c4",)


@pytest.mark.skipif(importlib.util.find_spec("ascmhl") is None, reason="ascmhl is not installed")
def test_a_copy_that_was_changed_is_found_out(tmp_path: Path, place: Place) -> None:
    job = done(tmp_path, {"a": b"1", "b": b"2"}, place("{path}"), finishers=mhl())

    def edit(copy: Path) -> object:
        [path] = copy.glob("ascmhl/*.mhl")
        return path.write_text(path.read_text().replace("transfer", "in-place"))

    changes: list[Callable[[Path], object]] = [
        lambda copy: (copy / "a").write_bytes(b"x"),
        lambda copy: (copy / "b").unlink(),
        lambda copy: (copy / "c").touch(),
        edit,
    ]
    for number, change in enumerate(changes):
        copy = download(job, tmp_path / f"copy-{number}")
        ascmhl("verify", copy)
        change(copy)
        with pytest.raises(AssertionError):
            ascmhl("verify", copy)


def test_odd_names_are_in_it(tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    names = ("a b", "é", "100%", "new\nline", "cr\rhere", "tab\there", "<&>'\"", " space ", "日本")
    files = {f"d/{name}": name.encode() for name in names}

    job = done(tmp_path, {**files, "bell\x07": b"7"}, place("{path}"), finishers=mhl())

    copy = download(job, tmp_path / "copy")
    [(_, name, _)] = chain_of(copy)
    assert sorted(hashes_of(copy / "ascmhl" / name)) == sorted(files)
    assert "'bell\\x07' is not in the hash list" in caplog.text
    (copy / "bell\x07").unlink()
    ascmhl("verify", copy)


def test_a_further_job_adds_a_generation(tmp_path: Path, place: Place) -> None:
    first = done(tmp_path, {"a": b"1", "b": b"2"}, place("{path}"), finishers=mhl())
    second = job_of(tmp_path, {"a": b"1", "c": b"3"}, place("{path}"), finishers=mhl())
    put(second.store, "of another tool", b"4")

    do(second)
    second.complete()

    copy = download(second, tmp_path / "copy")
    chain = chain_of(copy)
    assert [number for number, _, _ in chain] == ["1", "2"]
    assert [first.job_id in chain[0][1], second.job_id in chain[1][1]] == [True, True]
    assert {path: action for path, (action, _) in hashes_of(copy / "ascmhl" / chain[1][1]).items()} == {
        "a": "verified",
        "c": "original",
        "of another tool": "original",
    }
    ascmhl("verify", copy)


def test_a_finisher_that_runs_again_makes_no_further_generation(tmp_path: Path, place: Place) -> None:
    job = job_of(tmp_path, {"a": b"1"}, place("{path}"), finishers=mhl())
    put(job.store, "b", b"2")
    do(job)
    job.complete()
    job.ledger.note(state=str(State.COMPLETING))

    job.complete()

    copy = download(job, tmp_path / "copy")
    assert len(chain_of(copy)) == len([*copy.glob("ascmhl/*.mhl")]) == 1
    ascmhl("verify", copy)


def test_duplicates_have_no_entry(tmp_path: Path, place: Place) -> None:
    destination = place("cards/{path}", dedupe="sha256")

    job = done(tmp_path, {"a": b"1", "b": b"1", "c": b"2"}, destination, finishers=mhl(folder="cards"))

    copy = download(job, tmp_path / "copy")
    [(_, name, _)] = chain_of(copy / "cards")
    hashes = hashes_of(copy / "cards/ascmhl" / name)
    assert len(hashes) == 2
    assert sorted(c4 for _, c4 in hashes.values()) == sorted([c4_id([b"1"]), c4_id([b"2"])])


def test_a_history_that_came_with_the_data_stays(
    tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    camera = done(tmp_path, {"a": b"1"}, place("camera/{path}"), finishers=mhl(folder="camera"))
    card = download(camera, tmp_path / "card") / "camera"
    files = {
        path.relative_to(card).as_posix(): path.read_bytes() for path in card.rglob("*") if path.is_file()
    }

    job = done(tmp_path, files, place("copy/{path}"), finishers=mhl(folder="copy"))

    assert "copy/ascmhl/ came with the data, and stays as it is" in caplog.text
    copy = download(job, tmp_path / "copy")
    assert len(chain_of(copy / "copy")) == 1
    ascmhl("verify", copy / "copy")


def test_a_bag_with_a_hash_list_is_both(tmp_path: Path, place: Place) -> None:
    within = [*mhl(folder="data"), {"class": "bagit"}]
    around = [{"class": "bagit"}, *mhl()]
    for finishers, folder in ((within, "data"), (around, "")):
        job = done(tmp_path, {"a": b"1", "b": b"2"}, place("data/{path}"), finishers=finishers)
        copy = download(job, tmp_path / f"copy-{folder}")
        bagit.Bag(str(copy)).validate()
        ascmhl("verify", copy / folder)
        for info in [*job.store.list()]:
            job.store.delete([info.key])


IN_THE_FOLDER = [*mhl(folder="data"), {"class": "bagit", "params": {"folder": "data"}}]


class TestCheck:
    @pytest.mark.parametrize(
        ("key", "dedupe", "finishers", "reason"),
        [
            ("{path}", None, mhl(folder="raw"), "keys must begin with 'raw/'"),
            ("{path}", None, [*mhl(), {"class": "sample_manifest"}], "put mhl after them"),
            ("data/data/{path}", None, IN_THE_FOLDER, "put mhl after them"),
            ("{path}", "sha256", mhl(), "the markers of destination.dedupe lie in the same folder"),
            (
                "raw/{path}",
                "sha256",
                mhl(folder="raw"),
                "the markers of destination.dedupe lie in the same folder",
            ),
        ],
    )
    def test_refuses_what_would_not_be_verified(
        self,
        tmp_path: Path,
        redis_url: str,
        key: str,
        dedupe: str | None,
        finishers: list[dict[str, Any]],
        reason: str,
    ) -> None:
        destination = {"url": f"file://{tmp_path}/bucket", "dedupe": dedupe, "key": key}
        with pytest.raises(ConfigError) as refused:
            job_of(tmp_path, {"a": b"1"}, destination, finishers=finishers)
        assert reason in str(refused.value)
