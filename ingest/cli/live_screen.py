"""The live view of a job on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ingest.cli.output import human_bytes, human_rate, printable, printable_lines
from ingest.cli.screens import NODES_SHOWN, Screen, amounts, end_lines, pace
from ingest.status import Status


class LiveScreen(Screen):
    """A bar, a line of figures, and a line a node, drawn anew a few times a second."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._live = Live(console=console or Console(stderr=True), refresh_per_second=4, transient=True)
        self._trouble = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, status: Status) -> None:
        self._trouble = ""
        self._live.update(self._picture(status))

    def trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._live.update(Text(printable_lines(text), style="yellow"))

    def _picture(self, status: Status) -> RenderableType:
        progress = self._meter.read(status)
        bar = Table.grid()
        bar.add_row(ProgressBar(total=1.0, completed=progress.fraction or 0.0, width=60))
        parts: list[RenderableType] = [
            Text.assemble((printable(status.name), "bold"), f" ({status.job_id}) {status.state}"),
            bar,
            Text(amounts(progress)),
            Text(pace(progress)),
        ]
        if status.pause:
            parts.append(Text(f"paused: {printable_lines(status.pause)}", style="yellow"))
        if status.trouble:
            parts.append(Text(f"trouble: {printable_lines(status.trouble)}", style="yellow"))
        return Group(*parts, _nodes(status))

    def end(self, status: Status) -> None:
        for line in end_lines(status):
            click.echo(printable(line))


class _Tail:
    """One line of which the end is shown where there is no room for all: paths differ there."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, max(1, cell_len(self._text)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self._text
        if cell_len(shown) > options.max_width:
            while shown and cell_len(shown) >= options.max_width:
                shown = shown[1:]
            shown = f"…{shown}"
        yield Text(shown, no_wrap=True)


def _nodes(status: Status) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for node in status.nodes[:NODES_SHOWN]:
        notice, in_hand = printable_lines(node.notice), printable(next(iter(node.in_hand), "-"))
        table.add_row(
            Text(f"  {printable(node.node)}", style="dim"),
            human_rate(node.items_per_s),
            f"{human_bytes(node.bytes_per_s)}/s",
            Text(notice, overflow="ellipsis", no_wrap=True) if notice else _Tail(in_hand),
        )
    if status.node_count > NODES_SHOWN:
        table.add_row(f"  and {status.node_count - NODES_SHOWN} more nodes")
    return table
