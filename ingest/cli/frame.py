"""The frame around all commands: loading them late, grouped help, and one place that makes exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import click

from ingest.cli.output import note
from ingest.errors import EXIT_CODES, DiskFull, IngestError, LimitReached, PluginError, did_you_mean
from ingest.start import EXIT_INTERRUPTED, interruptible

COLLECT_AT = 100_000
"""New objects at which Python looks for garbage: loading makes as many, and all of them stay."""
EXIT_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended


class CommandSpec(NamedTuple):
    """Where a command is found, and what the top help says of it without loading it."""

    module: str
    group: str
    help: str


class LazyGroup(click.Group):
    """A group that imports the module of a command only when that command is run or asked for help.

    A command may return its exit code; None is 0.
    """

    def __init__(self, *args: Any, specs: Mapping[str, CommandSpec], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.specs = specs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.specs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.specs:
            return None
        command: click.Command = import_module(f"ingest.cli.{self.specs[cmd_name].module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.specs:
            hint = did_you_mean(args[0], self.specs)
            raise click.UsageError(f"No such command {args[0]!r}{f' ({hint})' if hint else ''}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, spec in self.specs.items():
            groups.setdefault(spec.group, []).append((name, spec.help))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows, col_max=12)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and end the process with its exit code."""
        run: Callable[[], Any] = partial(
            super().main, args, prog_name, complete_var, standalone_mode=False, **extra
        )
        if not standalone_mode:
            return run()
        _open_streams()
        gc.set_threshold(COLLECT_AT)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            with interruptible():
                result = run()
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where all errors end
            sys.exit(_report(error))
        gc.freeze()  # all ends now: to look once more through all that was loaded takes a quarter of a second
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _hang_up()


def _open_streams() -> None:
    """Give a stream that is closed (``2>&-``) to the null device: the next file opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _report(error: Exception | KeyboardInterrupt) -> int:
    """Say what went wrong on standard error; returns the exit code."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        note("interrupted")
        return EXIT_INTERRUPTED
    if isinstance(error, click.ClickException):
        error.show()
        return 2
    if isinstance(error, BrokenPipeError):
        _hang_up()
    if os.environ.get("INGEST_LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    error = DiskFull.of(error) or LimitReached.of(error) or error
    if isinstance(error, IngestError):
        _say(
            error.what if not getattr(error, "place", None) else str(error).partition("\n  hint: ")[0],
            error.hint,
        )
        return error.exit_code
    from ingest.plugin_loader import plugin_at_fault  # costs what a command without a job can do without

    plugin = plugin_at_fault(error)
    whose = f"a fault in the plugin {plugin}" if plugin else "a fault of ours, please report it"
    _say(
        f"{whose}: {type(error).__name__}: {error}",
        "run it again with INGEST_LOG_LEVEL=DEBUG to see where",
    )
    return PluginError.exit_code if plugin else 1


def _say(what: str, hint: str | None) -> None:
    note(f"error: {what}")
    if hint:
        note(f"  hint: {hint}")


def _hang_up() -> NoReturn:
    """End without a word: whoever read our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(EXIT_BROKEN_PIPE)
