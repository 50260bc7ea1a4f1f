"""The gallery's data as scripts: one lists days and hours, and one an hour lists its segments.

Scripts, because a page opened from a folder may load those, and may not fetch JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.plugins.stored_segments import KINDS, Segment

# Facts that neighbours have in common are written once for all of them.
SHARED_FACTS = ("channel_id", "units", "freq_scale", "clip_scale", "plot_box")
SHARED_NUMBERS = ("duration_s", "sample_rate_hz", "freq_min_hz", "freq_max_hz")


def call(function: str, argument: object) -> bytes:
    """A script that hands ``argument`` to a function of the page; its text can end no script and start no tag."""
    text = json.dumps(argument, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")
    return f"{function}({text});\n".encode("ascii")


def hour_data(hour: str, segments: Sequence[Segment]) -> dict[str, Any]:
    """What the page needs to know of an hour's segments (of which there is one at least).

    ``segments`` are rows of: milliseconds since the hour began, the rest of the stem after ``prefix``, the number
    of its shared facts, gap fraction, why it is partial, and the lower and upper colour limits in dB.
    """
    prefix = os.path.commonprefix([segment.stem for segment in segments])  # noqa: RUF071 (characters are meant)
    shared: dict[str, int] = {}
    rows = []
    for segment in segments:
        facts = segment.facts
        number = shared.setdefault(json.dumps(_shared_facts(segment)), len(shared))
        since_hour = segment.start - segment.start.replace(minute=0, second=0, microsecond=0)
        row: list[Any] = [
            round(since_hour.total_seconds() * 1000),
            segment.stem.removeprefix(prefix),
            number,
            gap_fraction(segment),
            facts.get("partial", ""),
            _number(facts, "level_min_db"),
            _number(facts, "level_max_db"),
        ]
        rows.append(row)
    return {"hour": hour, "prefix": prefix, "facts": [json.loads(text) for text in shared], "segments": rows}


def hour_summary(segments: Sequence[Segment]) -> list[Any]:
    """Of an hour: how many segments there are, what part of them is gap, and how many on each channel."""
    channels: dict[str, int] = {}
    for segment in segments:
        channel = segment.facts.get("channel_id", "")
        channels[channel] = channels.get(channel, 0) + 1
    gap = sum(gap_fraction(segment) for segment in segments) / len(segments)
    return [len(segments), round(gap, 4), channels]


def gap_fraction(segment: Segment) -> float:
    """What part of a segment is gap, from 0 to 1; 0 where its uploads do not say."""
    gap = _number(segment.facts, "gap_fraction")
    return min(max(gap, 0.0), 1.0) if gap is not None else 0.0


def _shared_facts(segment: Segment) -> dict[str, Any]:
    facts: dict[str, Any] = {name: segment.facts[name] for name in SHARED_FACTS if name in segment.facts}
    for name in SHARED_NUMBERS:
        if (number := _number(segment.facts, name)) is not None:
            facts[name] = number
    return {**facts, **{kind: segment.suffixes[kind] for kind in KINDS if kind in segment.suffixes}}


def _number(facts: Mapping[str, str], name: str) -> float | None:
    """A fact as a number; None where it is missing, or no finite number."""
    try:
        number = float(facts.get(name, ""))
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
