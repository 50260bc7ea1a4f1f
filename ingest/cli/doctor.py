"""``ingest doctor``: what this machine has, and what it lacks for what."""

from __future__ import annotations

from dataclasses import asdict

import click

from ingest.cli.checks import Check, all_checks
from ingest.cli.options import load_settings
from ingest.cli.output import emit_json, table
from ingest.cli.setting_table import setting_rows


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> int:
    """Look at what this machine has and lacks, and at its settings. Changes nothing.

    Ends with 0 where jobs can run here, with 5 where no Redis can be had, else with 2. What only some
    jobs need does not count.

    \b
    Example:
      ingest doctor
    """
    settings = load_settings()
    checks = all_checks(settings)
    rows = setting_rows(settings)
    if as_json:
        emit_json({"checks": [asdict(check) for check in checks], "settings": [asdict(row) for row in rows]})
    else:
        table(["", "what", "found"], [(_mark(check), check.what, check.found) for check in checks])
        click.echo()
        table(["setting", "value", "from"], [(row.variable, row.value, row.source) for row in rows])
    return _exit_code(checks)


def _mark(check: Check) -> str:
    if check.ok:
        return "ok"
    return "MISSING" if check.exit_code else "-"


def _exit_code(checks: list[Check]) -> int:
    return next((check.exit_code for check in checks if not check.ok and check.exit_code), 0)
