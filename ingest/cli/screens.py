"""What a person, or a program, sees of a job while it runs."""

from __future__ import annotations

import abc
import sys
import time
from types import TracebackType
from typing import Self

import click

from ingest.cli.output import emit_json, human_bytes, human_duration, human_rate, note, plural, printable
from ingest.ledger import State
from ingest.presence import NodeInfo
from ingest.progress import Progress, ProgressMeter
from ingest.status import Status

PLAIN_EVERY_S = 5.0
JSON_EVERY_S = 1.0
NODES_SHOWN = 12


class Screen(abc.ABC):
    """Shows a job's progress. Entered while there is something to show."""

    def __init__(self) -> None:
        self._meter = ProgressMeter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abc.abstractmethod
    def show(self, status: Status) -> None:
        """The job now; called several times a second."""

    @abc.abstractmethod
    def trouble(self, text: str) -> None:
        """Redis is away, so that there is nothing else to show; called several times a second."""

    def remark(self, text: str) -> None:
        """A word to the person."""
        note(text)

    @abc.abstractmethod
    def end(self, status: Status) -> None:
        """The job has ended, or waits for ``ingest complete``."""


class JsonScreen(Screen):
    """One object a line: ``progress`` each second, or ``waiting`` while Redis is away; ``ended`` at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s = 0.0

    def show(self, status: Status) -> None:
        if time.monotonic() - self._said_s >= JSON_EVERY_S:
            self._said_s = time.monotonic()
            emit_json({"event": "progress", **status.to_dict()})

    def trouble(self, text: str) -> None:
        if time.monotonic() - self._said_s >= JSON_EVERY_S:
            self._said_s = time.monotonic()
            emit_json({"event": "waiting", "reason": text})

    def end(self, status: Status) -> None:
        emit_json({"event": "ended", "exit_code": status.exit_code, **status.to_dict()})


class PlainScreen(Screen):
    """A line every few seconds, and one for each change of state, pause or trouble."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s = 0.0
        self._told = ("", "", "")

    def show(self, status: Status) -> None:
        progress = self._meter.read(status)
        news = (str(status.state), status.pause, status.trouble)
        if news == self._told and time.monotonic() - self._said_s < PLAIN_EVERY_S:
            return
        if status.pause and status.pause != self._told[1]:
            note(f"paused: {status.pause}")
        if status.trouble and status.trouble != self._told[2]:
            note(f"trouble: {status.trouble}")
        self._told = news
        self._said_s = time.monotonic()
        note(progress_line(progress))
        for node in status.nodes[:NODES_SHOWN]:
            note(f"  {node_line(node)}")

    def trouble(self, text: str) -> None:
        if time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            note(text)

    def end(self, status: Status) -> None:
        for line in end_lines(status):
            click.echo(printable(line))


def node_line(node: NodeInfo) -> str:
    """One line: a node, its rate, and what it has in hand."""
    doing = node.notice or printable(next(iter(node.in_hand), "nothing in hand"))
    return f"{node.node}: {human_rate(node.items_per_s)}, {human_bytes(node.bytes_per_s)}/s, {doing}"


def amounts(progress: Progress) -> str:
    """Items and bytes of total, failed, skipped."""
    status, counts = progress.status, progress.status.counts
    so_far = "" if status.total_is_final else " so far"
    parts = [f"{progress.items_finished:,} of {plural(status.items_total, 'item')}{so_far}"]
    if counts.bytes_listed:
        parts.append(f"{human_bytes(counts.bytes_done)} of {human_bytes(counts.bytes_listed)}{so_far}")
    elif counts.bytes_stored:
        parts.append(f"{human_bytes(counts.bytes_stored)} stored")
    parts += [
        f"{count:,} {what}"
        for count, what in ((counts.failed, "failed"), (counts.skipped, "skipped"))
        if count
    ]
    return ", ".join(parts)


def pace(progress: Progress) -> str:
    """Rate, time left, nodes."""
    parts = []
    if progress.items_per_s:
        parts.append(f"{human_rate(progress.items_per_s)}, {human_bytes(progress.bytes_per_s)}/s")
    if progress.left_s is not None and progress.status.state is State.UPLOADING:
        parts.append(f"{human_duration(progress.left_s)} left")
    parts.append(plural(progress.status.node_count, "node"))
    return ", ".join(parts)


def progress_line(progress: Progress) -> str:
    """One line: state, amounts and pace."""
    return f"{progress.status.state}: {amounts(progress)}, {pace(progress)}"


def end_lines(status: Status) -> list[str]:
    """What to say when a job has ended."""
    counts = status.counts
    took_s = max(0, (status.ended_s or 0) - status.created_s)
    took = f" in {human_duration(took_s)}" if took_s else ""
    objects = f"{plural(counts.objects, 'object')}, {human_bytes(counts.bytes_stored)}"
    stored = f"{plural(counts.done, 'item')} stored ({objects})"
    lines = [f"{status.state}: {stored}, {counts.skipped:,} skipped, {counts.failed:,} failed{took}"]
    if counts.blank:
        lines.append(
            f"  {plural(counts.blank, 'tile')} of these are blank: their source was missing or unreadable"
        )
    if status.state in (State.COMPLETE, State.FAILED):
        lines.append(f"  manifest: {status.destination}/.ingest/{status.job_id}/")
    if status.state is State.FAILED:
        lines.append(f"  to see why: ingest failures -j {status.job_id}")
        lines.append(f"  to try them again: ingest retry -j {status.job_id}")
    if status.state is State.UPLOADED:
        lines.append(f"  all is uploaded; to end the job: ingest complete -j {status.job_id}")
    return lines


def make_screen(as_json: bool) -> Screen:
    """The screen that suits: JSON where asked for, live on a terminal, plain lines elsewhere."""
    if as_json:
        return JsonScreen()
    if sys.stderr.isatty():
        from ingest.cli.live_screen import LiveScreen

        return LiveScreen()
    return PlainScreen()
