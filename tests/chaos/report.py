"""What a trial measured: a line of JSON each, and the table of many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Report:
    """What one run of a scenario came to.

    Attributes:
        items: how many the job had; each was stored and counted exactly once, or the run failed.
        faults: what was done to it, and how often.
        stored: objects, and parts of large ones, that the store took.
        twice: how often it took one of them again.
        longest_gap_s: the longest time in which nothing was stored and nothing counted.
        resumed_s: after a kill, how long until all that was in hand was begun again; the longest.
        lease_s: the job's lease time, to compare that with.
        timeline: what was done when, in seconds.
        error: why the audit failed, or "".
        skipped: what it needs and this machine has not, or "".
    """

    scenario: str
    seed: int
    items: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    stored: int = 0
    twice: int = 0
    longest_gap_s: float = 0.0
    resumed_s: float | None = None
    lease_s: float = 0.0
    took_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    timeline: list[tuple[float, str]] = field(default_factory=list)
    error: str = ""
    skipped: str = ""

    @property
    def twice_percent(self) -> float:
        """Work done twice, in percent of all."""
        return 100 * self.twice / self.stored if self.stored else 0.0

    def to_json(self) -> str:
        """One line."""
        rounded = {
            name: round(value, 2) if isinstance(value, float) else value for name, value in vars(self).items()
        }
        return json.dumps({**rounded, "twice_percent": round(self.twice_percent, 2)})

    def append(self, path: Path) -> None:
        """Add it to a file of reports, as one write: several processes do so."""
        with path.open("a") as file:
            file.write(self.to_json() + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of reports; none where there is no file yet."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def table(reports: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with a row for each scenario, over all its runs."""
    lines = [
        "| scenario | runs | failed | items | faults | work done twice | longest gap | resumed after a kill |",
        "|---|--:|--:|--:|---|--:|--:|--:|",
    ]
    reports = [report for report in reports if not report["skipped"]]
    for name in sorted({report["scenario"] for report in reports}):
        lines.append(_row(name, [report for report in reports if report["scenario"] == name]))
    lines.append(_row("**all**", reports))
    return "\n".join(lines) + "\n"


def _row(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    items = sum(run["items"] for run in runs)
    stored, twice = (sum(run[name] for run in runs) for name in ("stored", "twice"))
    faults = sum((Counter(run["faults"]) for run in runs), Counter())
    resumed = [f"{run['resumed_s']:.0f} s of {run['lease_s']:.0f} s" for run in _slowest_first(runs)]
    cells = [
        name.replace("_", " "),
        f"{len(runs)}",
        f"{sum(1 for run in runs if run['error'])}",
        f"{items:,}",
        f"{faults.total():,}" if name == "**all**" else _listed(faults),
        f"{100 * twice / stored:.2f}%" if stored else "",
        f"{max(run['longest_gap_s'] for run in runs):.0f} s",
        resumed[0] if resumed else "",
    ]
    return f"| {' | '.join(cells)} |"


def _listed(faults: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} × {fault}" for fault, count in sorted(faults.items()) if count)


def _slowest_first(runs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    killed = [run for run in runs if run["resumed_s"] is not None]
    return sorted(killed, key=lambda run: run["resumed_s"] / run["lease_s"], reverse=True)
