"""The command line: a table of commands, each loaded when it is asked for."""

from __future__ import annotations

import os

import click

from ingest.cli.frame import CommandSpec, LazyGroup
from ingest.version import __version__

# It would look through all that is installed for plugins of its own, which takes longer than to check a config.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# A node has a process a core; numpy's own threads would wait in each of them for something to do, and not quietly.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

RUN, LOOK, HELP = "Run a job", "Look at jobs", "Help yourself"

COMMANDS = {
    "create": CommandSpec("create", RUN, "Make a job from a config and work on it."),
    "join": CommandSpec("join", RUN, "Help with a job from this machine."),
    "tags": CommandSpec("tags", RUN, "Find and offload whale tags."),
    "offload": CommandSpec("offload", RUN, "Offload a memory card: back up, upload, verify."),
    "devices": CommandSpec("devices", RUN, "List the registered devices, or register one."),
    "cancel": CommandSpec("cancel", RUN, "Stop a job everywhere and purge its queue."),
    "complete": CommandSpec("complete", RUN, "Complete a job that waits for a person's word."),
    "retry": CommandSpec("retry", RUN, "Reopen a job's failed items."),
    "status": CommandSpec("status", LOOK, "Show the state, counts and nodes of jobs."),
    "list": CommandSpec("list_jobs", LOOK, "List the jobs in this Redis."),
    "failures": CommandSpec("failures", LOOK, "List a job's failed items and why they failed."),
    "verify": CommandSpec("verify", LOOK, "Check what is stored against the manifest."),
    "validate": CommandSpec("validate", HELP, "Check a config and say what it means."),
    "schema": CommandSpec("schema", HELP, "Print the JSON Schema of job configs."),
    "plugins": CommandSpec("plugins", HELP, "List the installed processors, or one's parameters."),
    "doctor": CommandSpec("doctor", HELP, "Look at what this machine has and lacks."),
    "down": CommandSpec("down", HELP, "Stop the bundled Redis."),
}
"""Every command: the module below ``ingest.cli`` with its ``command``, its group and its line of help."""


@click.group(
    cls=LazyGroup,
    specs=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ingest")
def main() -> None:
    """Ingest instrument data into an object store: quickly, provably whole, with all machines that help.

    \b
    Example:
      ingest create config.json --to s3://bucket/prefix    # on one machine
      ingest join -j ID                                    # on any others
    """
