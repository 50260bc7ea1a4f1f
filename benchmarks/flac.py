"""A whale tag's raw audio to FLAC: how many times real time one core makes it, with the check bit for bit.

    python benchmarks/flac.py [--minutes 5] [--rounds 3] [--levels 0,2,5,8] [--json FILE]

3 channels of 16 bits at 96 kHz, big-endian, as tags write them, of coloured noise with clicks. A file is converted by
the tile processor's own functions: encoded, decoded again, compared with the file byte by byte, and hashed. What is
measured is CPU time of the process, the best of the rounds, in turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from harness import Table, machine

from ingest.conversions import compared
from ingest.raw_audio import RawFormat, decode_flac, encode_flac

FORM = RawFormat(3, 16, 96_000, "big")
WANTED = 150


def write_raw(path: Path, minutes: float) -> None:
    """Sea noise that falls with frequency, hiss of the converter, and clicks; another in each channel."""
    random = np.random.default_rng(1)
    second = FORM.sample_rate_hz
    with path.open("wb") as file:
        for _ in range(round(minutes * 60)):
            spectrum = np.fft.rfft(random.normal(0, 1, (second, 3)), axis=0)
            spectrum /= np.maximum(np.fft.rfftfreq(second, 1 / second), 20)[:, None] ** 0.8
            sound = np.fft.irfft(spectrum, second, axis=0)
            sound *= 800 / sound.std()
            sound += random.normal(0, 4, sound.shape)
            for begin in random.integers(0, second - 400, 4).tolist():
                fall = np.exp(-np.arange(400) / 80)[:, None]
                sound[begin : begin + 400] += 8000 * random.normal(0, 1, (400, 3)) * fall
            file.write(np.rint(sound).clip(-32768, 32767).astype(">i2").tobytes())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--levels", type=lambda text: [*map(int, text.split(","))], default=[0, 2, 5, 8])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        raw, flac = Path(folder, "a.raw"), Path(folder, "a.flac")
        write_raw(raw, args.minutes)
        with raw.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        best: dict[int, tuple[float, float, float]] = {}
        for _ in range(args.rounds):
            for level in args.levels:
                began = time.process_time()
                encode_flac(raw, flac, FORM, level=level)
                encoded = time.process_time()
                assert compared(raw, decode_flac(flac)) == sha256
                ended = time.process_time()
                took = encoded - began, ended - encoded, flac.stat().st_size / raw.stat().st_size
                best[level] = min(took, best.get(level, took), key=lambda some: some[0] + some[1])
    table = Table(["level", "encoded", "checked", "both", f"of {WANTED}", "size"])
    audio_s = args.minutes * 60
    for level, (encode_s, check_s, size) in best.items():
        both = audio_s / (encode_s + check_s)
        rates = [f"{audio_s / encode_s:.0f} x", f"{audio_s / check_s:.0f} x", f"{both:.0f} x"]
        table.rows.append([str(level), *rates, f"{both / WANTED:.2f}", f"{size:.1%}"])
    print(table)
    if args.json:
        figures = {
            level: dict(zip(("encode_s", "check_s", "size"), took, strict=True))
            for level, took in best.items()
        }
        args.json.write_text(
            json.dumps({"machine": machine(), "audio_s": audio_s, "levels": figures}, indent=1)
        )


if __name__ == "__main__":
    main()
