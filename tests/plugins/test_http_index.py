"""The path processor ``http_index``, on a real nginx, and on a server that errs."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ingest.errors import ConfigError, ItemError, SourceMissing, SourceUnreadable, Stopped
from ingest.items import FileItem, Tile
from ingest.plugins import web_client
from ingest.plugins.http_index import HttpIndex, HttpIndexParams
from ingest.plugins.scratch import PREFIX
from ingest.plugins.web_client import http_time
from ingest.processors import LocalSlots
from tests.engine.making import until
from tests.plugins.making import context, tiles_job
from tests.test_offloads import full_disk
from tests.web_servers import Breaking, FaultyServer, Handler, NginxIndex, faulty_server, nginx_index

NAME = "OO-HYEA2--YDH-2019-01-12T15:10:00.000000.mseed"
BODY = os.urandom(300_000)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[NginxIndex]:
    """nginx over a day with an addendum, odd names, and what should not be taken."""
    with nginx_index(tmp_path) as server:
        for path in (
            f"day/{NAME}",
            "day/a b%20+&;é?.txt",
            "day/caf\udce9",
            "day/Zero",
            "day/addendum/late.mseed",
            "day/addendum/deep/er/x",
            "day/b",
        ):
            file = server.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(path.encode(errors="surrogateescape"))
        (server.root / "day" / "Zero").write_bytes(b"")
        (server.root / "empty").mkdir()
        (server.root / "site").mkdir()
        (server.root / "site" / "index.html").write_text("<h1>Welcome</h1>")
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are short."""
    monkeypatch.setattr(web_client, "FIRST_WAIT_S", 0.01)


Make = Callable[..., HttpIndex]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes processors, which are closed at the end."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with ExitStack() as made:

        def maker(url: str, check: Callable[[], None] = lambda: None, **params: Any) -> HttpIndex:
            where = replace(context(scratch), check=check)
            processor = HttpIndex(HttpIndexParams(url=url, **params), where)
            return made.enter_context(closing(processor))

        yield maker
    assert list(scratch.iterdir()) == [], "scratch is cleaned up"


def paths(processor: HttpIndex, after: str | None = None) -> list[str]:
    return [item.path for item in processor.paths(after)]


ALL = [
    NAME,
    "Zero",
    "a b%20+&;é?.txt",
    "addendum/deep/er/x",
    "addendum/late.mseed",
    "b",
    "caf\udce9",
]


