"""Tables of results, as Markdown.

python benchmarks/report.py results.json                        # prints them
python benchmarks/report.py results.json docs/benchmarks.md     # puts them between the page's two marks
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rounds import Run

MIB = 1 << 20
BEGIN, END = "<!-- made by benchmarks/report.py -->", "<!-- end -->"


def tables(runs: Sequence[Run], titles: dict[str, str]) -> str:
    """All cases' tables, in the order in which they were run."""
    places = dict.fromkeys((run.case, run.server) for run in runs)
    return "\n\n".join(
        _place([run for run in runs if (run.case, run.server) == place], titles[place[0]]) for place in places
    )


def _place(runs: list[Run], title: str) -> str:
    """A case on one server: what each tool took, and Ingest's ratio to each."""
    names = list(dict.fromkeys(run.tool for run in runs))
    names.sort(key=lambda name: not name.startswith("ingest"))
    first = runs[0]
    where = f", {first.server}" if first.server else ""
    items = {run.items for run in runs}
    count = f"{first.items:,} " if len(items) == 1 else ""
    head = f"### {count}{title}{where}\n\n"
    lost = [f"{run.tool} (round {run.round + 1}): {run.lost} of {run.items:,}" for run in runs if run.lost]
    said = "\n\nEnded with 0, but objects were missing: " + "; ".join(lost) + "." if lost else ""
    return head + _figures(runs, names) + "\n\n" + _ratios(runs, names) + said


def _figures(runs: list[Run], names: list[str]) -> str:
    with_bytes = runs[0].size_bytes > 0
    heads = ["", "rounds", "items", "wall s", "items/s", "running items/s"]
    heads += ["MiB/s", "CPU s/GiB"] if with_bytes else ["CPU µs/item"]
    lines = [[*heads, "CPU s", "server's CPU s", "peak MiB", "others' CPU"]]
    for name in names:
        some = [run for run in runs if run.tool == name]
        gib = some[0].size_bytes / 1024**3
        cpu_s = _median(some, lambda run: run.cpu_s)
        whole = _median(some, lambda run: run.whole_rate)
        if with_bytes:
            cost = [f"{whole * some[0].size_bytes / some[0].items / MIB:,.1f}", f"{cpu_s / gib:.1f}"]
        else:
            cost = [f"{cpu_s / some[0].items * 1e6:,.1f}"]
        lines.append(
            [
                name,
                str(len(some)),
                f"{some[0].items:,}",
                f"{_median(some, lambda run: run.wall_s):.2f}",
                _rate(whole),
                _rate(_median(some, lambda run: run.running_rate)),
                *cost,
                f"{cpu_s:.2f}",
                f"{_median(some, lambda run: run.server_cpu_s):.2f}",
                f"{_median(some, lambda run: run.peak_bytes) / MIB:,.0f}",
                f"{_median(some, lambda run: run.other_share):.0%}",
            ]
        )
    return _markdown(lines)


def _ratios(runs: list[Run], names: list[str]) -> str:
    ours, *others = names
    lines = [[f"{ours} to", "pairs", "whole command", "once running", "CPU an item", "peak memory"]]
    for name in others:
        pairs = _pairs(runs, ours, name)
        if pairs:
            lines.append(
                [
                    name,
                    str(len(pairs)),
                    _ratio(pairs, lambda run: run.whole_rate),
                    _ratio(pairs, lambda run: run.running_rate),
                    _ratio(pairs, lambda run: run.cpu_s / run.items),
                    _ratio(pairs, lambda run: run.peak_bytes),
                ]
            )
    return _markdown(lines)


def _pairs(runs: list[Run], ours: str, theirs: str) -> list[tuple[Run, Run]]:
    """Two tools' runs of the same rounds."""
    mine = {run.round: run for run in runs if run.tool == ours}
    return [(mine[run.round], run) for run in runs if run.tool == theirs and run.round in mine]


def _median(runs: list[Run], figure: Callable[[Run], float]) -> float:
    return statistics.median(figure(run) for run in runs)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


def _ratio(pairs: list[tuple[Run, Run]], figure: Callable[[Run], float]) -> str:
    """The median of the pairs' ratios, the least and the greatest."""
    values = [figure(mine) / figure(theirs) for mine, theirs in pairs]
    low, middle, high = min(values), statistics.median(values), max(values)
    digits = 4 if middle < 0.05 else 2 if middle < 20 else 0
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def _markdown(lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def put_into(page: Path, text: str) -> None:
    """Replace what lies between a page's two marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    from bench import TITLES

    found = json.loads(Path(sys.argv[1]).read_text())
    made = tables([Run(**run) for run in found["runs"]], TITLES)
    if len(sys.argv) > 2:
        put_into(Path(sys.argv[2]), made)
    else:
        print(made)
