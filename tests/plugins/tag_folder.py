"""A folder as a whale tag's capture program leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

START_MS = 1_700_000_000_000
CONFIG = """# Deployment Timestamp: {time}
surface_pressure = 0.30 # bar
BT = 300 # Seconds # burn time
audio_filter = wideband
audio_bitdepth =: {bits}
audio_sample_rate = {rate_khz} # KHz
rec_callsign = J75Y-1
"""
INFO = """id: "2.3-X"
hostname: "wt-0a1b2c3d"
audio:
  channel_count: {channels}
  channels:
    - id: 1
      gain: 18.0 # dB
"""
HEADER = "Timestamp [us],RTC Count,Notes,Overflow,Overflow Detection Location,Start Writing,Done Writing,See SPI Block"


def sound(frames: int, channels: int = 3, bits: int = 16, byte_order: str = "big", seed: int = 1) -> bytes:
    """Noise over the whole range, as a tag's converter sends it."""
    random = np.random.default_rng(seed)
    top = 1 << (bits - 1)
    samples = random.integers(-top, top, (frames, channels), dtype=np.int32)
    samples[: 2 * top // 1000] //= 100
    wide = samples.astype(">i4" if byte_order == "big" else "<i4").reshape(-1, 1).view(np.uint8)
    count = bits // 8
    return (wide[:, 4 - count :] if byte_order == "big" else wide[:, :count]).tobytes()


def write_config(
    folder: Path, *, bits: int | str = 16, rate_khz: int | str = 96, time: int = START_MS // 1000
) -> None:
    """The capture program's settings."""
    text = CONFIG.format(time=time, bits=bits, rate_khz=rate_khz)
    (folder / f"data_config_{time}.txt").write_text(text)


def write_info(folder: Path, *, channels: int | str = 3, time: int = START_MS // 1000) -> None:
    """What the tag is built of."""
    (folder / f"data_tag_info_{time}.yaml").write_text(INFO.format(channels=channels))


def write_status(folder: Path, rows: Sequence[tuple[int, str, bool, int]]) -> None:
    """The log of the capture: ms after :data:`START_MS`, notes, overflow, 1 or -1 where a write begins or ends."""
    lines = [HEADER]
    for at_ms, notes, overflow, writing in rows:
        fields = [
            "1" if overflow else "",
            "3" if overflow else "",
            "1" if writing > 0 else "",
            "1" if writing < 0 else "",
        ]
        lines.append(",".join([str((START_MS + at_ms) * 1000), "123", notes, *fields, ""]))
    (folder / "data_audio_status.csv").write_text("\n".join(lines) + "\n")