class TestListing:
    def test_follows_folders_to_a_depth_and_counts_the_rest(self, web: NginxIndex, make: Make) -> None:
        flat = make(web.url + "day")
        assert paths(flat) == [path for path in ALL if "/" not in path]
        assert flat.left_out == {"folder below depth": 1}
        one = make(web.url + "day/", depth=1)
        assert paths(one) == [path for path in ALL if "deep" not in path]
        assert one.left_out == {"folder below depth": 1}
        assert paths(make(web.url + "day/", depth=9)) == ALL

    def test_begins_after_any_path_also_one_that_is_gone(self, web: NginxIndex, make: Make) -> None:
        processor = make(web.url + "day/", depth=9)
        for place, path in enumerate(ALL):
            assert paths(processor, path) == ALL[place + 1 :]
        assert paths(processor, "addendum/gone") == ALL[4:]
        assert paths(processor, "Y") == ALL[1:]
        assert paths(processor, "zz") == [ALL[-1]] if ALL[-1] > "zz" else paths(processor, "zz") == []

    def test_reads_no_page_before_the_one_it_begins_at(self, web: NginxIndex, make: Make) -> None:
        paths(make(web.url + "day/", depth=9), "b")

        assert not [line for line in web.requests() if "addendum" in line]

    def test_takes_what_patterns_say(self, web: NginxIndex, make: Make) -> None:
        processor = make(web.url + "day/", depth=9, include=["*.mseed", "b"], exclude=["/addendum/deep/"])

        assert paths(processor) == [NAME, "addendum/late.mseed", "b"]
        assert processor.left_out == {"excluded": 1, "not included": 3}
        paths(processor)
        assert processor.left_out["excluded"] == 1, "they are counted once"

    def test_sizes_are_those_of_the_page_or_asked_for(
        self, web: NginxIndex, make: Make, tmp_path: Path
    ) -> None:
        [first, zero, *_] = make(web.url + "day/").paths()
        assert (first.size_bytes, first.mtime_ns, zero.size_bytes) == (4 + len(NAME), None, 0)

        (tmp_path / "inexact").mkdir()
        with nginx_index(tmp_path / "inexact", exact=False) as inexact:
            file = inexact.root / "large"
            file.write_bytes(BODY)
            os.utime(file, (1_547_306_400, 1_547_306_400))
            [item] = make(inexact.url).paths()
            assert item == FileItem("large", None, None), "293K is no size"
            [item] = make(inexact.url, ask_sizes=True).paths()
            assert item == FileItem("large", len(BODY), 1_547_306_400_000_000_000)

    def test_neighbours_are_those_beside_it_on_the_page(self, web: NginxIndex, make: Make) -> None:
        processor = make(web.url + "day/", depth=9, exclude=["Zero"])

        def beside(path: str) -> list[str | None]:
            return [item.path if item else None for item in processor.neighbours(FileItem(path))]

        assert beside(NAME) == [None, "a b%20+&;é?.txt"]
        assert beside("b") == ["a b%20+&;é?.txt", "caf\udce9"]
        assert beside("addendum/late.mseed") == [None, None]
        before = len(web.requests())
        beside("addendum/late.mseed")
        assert len(web.requests()) == before


