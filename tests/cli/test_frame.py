"""The frame: help that comes at once, and every error with its exit code and a sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ingest import errors
from ingest.cli import COMMANDS, main
from ingest.cli.frame import CommandSpec, LazyGroup
from tests.cli.conftest import Run

WRITTEN = [name for name, spec in COMMANDS.items() if find_spec(f"ingest.cli.{spec.module}")]
HEAVY = ("boto3", "botocore", "celery", "kombu", "obstore", "pyarrow", "pydantic", "redis", "rich", "PIL")


def raising(error: BaseException) -> click.Group:
    """A command line whose command ``fail`` raises this."""

    class Failing(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            def fail() -> None:
                raise error

            return click.Command("fail", callback=fail)

    return Failing("ingest", specs={"fail": CommandSpec("fail", "Group", "Fails.")})


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ingest.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"


def test_help_comes_at_once() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ingest.cli", "--help"], capture_output=True, check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.3


def test_it_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "stauts"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "did you mean 'status'" in done.stderr


def test_help_names_every_command_and_exit_code(run: Run) -> None:
    text = run("--help").stdout

    for name, spec in COMMANDS.items():
        assert f"  {name} " in text
        assert spec.help in text
    for code, meaning in errors.EXIT_CODES.items():
        assert f"  {code} " in text
        assert meaning[:40] in text


@pytest.mark.parametrize("name", WRITTEN)
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    result = run(name, "--help")

    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"ingest {name}" in result.stdout.partition("Example:")[2]


@pytest.mark.parametrize("name", WRITTEN)
def test_every_option_has_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None

    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("ingest, version 0.")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["crate"], "did you mean 'create'"),
        (["down", "--jason"], "No such option"),
        (["validate"], "Missing argument"),
        (["--nonsense"], "No such option"),
    ],
)
def test_a_wrong_command_line_is_2(run: Run, args: list[str], said: str) -> None:
    result = run(*args)

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("wrong", place="upload.threads", hint="do this"), 2),
        (errors.JobNotFound("wrong", hint="do this"), 2),
        (errors.SourceMissing("wrong", hint="do this"), 3),
        (errors.RedisUnreachable("wrong", hint="do this"), 5),
        (errors.StoreRefused("wrong", hint="do this"), 6),
        (errors.Stopped("wrong", hint="do this"), 130),
    ],
)
def test_our_errors_end_with_their_code_a_sentence_and_a_hint(error: errors.IngestError, code: int) -> None:
    result = CliRunner().invoke(raising(error), ["fail"])

    place = "upload.threads: " if code == 2 and isinstance(error, errors.ConfigError) else ""
    assert result.exit_code == code
    assert result.stderr == f"error: {place}wrong\n  hint: do this\n"


def test_a_fault_of_ours_is_1_in_one_sentence() -> None:
    result = CliRunner().invoke(raising(ZeroDivisionError("by zero")), ["fail"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: a fault of ours, please report it: ZeroDivisionError: by zero\n")
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_no_fault_of_ours() -> None:
    """As of the file that what is printed goes to."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ingest.cli", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr.startswith("error: no space is left on a disk of this machine")


@pytest.mark.parametrize(
    "error",
    [
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
    ],
    ids=["process", "thread"],
)
def test_a_limit_of_processes_is_no_fault_of_ours(error: Exception) -> None:
    """Root, as whom these tests may run, has none: so the answers of the system are made here."""
    result = CliRunner().invoke(raising(error), ["fail"])

    assert result.exit_code == 2
    assert result.stderr.startswith("error: this machine lets its user have no more processes or threads\n")
    assert "ulimit -u" in result.stderr


def test_a_locale_that_would_make_other_keys_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest.cli", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )

    assert done.returncode == 2
    assert "takes file names for ascii" in done.stderr
    assert "PYTHONUTF8=1" in done.stderr


def test_a_full_log_changes_no_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ingest.cli", "validate", "no-such-config.json"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2


def test_errors_cannot_steer_a_terminal() -> None:
    result = CliRunner().invoke(raising(errors.SourceMissing("\x1b[2Jx\nand more")), ["fail"])

    assert result.stderr == "error: \\x1b[2Jx\nand more\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_LOG_LEVEL", "DEBUG")

    assert "Traceback" in CliRunner().invoke(raising(ZeroDivisionError("by zero")), ["fail"]).stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130(error: BaseException) -> None:
    result = CliRunner().invoke(raising(error), ["fail"])

    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("when", ["click", "ingest.cli.list_jobs", "exit"])
def test_an_interrupt_at_any_moment_shows_no_traceback(when: str) -> None:
    """Also while the command line itself is loaded, and when it has ended."""
    code = (
        "import atexit, os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background ignores it
        "def interrupt_at(event):\n"
        f"    if event == {when!r}:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "class Importing:\n"
        "    def find_spec(self, name, *_):\n"
        "        interrupt_at(name)\n"
        "sys.meta_path.insert(0, Importing())\n"
        "atexit.register(interrupt_at, 'exit')\n"
        "from ingest.start import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "list", "--help"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 130
    assert done.stderr.strip() in ("", "interrupted")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_may_return_its_exit_code(returned: int | None, code: int) -> None:
    class Returning(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return click.Command("go", callback=lambda: returned)

    group = Returning("ingest", specs={"go": CommandSpec("go", "Group", "Goes.")})
    assert CliRunner().invoke(group, ["go"]).exit_code == code


def test_a_reader_that_hangs_up_ends_it_without_a_word() -> None:
    code = (
        "import click\n"
        "from ingest.cli.frame import CommandSpec, LazyGroup\n"
        "class Group(LazyGroup):\n"
        "    def get_command(self, ctx, name):\n"
        "        return click.Command('go', callback=lambda: [click.echo('x') for _ in range(10**6)])\n"
        "Group('ingest', specs={'go': CommandSpec('go', 'Group', 'Goes.')})(['go'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_fault(closed: str) -> None:
    """As of a program that a daemon starts."""
    code = (
        "import sys, click\n"
        "from ingest.cli import main\n"
        "@click.command()\n"
        "def look():\n"
        "    click.echo(f'{sys.stdin.isatty()} {sys.stderr.isatty()} {sys.stdout.fileno()}')\n"
        "main.get_command = lambda *_: look\n"
        "main(['list'])"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&- 2" in closed or closed == ">&-" else "False False 1\n")


def test_exit_codes_of_errors_are_documented() -> None:
    def below(cls: type[errors.IngestError]) -> list[type[errors.IngestError]]:
        return [cls, *(one for sub in cls.__subclasses__() for one in below(sub))]

    assert {cls.exit_code for cls in below(errors.IngestError)} <= set(errors.EXIT_CODES)
