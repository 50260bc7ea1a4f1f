"""What commands print: JSON lines for programs; tables, sizes and durations for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TextIO

import click

from ingest.errors import DiskFull

_FOR_JSON: list[TextIO] = []
FOLDED_WIDTH = 8
"""Of a column that is folded, on a narrow terminal, at least."""
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class _Span(NamedTuple):
    name: str
    seconds: int


_S, _MIN, _H, _D = _Span("s", 1), _Span("min", 60), _Span("h", 3600), _Span("d", 86_400)
_DURATIONS = ((_D, _H), (_H, _MIN), (_MIN, _S))


@contextmanager
def json_alone(as_json: bool) -> Iterator[None]:
    """Within it, if JSON is asked for, standard output has nothing else: what plugins print goes to standard error."""
    if not as_json:
        yield
        return
    _FOR_JSON.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _FOR_JSON.pop()


def emit_json(obj: Any) -> None:
    """One object as one line on standard output, at once."""
    click.echo(json.dumps(obj, default=str), file=_FOR_JSON[-1] if _FOR_JSON else None)


def note(text: str) -> None:
    """A remark for a person, on standard error, so that standard output stays what was asked for.

    It is lost where its disk is full: a log that has no room must not stop the work.
    """
    try:
        click.echo(printable_lines(text), err=True)
    except OSError as error:
        if not DiskFull.of(error):
            raise


def printable(text: object) -> str:
    """``text`` on one line, as it may be shown.

    What could steer a terminal, begin a line of its own, or is no character, is escaped: a file's name may have it.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def printable_lines(text: object) -> str:
    """The same, of text that has lines of its own, such as a hint."""
    return "\n".join(map(printable, str(text).split("\n")))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """A table: with rich on a terminal that has room for it, as plain columns elsewhere.

    The first column, which people copy from, and numbers are never folded.

    Args:
        right: headers of the columns that are aligned to the right, as numbers are.
    """
    cells = [["" if value is None else printable_lines(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(headers, cells, right)
    else:
        _plain_table(headers, cells, right)


def _rich_table(headers: Sequence[str], cells: Sequence[Sequence[str]], right: Collection[str]) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    console, least = Console(), 0
    for i, header in enumerate(headers):
        whole = max(cell_len(row[i]) for row in [headers, *cells])
        is_held = not i or header in right
        width = whole if is_held else min(whole, FOLDED_WIDTH)
        justify: Literal["left", "right"] = "right" if header in right else "left"
        shown.add_column(header, justify=justify, overflow="fold", no_wrap=is_held, min_width=width)
        least += width + 2
    if least > console.width:
        _plain_table(headers, cells, right)
        return
    for row in cells:
        shown.add_row(*map(Text, row))
    console.print(shown)


def _plain_table(headers: Sequence[str], cells: Sequence[Sequence[str]], right: Collection[str]) -> None:
    lines = [list(headers), *([cell.replace("\n", " ") for cell in row] for row in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    for line in lines:
        padded = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, width, header in zip(line, widths, headers, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def human_bytes(size_bytes: float) -> str:
    """A size for people: ``512 B``, ``1.2 GiB``."""
    if abs(size_bytes) < 1024:
        return f"{size_bytes:.0f} B"
    scaled = float(size_bytes)
    for unit in _UNITS:
        scaled /= 1024
        if abs(scaled) < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{scaled:.1f} {unit}"


def human_duration(duration_s: float) -> str:
    """A duration for people: ``0.4 s``, ``42 s``, ``3 min 20 s``, ``5 h 3 min``, ``2 d 4 h``."""
    if duration_s < 10:
        return f"{duration_s:.1f} s"
    whole_s = round(duration_s)
    if whole_s < 60:
        return f"{whole_s} s"
    big, small = next(pair for pair in _DURATIONS if whole_s >= pair[0].seconds)
    count, rest_s = divmod(whole_s, big.seconds)
    rest = rest_s // small.seconds
    return f"{count} {big.name} {rest} {small.name}" if rest else f"{count} {big.name}"


def human_time(time_s: int) -> str:
    """A moment, in seconds since 1970, for people: ``2026-11-28 07:11 UTC``."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def human_rate(items_per_s: float) -> str:
    """A rate of items for people: ``1,200 items/s``, ``1.4 items/s``, ``6.0 items/min``, ``0.5 items/h``."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        rate = items_per_s * seconds
        if rate >= 0.95 or unit == "h":
            break
    return f"{rate:,.{int(0 < rate < 9.95)}f} items/{unit if items_per_s else 's'}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 file``, ``1,200 files``; ``nouns`` where an s does not do, as in ``batches``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
