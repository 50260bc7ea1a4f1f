"""``ingest verify``: check what is stored against the manifest."""

from __future__ import annotations

from contextlib import closing

import click

from ingest.cli.job_arg import open_job
from ingest.cli.options import job_option, json_option, load_settings
from ingest.cli.output import emit_json, plural, printable, printable_lines
from ingest.verify import verify


@click.command("verify")
@job_option
@click.option("--deep", is_flag=True, help="Read every object back and hash it.")
@json_option
def command(job_id: str, deep: bool, as_json: bool) -> int:
    """Compare every object of a completed job with its manifest: there, of the same size and ETag.

    A folder has no ETags: size alone is compared there, unless --deep reads everything.

    The exit code is 3 where anything is missing or differs, or where items of the job failed: these are not stored.

    \b
    Example:
      ingest verify -j k7f3q2xm
      ingest verify -j k7f3q2xm --deep
    """
    job = open_job(job_id, load_settings())
    failed = job.status().counts.failed
    count = wrong = by_etag = 0
    with closing(verify(job, deep=deep)) as findings:
        for finding in findings:
            count += 1
            by_etag += finding.by_etag
            if finding.problem:
                wrong += 1
                if as_json:
                    emit_json({"event": "problem", "key": finding.key, "problem": finding.problem})
                else:
                    click.echo(f"{printable(finding.key)}: {printable_lines(finding.problem)}")
    if as_json:
        found = {"objects": count, "problems": wrong, "failed_items": failed, "deep": deep}
        emit_json({"event": "verified", "job_id": job_id, **found})
    else:
        how = "read back and hashed" if deep else _compared(count, by_etag)
        click.echo(f"{plural(count, 'object')} {how}: {wrong or 'no'} problem{'' if wrong == 1 else 's'}")
        if failed:
            click.echo(f"{plural(failed, 'item')} failed and not stored: ingest failures -j {job_id}")
    return 3 if wrong or failed else 0


def _compared(count: int, by_etag: int) -> str:
    """How many objects were compared by what."""
    if by_etag == count:
        return "compared by size and ETag"
    return f"compared by size, {by_etag} of them by ETag too" if by_etag else "compared by size alone"
