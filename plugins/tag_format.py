"""What a whale tag's own files say of the raw audio beside them: channels, bits, rate, and so the byte order.

The tag's capture program (Project CETI, whale-tag-embedded) writes, each time it starts, ``data_config_<time>.txt``
with ``audio_bitdepth`` and ``audio_sample_rate`` (in kHz; 0 stands for 750 Hz) and ``data_tag_info_<time>.yaml`` with
``audio: channel_count``. Raw files are what its converter sends: signed, the most significant byte first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

CONFIG_FILES = "data_config*.txt"
INFO_FILES = "data_tag_info*.yaml"
LARGEST_BYTES = 64 * 1024

RATES_HZ = {"0": 750, "48": 48_000, "96": 96_000, "192": 192_000}
BITS = {"16": 16, "24": 24}
MOST_CHANNELS = 8

_SETTING = re.compile(r"\s*(\w+)\s*=\s*:?\s*([^#\s]*)")  # firmware writes `audio_bitdepth =: 16`
_TIME = re.compile(r"(?<!\d)(\d{10}|\d{13}|\d{16})(?!\d)")

Value = int | str
"""A number, or what a file says that is none: no tag records so."""


@dataclass(frozen=True, slots=True)
class TagFile:
    """What one of the tag's files says: ``channels``, ``bits``, ``sample_rate_hz``, as far as it does.

    ``trouble`` says why it cannot be read.
    """

    name: str
    values: Mapping[str, Value]
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A value, and the file that it is from; or why there is none."""

    value: int | None
    origin: str
    trouble: str = ""


def is_tag_file(name: str) -> bool:
    """Whether this is the name of a file that :func:`read_tag_file` reads."""
    return fnmatchcase(name, CONFIG_FILES) or fnmatchcase(name, INFO_FILES)


def read_tag_file(name: str, body: bytes) -> TagFile:
    """What a tag's file of this name and content says. A damaged one says nothing."""
    text = body.decode(errors="replace")
    if fnmatchcase(name, CONFIG_FILES):
        return TagFile(name, _of_config(text))
    return TagFile(name, _of_info(text))


def _of_config(text: str) -> dict[str, Value]:
    said = {match[1]: match[2] for line in text.splitlines() if (match := _SETTING.match(line))}
    values: dict[str, Value] = {}
    if bits := said.get("audio_bitdepth"):
        values["bits"] = BITS.get(bits, bits)
    if rate := said.get("audio_sample_rate"):
        values["sample_rate_hz"] = RATES_HZ.get(rate, rate)
    return values


def _of_info(text: str) -> dict[str, Value]:
    import yaml

    try:
        info: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    audio = info.get("audio") if isinstance(info, dict) else None
    count = audio.get("channel_count") if isinstance(audio, dict) else None
    if count is None:
        return {}
    is_number = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST_CHANNELS
    return {"channels": count if is_number else str(count)}


def time_ns(name: str) -> int | None:
    """The Unix time in a file's name, in nanoseconds; its number of digits says whether it is in s, ms or µs."""
    match = _TIME.search(name)
    return int(match[1]) * 10 ** (19 - len(match[1])) if match else None


@dataclass(frozen=True, slots=True)
class TagFiles:
    """All of a tag's files in one folder."""

    files: Sequence[TagFile] = field(default_factory=tuple)

    def known(self, what: str, name: str) -> Known:
        """What the files say of ``what`` for the raw file ``name``.

        Where they disagree, the last of those counts that were written before the raw file was begun, by the times in
        their names.
        """
        if unread := next((file for file in self.files if file.trouble), None):
            return Known(None, "", f"{unread.name} may say its {what}, and cannot be read: {unread.trouble}")
        said = [file for file in self.files if what in file.values]
        if len({file.values[what] for file in said}) > 1:
            began_ns = time_ns(name)
            dated = [(at_ns, file) for file in said if (at_ns := time_ns(file.name)) is not None]
            before = [pair for pair in dated if began_ns is not None and pair[0] <= began_ns]
            if not before or len(dated) < len(said):
                texts = ", ".join(f"{file.name} says {file.values[what]}" for file in said)
                return Known(None, "", f"the tag's files disagree on its {what} ({texts})")
            said = [max(before, key=lambda pair: pair[0])[1]]
        if not said:
            return Known(None, "", f"none of the tag's files beside it says its {what}")
        value = said[-1].values[what]
        if isinstance(value, str):
            return Known(None, "", f"{said[-1].name} says {value!r} for its {what}, which no tag records")
        return Known(value, said[-1].name)