class TestFaultsOfPages:
    def test_four_are_told_apart(self, web: NginxIndex, make: Make, quick: None) -> None:
        def trouble(url: str) -> str:
            with pytest.raises(ConfigError) as caught:
                make(url, retries=1).check()
            assert caught.value.place == "path_processor.params.url"
            return caught.value.what.removeprefix("path_processor.params.url: ")

        with faulty_server(lambda request: request.say(503, b"overloaded")) as broken:
            said = [
                trouble(web.url + "2019/01/13/"),
                trouble(broken.url),
                trouble(web.url + "empty/"),
                trouble(web.url + "site/"),
            ]
        assert said == [
            f"there is no {web.url}2019/01/13/: the server answers 404 Not Found",
            f"the server is at fault, and answers 503 Service Unavailable to {broken.url}",
            f"the directory page {web.url}empty/ lists nothing",
            f"{web.url}site/ is a page, but no directory page",
        ]
        assert len(broken.seen) == 2

    @pytest.mark.parametrize(
        ("body", "kind", "what"),
        [
            (b"<h1>Welcome</h1><a href=x>x</a>", "text/html", "is a page, but no directory page"),
            (b"", "text/html; charset=utf-8", "is a page, but no directory page"),
            (b"{}", "application/json", "is no directory page: its type is application/json"),
            (b"\x00\x01", "", "is no directory page: its type is not given"),
        ],
    )
    def test_what_is_no_listing_is_said(self, make: Make, body: bytes, kind: str, what: str) -> None:
        with (
            faulty_server(lambda request: request.say(200, body, Content_Type=kind)) as server,
            pytest.raises(ConfigError, match=what),
        ):
            make(server.url).check()

    @pytest.mark.parametrize(
        "rest", ["<!--" * 3000, "<a " * 3000, "<![<!", "<a href=" + "x" * 3000], ids=["--", "a", "![", "x"]
    )
    def test_a_garbled_page_costs_no_time(self, make: Make, rest: str) -> None:
        """Python's parser takes 20 s for 15 kB of them."""
        body = b"<h1>Index of /</h1><a href=y>y</a>" + rest.encode()
        with faulty_server(lambda request: request.say(200, body, Content_Type="text/html")) as server:
            began_s = time.process_time()
            with pytest.raises(ConfigError, match="it is garbled"):
                make(server.url).check()
            assert time.process_time() - began_s < 2

    @pytest.mark.parametrize("charset", ["undefined", "idna", "utf-7", "utf-99"])
    def test_a_charset_that_gives_no_text_is_taken_for_utf_8(self, make: Make, charset: str) -> None:
        body = "<h1>Index of /</h1><a href='+2AA-é'>x</a>".encode()
        kind = f"text/html; charset={charset}"
        with faulty_server(lambda request: request.say(200, body, Content_Type=kind)) as server:
            assert paths(make(server.url)) == ["+2AA-é"]

    def test_one_that_is_garbled_on_its_way_is_asked_for_again(self, make: Make, quick: None) -> None:
        page = gzip.compress(b"<title>Index of /</title><a href=x>x</a>")
        answers = [b"garbage", page]

        def answer(request: Handler) -> None:
            request.say(200, answers.pop(0), Content_Type="text/html", Content_Encoding="gzip")

        with faulty_server(answer) as server:
            assert [entry.name for entry in make(server.url).listing("").entries] == ["x"]
            answers += [b"garbage"] * 2
            with pytest.raises(SourceUnreadable, match="cannot be read: Error -3"):
                make(server.url, retries=1).listing("")

    @pytest.mark.parametrize("status", [405, 501])
    def test_a_server_that_knows_no_head_is_there(self, make: Make, status: int) -> None:
        page = b"<title>Index of /</title><a href=x>x</a>"

        def answer(request: Handler) -> None:
            if request.command == "HEAD":
                request.say(status)
            else:
                request.say(200, page, Content_Type="text/html")

        with faulty_server(answer) as server:
            processor = make(server.url, retries=0)
            processor.check()
            processor.check()
            assert [command for command, _, _ in server.seen] == ["GET", "HEAD", "GET"]

    @pytest.mark.parametrize(
        "variable",
        [("NO_PROXY", "::1,fd00::/8"), ("ALL_PROXY", "ftp://proxy"), ("HTTP_PROXY", "http://a:b:c")],
    )
    def test_proxies_that_cannot_be_used_are_named(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
    ) -> None:
        monkeypatch.setenv(*variable)

        with pytest.raises(ConfigError, match="proxies that this machine names cannot be used") as caught:
            make("http://127.0.0.1/")
        assert variable[0] in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("status", "error"), [(404, SourceMissing), (410, SourceMissing), (500, SourceUnreadable)]
    )
    def test_a_folder_that_cannot_be_listed_stops_the_listing(
        self, make: Make, quick: None, status: int, error: type[ItemError]
    ) -> None:
        def answer(request: Handler) -> None:
            if request.path == "/":
                links = b"<h1>Index of /</h1><a href='a'>a</a><a href='b/'>b/</a><a href='c'>c</a>"
                request.say(200, links, Content_Type="text/html")
            else:
                request.say(status)

        with faulty_server(answer) as server:
            listed = make(server.url, depth=1, retries=0).paths()
            assert next(listed).path == "a"
            with pytest.raises(error, match=f"{server.url}b/"):
                next(listed)

    def test_a_server_that_refuses_is_not_asked_again(self, make: Make) -> None:
        with faulty_server(lambda request: request.say(403)) as server:
            with pytest.raises(ConfigError, match=r"the server refuses .*403 Forbidden"):
                make(server.url).check()
            assert len(server.seen) == 1

    def test_a_server_that_is_away_is_trouble_of_the_whole_source(self, web: NginxIndex, make: Make) -> None:
        processor = make(web.url + "day/")
        processor.check()
        processor.check()
        assert [line.split()[0] for line in web.requests()[-2:]] == ["GET", "HEAD"]
        web.stop()
        began_s = time.monotonic()
        with pytest.raises(ConfigError, match=r"cannot be read: .*refused"):
            processor.check()
        assert time.monotonic() - began_s < 2, "it is asked again and again, and must not wait itself"
        web.start()
        processor.check()

    def test_a_job_over_tiles_is_refused(self, web: NginxIndex, tmp_path: Path) -> None:
        with closing(HttpIndex(HttpIndexParams(url=web.url), context(tmp_path, tiles_job()))) as processor:
            with pytest.raises(ConfigError, match="type 'files' only"):
                processor.check()
            with pytest.raises(ItemError):
                processor.path(Tile(0, 0, 0))


