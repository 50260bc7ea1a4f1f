"""What ``ingest create`` does: imported when its node is under way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from ingest.cli.job_arg import open_redis
from ingest.cli.node_process import NodeProcess
from ingest.cli.output import emit_json, human_bytes, human_duration, note, plural, printable
from ingest.cli.screens import make_screen
from ingest.cli.work import work
from ingest.config import JobConfig, Settings, load_job_config
from ingest.coordinator import Coordinator
from ingest.creation import check, create_checked, probe
from ingest.errors import ConfigError
from ingest.job import Job
from ingest.ledger import State
from ingest.preview import NOTHING, Preview, Previewer, counted

LOOK_WITHIN_S = 3.0
GLANCE_S = 0.03
"""As long as that is looked where nobody is asked, and no two items can have one key."""
WORTH_ESTIMATING_S = 10
ESTIMATE_BYTES_PER_S = 50 * (1 << 20)


def create(
    node: NodeProcess | None,
    settings: Settings,
    config: Path,
    to: str | None,
    sets: Sequence[str],
    as_json: bool,
    manual_complete: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    """Make a job of a config file, and work on it; the exit code, as of :func:`ingest.cli.work.work`.

    Args:
        node: works on it; without one the job is left to others.
        config: the file.
        to, sets: what the command line has in place of what the file says.
        dry_run: only say what would be done.
        yes: do not ask.

    Raises:
        IngestError: see :func:`ingest.create`.
    """
    raw, base_dir = load_job_config(config, to, sets), config.absolute().parent
    checked = check(raw, base_dir, settings)
    if dry_run:
        return show_plan(checked, settings, as_json)
    job = make_job(checked, settings, node, as_json=as_json, yes=yes, manual_complete=manual_complete)
    if node is None:
        return _feed_and_leave(job)
    return work(job, node, make_screen(as_json))


def make_job(
    checked: JobConfig,
    settings: Settings,
    node: NodeProcess | None,
    *,
    as_json: bool,
    yes: bool,
    manual_complete: bool = False,
) -> Job:
    """Try a checked config's destination, show what would be done, ask, make the job, and give it to the node.

    Raises:
        ConfigError: there is nobody to ask, or two items have one key.
        StoreError, RedisError: the destination, or Redis, cannot be used.
    """
    probed = probe(checked)
    _confirm(checked, settings, yes=yes or as_json)
    open_redis(settings)
    job = create_checked(checked, probed, manual_complete=manual_complete, settings=settings)
    if node is not None:
        node.begin(job)
    if as_json:
        emit_json(
            {
                "event": "created",
                "job_id": job.job_id,
                "name": checked.name,
                "destination": checked.destination.url,
            }
        )
    else:
        where = "from other machines" if settings.redis_url else "more nodes on this machine"
        click.echo(f"job {job.job_id} created; {where}: ingest join -j {job.job_id}")
    return job


def offload(
    checked: JobConfig,
    settings: Settings,
    processes: int | None,
    *,
    as_json: bool,
    yes: bool,
    begun: Callable[[Job], None] = lambda job: None,
) -> tuple[Job, int]:
    """Make a job of the config of an offload, and work on it; the job, and the exit code.

    Args:
        processes: of this node; None for the machine's default.
        begun: is told the job as soon as there is one.

    Raises:
        IngestError: see :func:`make_job` and :func:`ingest.cli.work.work`.
    """
    with NodeProcess(processes) as node:
        job = make_job(checked, settings, node, as_json=as_json, yes=yes)
        begun(job)
        return job, work(job, node, make_screen(as_json))


def show_plan(config: JobConfig, settings: Settings, as_json: bool) -> int:
    """List a job's sources and keys, and store nothing; the exit code is 3 where an item would fail."""
    previewer = Previewer(config, settings)
    count = problems = 0
    for plan in previewer.plans():
        count += 1
        problems += bool(plan.problem)
        if as_json:
            emit_json(
                {
                    "event": "item",
                    "item": plan.item.name,
                    "source": plan.source,
                    "key": plan.key,
                    "problem": plan.problem or None,
                }
            )
        elif plan.problem:
            note(f"would fail: {printable(plan.item.name)}: {plan.problem}")
        else:
            click.echo(printable(f"{plan.source} -> {plan.key}"))
    previewer.close()
    backup = config.path_processor.params.get("backup_dir")
    if backup:
        note(f"backup copies would go below {backup}")
    note(f"{plural(count, 'item')}, of which {problems} would fail; nothing was stored")
    return 3 if problems else 0


def _confirm(config: JobConfig, settings: Settings, *, yes: bool) -> None:
    """Show what would be done, and ask.

    Raises:
        ConfigError: there is nobody to ask, or two items have one key.
    """
    previewer = Previewer(config, settings)
    is_glance = yes and config.key_template.keeps_paths_apart()
    seen = previewer.preview(GLANCE_S if is_glance else LOOK_WITHIN_S)
    previewer.close()
    for line in _summary(config, seen):
        note(line)
    if seen.first_twin:
        raise ConfigError(
            f"two items have one key: {seen.first_twin.problem}",
            place="destination.key",
            hint="{path} tells them apart",
        )
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to ask", hint="add --yes to go on without asking")
    click.confirm("Go on?", default=True, abort=True, err=True)


def _summary(config: JobConfig, seen: Preview) -> list[str]:
    tiles = config.ingest_job.type == "tiles"
    at_least = "" if seen.is_whole else "at least "
    amount = at_least + plural(seen.items, "tile" if tiles else "file")
    estimate = ""
    if seen.size_bytes:
        amount += f", {at_least}{human_bytes(seen.size_bytes)}"
    if seen.size_bytes > WORTH_ESTIMATING_S * ESTIMATE_BYTES_PER_S:
        estimate = f"{at_least}{human_duration(seen.size_bytes / ESTIMATE_BYTES_PER_S)} at 50 MiB/s"
    rows = {
        "job": config.name,
        "items": amount,
        "left out": counted(seen.left_out),
        "processors": f"{config.path_processor.class_} -> {config.tile_processor.class_}",
        "at the end": ", ".join(finisher.class_ for finisher in config.finishers),
        "backup": config.path_processor.params.get("backup_dir"),
        "destination": config.destination.url,
        "keys": str(config.key_template),
        "estimate": estimate,
    }
    lines = [f"{name + ':':13}{value}" for name, value in rows.items() if value]
    lines += [
        f"{'  first:' if not i else '':13}{printable(f'{plan.source} -> {plan.key}')}"
        for i, plan in enumerate(seen.first)
    ]
    if seen.is_whole and not seen.items:
        lines.append(f"{'warning:':13}{NOTHING}")
    if seen.first_problem:
        more = f"{plural(seen.problems, 'item')} would fail, first {printable(seen.first_problem.item.name)}"
        lines.append(f"{'warning:':13}{more}: {seen.first_problem.problem}")
    return lines


def _feed_and_leave(job: Job) -> int:
    """List as much as the queue has room for. The nodes that join list the rest."""
    coordinator = Coordinator(job, f"create-{job.job_id}")
    with coordinator.on_duty():
        while coordinator.step():
            pass
    status = job.status()
    if status.state in (State.PREPARING, State.UPLOADING):
        rest = "all" if status.counts.enumerated else "the nodes list the rest; so far"
        note(
            f"{rest} {plural(status.counts.items_listed, 'item')} queued; nothing is uploaded until a node joins"
        )
    return 0
