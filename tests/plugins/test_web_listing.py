"""Directory pages, as real servers made them (``pages/``: Apache 2.4.71) and as bad ones might."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.plugins.web_listing import Entry, is_name, read_listing

PAGES = Path(__file__).parent / "pages"
URL = "http://host/files/"
NAMES = [
    "OO-HYEA2--YDH-2019-01-12T15:10:00.000000.mseed",
    "a file+%&é.txt",
    "empty",
    "index2.html",
    "sub",
]


def page(*links: str, heading: str = "Index of /files/") -> str:
    listed = "".join(f'<a href="{link}">x</a>' for link in links)
    return f"<html><h1>{heading}</h1>{listed}</html>"


def names(text: str, url: str = URL) -> list[str]:
    return [entry.name for entry in read_listing(text, url).entries]


@pytest.mark.parametrize("style", ["list", "pre", "table"])
def test_a_page_of_apache(style: str) -> None:
    listing = read_listing((PAGES / f"apache-{style}.html").read_text(), URL)

    assert listing.is_listing
    assert [entry.name for entry in listing.entries] == NAMES
    assert [entry.name for entry in listing.entries if entry.is_folder] == ["sub"]
    assert [entry.size_bytes for entry in listing.entries] == [None] * 5, "34M is no exact size"
    assert not listing.left_out


def test_an_empty_page_of_apache_is_one() -> None:
    listing = read_listing((PAGES / "apache-empty.html").read_text(), "http://host/files/sub/")

    assert listing.is_listing
    assert listing.entries == []
    assert not listing.left_out


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("   12-Jan-2019 15:20            35651584\r\n", 35651584),
        ("   12-Jan-2019 15:20                 34M\r\n", None),
        ("   12-Jan-2019 15:20                   0\r\n", 0),
        ("   2019-01-12 15:20   34M  ", None),
        (" 35651584", None),
        ("   12-Jan-2019 15:20      -\r\n", None),
    ],
)
def test_a_size_is_taken_only_where_it_is_exact(text: str, size_bytes: int | None) -> None:
    made = f'<h1>Index of /files/</h1><pre><a href="a">a</a>{text}<a href="b">b</a></pre>'

    assert read_listing(made, URL).entries == [Entry("a", False, size_bytes), Entry("b", False)]


@pytest.mark.parametrize(
    "link",
    [
        "http://elsewhere/files/x",
        "//elsewhere/files/x",
        "https://host/files/x",
        "http://host:81/files/x",
        "ftp://host/files/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "mailto:me@host",
        "../other/x",
        "/other/x",
        "a/b",
        "a/../../x",
        "%2e%2e/x",
        "%2e%2e",
        "..%2fx",
        "a%2f..%2f..%2fx",
        "a%00b",
        "x?token=1",
        "http://[::1/x",
        "http://host:port/x",
        "/files//x",
    ],
)
def test_no_link_leads_off_the_page(link: str) -> None:
    listing = read_listing(page("fine", link), URL)

    assert [entry.name for entry in listing.entries] == ["fine"]
    assert listing.left_out == {"link that leads elsewhere": 1}


@pytest.mark.parametrize(
    "link",
    [
        "../",
        "..",
        "/",
        "/files/",
        "./",
        ".",
        "?C=N;O=D",
        "?C=M&amp;O=A",
        "?N=D",
        "/files/?C=S;O=A",
        "#top",
        "?sort=size&order=desc",
    ],
)
def test_links_up_and_for_sorting_are_passed_over(link: str) -> None:
    listing = read_listing(page("fine", link), URL)

    assert [entry.name for entry in listing.entries] == ["fine"]
    assert not listing.left_out


@pytest.mark.parametrize(
    "link",
    [
        "x.mseed",
        "./x.mseed",
        "/files/x.mseed",
        "http://host/files/x.mseed",
        "HTTP://HOST/files/x.mseed",
        "%78.mseed",
        " x.mseed ",
        "y/../x.mseed",
        "x.mseed#part",
    ],
)
def test_a_link_one_step_down_is_an_entry(link: str) -> None:
    assert names(page(link, link)) == ["x.mseed"]


def test_names_are_decoded_and_sorted_by_their_bytes() -> None:
    assert names(page("b", "a%20b", "caf%E9", "caf%C3%A9", "Z", "a-/", "a%26amp;")) == [
        "Z",
        "a b",
        "a&amp;",
        "a-",
        "b",
        "café",
        "caf\udce9",
    ]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("", False),
        ("<h1>It works!</h1><a href='x'>x</a>", False),
        ("<html><title>502 Bad Gateway</title></html>", False),
        ("<p>Index of /files</p>", False),
        ("not html at all <<<", False),
        ("<title>Index of /</title>", True),
        ("<title>Directory listing for /</title>", True),
        ("<title>host - /files/</title><A HREF='/'>[To Parent Directory]</A>", True),
        ("<title>host - /else/</title><A HREF='/'>To the start</A>", False),
        ("<h1>/</h1><a href='?sort=name&order=asc' class='order'>Name</a><a href='./x'>x</a>", True),
        ("<h1>OOI raw data</h1><a href='?C=N;O=D'>Name</a><a href='x'>x</a>", True),
    ],
)
def test_whether_it_is_a_directory_page(text: str, is_one: bool) -> None:
    assert read_listing(text, URL).is_listing is is_one


@given(
    st.lists(st.text(max_size=30), max_size=5), st.sampled_from([URL, "http://host/", "http://host/a%20b/"])
)
def test_no_page_whatever_names_anything_outside(links: list[str], url: str) -> None:
    for name in names(page(*links), url):
        assert is_name(name)