class TestTrust:
    @pytest.mark.parametrize(
        "url",
        [
            "http://user:secret@host/",
            "http://user@host/",
            "https://host/x?token=1",
            "https://host/x?",
            "https://host/x#y",
            "ftp://host/",
            "/data",
            "http:///x",
            "http://host/a/../b",
        ],
    )
    def test_a_url_that_holds_a_secret_or_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(ValidationError):
            HttpIndexParams(url=url)

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//b", "a/", ".", "a\0b", ""])
    def test_a_path_that_leads_out_of_the_root_is_refused(self, make: Make, path: str) -> None:
        with pytest.raises(ItemError, match="is no path below"):
            make("http://host/files/").path(FileItem(path))

    @pytest.mark.parametrize(
        "target",
        [
            "http://elsewhere.invalid/x",
            "/other/x",
            "//elsewhere.invalid/",
            "/files/../x",
            "/files/%2e%2E/x",
            "{url}files/..",
            "http://[x",
            "file:///etc/passwd",
        ],
    )
    def test_a_redirection_off_the_root_is_refused(self, make: Make, target: str) -> None:
        def answer(request: Handler) -> None:
            request.say(302, Location=target.format(url=request.server.url))

        with faulty_server(answer) as server:
            processor = make(server.url + "files/")
            with (
                pytest.raises(SourceUnreadable, match="does not lie below"),
                processor.open(processor.url("x")),
            ):
                pass
            assert len(server.seen) == 1

    def test_a_redirection_below_the_root_is_followed_but_not_for_ever(self, make: Make) -> None:
        def answer(request: Handler) -> None:
            if request.path == "/loop":
                request.say(302, Location="/loop")
            elif request.path == "/old":
                request.say(301, Location="new")
            else:
                request.say(200, request.path.encode())

        with faulty_server(answer) as server:
            processor = make(server.url)
            with processor.open(processor.url("old")) as path:
                assert path.read_bytes() == b"/new"
            with (
                pytest.raises(SourceUnreadable, match=r"again and again, at last to .*/loop"),
                processor.open(processor.url("loop")),
            ):
                pass

    def test_a_redirection_to_the_host_in_other_letters_is_below_the_root(self, make: Make) -> None:
        def answer(request: Handler) -> None:
            if request.path == "/old":
                request.say(301, Location=f"{request.server.url.replace('127.0.0.1', 'localhost')}new")
            else:
                request.say(200, b"here")

        with faulty_server(answer) as server:
            processor = make(server.url.replace("127.0.0.1", "LocalHost"))
            with processor.open(processor.url("old")) as path:
                assert path.read_bytes() == b"here"

    @pytest.mark.parametrize("name", ["..", "a%2F..", "%2e%2e/x"])
    def test_a_url_that_leads_out_of_the_root_is_never_asked_for(self, make: Make, name: str) -> None:
        with faulty_server(lambda request: request.say(200, b"x")) as server:
            with (
                pytest.raises(SourceUnreadable, match="does not lie below"),
                make(server.url).open(server.url + name),
            ):
                pass
            assert server.seen == []

    @pytest.mark.parametrize("name", ["%2e%2e", "....//", ".lock", "a" * 300, "-rf", "caf\udce9", "a b;$(x)"])
    def test_no_name_leads_out_of_the_scratch_folder(self, make: Make, tmp_path: Path, name: str) -> None:
        with faulty_server(lambda request: request.say(200, b"x")) as server:
            processor = make(server.url)
            with processor.open(
                server.url + processor.url(name).removeprefix(server.url).replace("/", "%2F")
            ) as path:
                assert path.resolve().is_relative_to(tmp_path / "scratch")
                assert path.parent.parent.name.startswith(PREFIX)
                assert path.name.isascii()
                assert not path.name.startswith((".", "-"))


class TestDownload:
    def test_is_whole_and_says_what_it_is(self, web: NginxIndex, make: Make) -> None:
        processor = make(web.url + "day/", contact="me@sea.org")
        file = web.root / "day" / NAME
        os.utime(file, (1_547_306_400, 1_547_306_400))

        url = processor.path(FileItem(NAME))
        with processor.open(url) as path:
            assert path.read_bytes() == file.read_bytes()
            assert path.suffix == ".mseed"
            facts = dict(processor.facts(url))
            assert facts.pop("source_etag").startswith('"')
            assert facts == {
                "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "source_last_modified": "2019-01-12T15:20:00Z",
            }
        until(lambda: '"ingest/' in web.requests()[-1] and "me@sea.org" in web.requests()[-1])

    def test_of_every_name_that_is_listed(self, web: NginxIndex, make: Make) -> None:
        processor = make(web.url + "day/", depth=9)
        for item in processor.paths():
            with processor.open(processor.path(item)) as path:
                assert path.stat().st_size == item.size_bytes

    def test_goes_on_where_it_broke_off(self, make: Make, quick: None) -> None:
        answer = Breaking(BODY, breaks=[100_000, 50_000, 1])
        with faulty_server(answer) as server:
            processor = make(server.url, retries=1)
            with processor.open(server.url + "x") as path:
                assert path.read_bytes() == BODY
                assert processor.facts(server.url + "x")["source_sha256"] == hashlib.sha256(BODY).hexdigest()
        assert answer.starts == [0, 100_000, 150_000, 150_001]

    @pytest.mark.parametrize("change", ["etag", "ranges", "nothing known"])
    def test_begins_anew_where_it_cannot_go_on(self, make: Make, quick: None, change: str) -> None:
        answer = Breaking(BODY, breaks=[100_000], ranges=change != "ranges")
        if change == "nothing known":
            answer.etag = 'W/"weak"'
            answer.modified = ""

        def changing(request: Handler) -> None:
            if change == "etag" and answer.starts:
                answer.body, answer.etag, answer.modified = (
                    BODY[::-1],
                    '"v2"',
                    "Sun, 13 Jan 2019 15:20:00 GMT",
                )
            answer(request)

        with faulty_server(changing) as server, make(server.url).open(server.url + "x") as path:
            assert path.read_bytes() == answer.body
        assert answer.starts == [0, 0]

    def test_that_sends_fewer_bytes_than_it_said_fails_with_both_numbers(
        self, make: Make, quick: None
    ) -> None:
        with faulty_server(lambda request: request.say(200, BODY[:1000], 2000, ETag='"v1"')) as server:
            with (
                pytest.raises(SourceUnreadable, match="1000 of the 2000 bytes"),
                make(server.url, retries=3).open(server.url + "x"),
            ):
                pass
            assert 3 <= len(server.seen) <= 6

    def test_is_repeated_after_faults_and_waits_as_long_as_it_is_asked_to(
        self, make: Make, quick: None
    ) -> None:
        seen: list[float] = []

        def answer(request: Handler) -> None:
            seen.append(time.monotonic())
            if len(seen) == 1:
                request.say(503, Retry_After="1")
            elif len(seen) == 2:
                request.say(500)
            else:
                request.say(200, b"x")

        with faulty_server(answer) as server, make(server.url).open(server.url + "x") as path:
            assert path.read_bytes() == b"x"
        assert seen[1] - seen[0] >= 1
        assert seen[2] - seen[1] < 0.5

    def test_that_is_not_there_or_of_no_known_end_fails_at_once(self, make: Make) -> None:
        def answer(request: Handler) -> None:
            if request.path == "/open":
                request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nbytes")
                request.close_connection = True
            else:
                request.say(404)

        with faulty_server(answer) as server:
            processor = make(server.url)
            with pytest.raises(SourceMissing, match="404 Not Found"), processor.open(server.url + "x"):
                pass
            with (
                pytest.raises(SourceUnreadable, match="does not say how large"),
                processor.open(server.url + "open"),
            ):
                pass
            assert len(server.seen) == 2

    def test_of_which_the_last_bytes_have_no_room_on_the_disk_is_not_whole(self, make: Make) -> None:
        body = os.urandom(100_000)
        with faulty_server(lambda request: request.say(200, body)) as server:
            processor = make(server.url, retries=0)
            with full_disk(90_000), pytest.raises(OSError, match="large"), processor.open(server.url + "x"):
                pass

    @pytest.mark.parametrize("name", ["x.mseed", "x.tar.gz"])
    def test_a_page_in_its_place_is_refused(self, make: Make, name: str) -> None:
        page = b"\r\n<!DOCTYPE html><title>Log in</title>"
        with faulty_server(lambda request: request.say(200, page, Content_Type="text/html")) as server:
            processor = make(server.url)
            refused = f"sends an HTML page in place of {server.url}{name}"
            with pytest.raises(SourceUnreadable, match=refused), processor.open(server.url + name):
                pass
            with processor.open(server.url + "x.html") as path:
                assert path.read_bytes() == page
            assert len(server.seen) == 2

    def test_what_is_called_a_page_and_is_none_is_taken(self, make: Make) -> None:
        with (
            faulty_server(lambda request: request.say(200, BODY, Content_Type="text/html")) as server,
            make(server.url).open(server.url + "x.mseed") as path,
        ):
            assert path.read_bytes() == BODY

    def test_waiting_and_reading_are_interrupted(self, make: Make) -> None:
        orders: list[None] = []

        def check() -> None:
            if orders:
                raise Stopped("this node was asked to stop")

        with faulty_server(lambda request: request.say(503, Retry_After="60")) as server:
            threading.Timer(0.3, orders.append, [None]).start()
            began_s = time.monotonic()
            with pytest.raises(Stopped), make(server.url, check).open(server.url + "x"):
                pass
            assert time.monotonic() - began_s < 3

    def test_waits_between_tries_are_not_the_items_time(self, tmp_path: Path, quick: None) -> None:
        paused_s: list[float] = []

        @contextmanager
        def waiting() -> Iterator[None]:
            began_s = time.monotonic()
            yield
            paused_s.append(time.monotonic() - began_s)

        answers: list[tuple[int, dict[str, Any]]] = [(503, {"Retry_After": "1"}), (500, {}), (200, {})]

        def answer(request: Handler) -> None:
            status, headers = answers.pop(0)
            request.say(status, b"x", **headers)

        with faulty_server(answer) as server:
            where = replace(context(tmp_path), waiting=waiting)
            processor = HttpIndex(HttpIndexParams(url=server.url), where)
            with closing(processor), processor.open(server.url + "x"):
                pass
        assert [round(seconds) for seconds in paused_s] == [1, 0]

    def test_neighbours_are_not_downloaded_twice(self, make: Make) -> None:
        with faulty_server(lambda request: request.say(200, request.path.encode())) as server:
            processor = make(server.url)
            for place in range(1, 9):
                with processor.open(f"{server.url}{place}") as path:
                    assert path.read_bytes() == f"/{place}".encode()
                    for beside in (place - 1, place + 1):
                        with processor.open(f"{server.url}{beside}") as other:
                            assert other.read_bytes() == f"/{beside}".encode()
                    assert path.read_bytes() == f"/{place}".encode()
                assert len(list(path.parent.parent.glob("*/*"))) <= 3
        assert [path for _, path, _ in server.seen] == ["/1", "/0", *(f"/{place}" for place in range(2, 10))]

    @pytest.mark.parametrize("word", ["ETag", "Last-Modified"])
    def test_a_part_of_another_file_is_not_joined_to_it(self, make: Make, quick: None, word: str) -> None:
        """Some servers do not look at If-Range; a file of the same size may have taken the other's place."""
        bodies = [BODY, BODY[::-1]]
        seen: list[str | None] = []

        def answer(request: Handler) -> None:
            wanted = request.headers.get("Range")
            seen.append(wanted)
            body, day = bodies[min(1, len(seen) - 1)], min(2, len(seen))
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            headers = {"ETag": f'"v{day}"'} if word == "ETag" else {}
            headers["Last_Modified"] = f"Wed, 0{day} May 2019 15:20:00 GMT" if word != "ETag" else ""
            if start:
                headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            sent = body[start : 100_000 if len(seen) == 1 else None]
            request.say(206 if start else 200, sent, len(body) - start, **headers)

        with faulty_server(answer) as server, make(server.url).open(server.url + "x") as path:
            assert path.read_bytes() == bodies[1]
        assert seen == [None, "bytes=100000-", None]

    def test_a_part_of_a_file_whose_size_nobody_says_is_not_taken_for_its_end(
        self, make: Make, quick: None
    ) -> None:
        seen: list[str | None] = []

        def answer(request: Handler) -> None:
            wanted = request.headers.get("Range")
            seen.append(wanted)
            if wanted:
                request.say(206, BODY[100_000:101_000], ETag='"v1"', Content_Range="bytes 100000-100999/*")
                return
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.send_header("ETag", '"v1"')
            request.end_headers()
            sent = BODY if len(seen) > 1 else BODY[:100_000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            request.wfile.write(b"0\r\n\r\n" if len(seen) > 1 else b"")
            request.close_connection = True

        with faulty_server(answer) as server, make(server.url).open(server.url + "x") as path:
            assert path.read_bytes() == BODY
        assert seen == [None, "bytes=100000-", None]

    def test_what_is_compressed_on_the_way_is_not_taken_for_the_file(self, make: Make) -> None:
        packed = gzip.compress(b"x" * 1000)
        with faulty_server(lambda request: request.say(200, packed, Content_Encoding="gzip")) as server:
            processor = make(server.url)
            with (
                pytest.raises(SourceUnreadable, match=r"sends .*x\.mseed compressed \(gzip\)"),
                processor.open(server.url + "x.mseed"),
            ):
                pass
            with processor.open(server.url + "x.mseed.gz") as path:  # Apache says so of such files
                assert path.read_bytes() == packed

    def test_times_that_no_calendar_has_are_none(self, make: Make, quick: None) -> None:
        never = "Fri, 31 Dec 9999 23:59:59 -0100"
        answers: list[tuple[int, dict[str, Any]]] = [
            (503, {"Retry_After": never}),
            (200, {"Last_Modified": never}),
        ]

        def answer(request: Handler) -> None:
            status, headers = answers.pop(0)
            request.say(status, b"x", **headers)

        with faulty_server(answer) as server:
            processor = make(server.url)
            with processor.open(server.url + "x"):
                assert processor.facts(server.url + "x")["source_last_modified"] == never

    def test_a_time_without_a_zone_is_in_utc_wherever_this_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "Pacific/Honolulu")
        time.tzset()
        try:
            times = [
                http_time(text) for text in ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 -0000")
            ]
        finally:
            monkeypatch.undo()
            time.tzset()
        assert times == [datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)] * 2

    def test_no_more_than_so_many_at_once_over_all_processes(self, tmp_path: Path) -> None:
        slots, lock = LocalSlots(), threading.Lock()
        inside: list[int] = []
        most: list[int] = []

        def slow(request: Handler) -> None:
            with lock:
                inside.append(1)
                most.append(len(inside))
            time.sleep(0.05)
            with lock:
                inside.pop()
            request.say(200, b"x")

        def read(server: FaultyServer, number: int) -> None:
            params = HttpIndexParams(url=server.url, connections_per_host=3)
            with closing(HttpIndex(params, replace(context(tmp_path), slots=slots))) as processor:
                for place in range(3):
                    with processor.open(f"{server.url}{number}-{place}"):
                        pass

        with faulty_server(slow) as server:
            threads = [threading.Thread(target=read, args=(server, number)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert len(server.seen) == 24
            assert max(most) == 3
