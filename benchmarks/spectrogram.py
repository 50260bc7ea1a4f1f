"""Spectrograms of a hydrophone: ours, and the method of whaledr's script, on the same sound, in one run.

    python benchmarks/spectrogram.py [--rounds 5] [--file-s 300] [--segment-s 10] [--theirs N] [--json FILE]

Each round runs both, one after the other; the ratio is taken pair by pair, and the median counts. Each side runs in
a process of its own, with nothing else beside it. Theirs is written down afresh, step by step as whaledr does it:
``mlab.specgram`` with 99.5 % overlap, ``imshow``, ``savefig``, a normalised 32-bit WAV. Ours is the tile processor
with ``preset: "whaledr"`` and the same clip, over one whole MiniSEED file, with each object hashed and stored in a
folder. All files of both lie in memory, so that no disk is measured. What is measured is CPU time of the process,
after one segment to warm up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as nodes do: what idle threads spin is nobody's work

import numpy as np
from harness import Table, machine, memory_folder

RATE_HZ = 64_000
CHANNEL = "OO.HYEA2..YDH"
START = "2019-01-12T15:10:00.000000"
STAGES = ("decode", "FFT", "pixels", "PNG", "clip", "hash", "upload")


def sea(seconds: float, seed: int = 1) -> Any:
    """Coloured noise with whale-like sweeps and clicks, as 32-bit integers."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(random.normal(0, 1, count))
    spectrum /= np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 20) ** 0.8
    sound = np.fft.irfft(spectrum, count)
    sound *= 3000 / sound.std()
    time_s = np.arange(count) / RATE_HZ
    sound += (
        4000 * np.sin(2 * np.pi * (300 * time_s + 150 * np.sin(0.6 * np.pi * time_s))) * (time_s % 3 < 1.5)
    )
    for begin in random.integers(0, count - 200, round(3 * seconds)).tolist():
        sound[begin : begin + 200] += 20_000 * random.normal(0, 1, 200) * np.exp(-np.arange(200) / 40)
    return np.rint(sound).astype(np.int32)


def write_mseed(path: Path, sound: Any, start: str = START) -> None:
    """A file as OOI's: STEIM2, big-endian, records of 4,096 bytes."""
    from obspy import Stream, Trace, UTCDateTime

    net, sta, loc, cha = CHANNEL.split(".")
    header = {"sampling_rate": RATE_HZ, "starttime": UTCDateTime(start)}
    trace = Trace(sound, header | {"network": net, "station": sta, "location": loc, "channel": cha})
    Stream([trace]).write(str(path), format="MSEED", encoding="STEIM2", reclen=4096, byteorder=">")


# Their method


def their_picture(sound: Any, path: Path) -> None:
    """One segment's picture, as whaledr draws it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import mlab, pyplot
    from matplotlib.colors import Normalize

    exact = 0.056 * RATE_HZ
    below, above = 2 ** np.floor(np.log2(exact)), 2 ** np.ceil(np.log2(exact))
    size = int(above if above - exact < exact - below else below)
    power, hz, time_s = mlab.specgram(sound / 1e-6, NFFT=size, Fs=RATE_HZ, noverlap=int(size * 0.995))
    level = np.flipud(10 * np.log10(power[1:]))
    khz = hz[1:] / 1000
    half_s, half_khz = (time_s[1] - time_s[0]) / 2, (khz[1] - khz[0]) / 2
    extent = (time_s[0] - half_s, time_s[-1] + half_s, khz[0] - half_khz, khz[-1] + half_khz)
    low, span = level.min(), level.max() - level.min()
    figure = pyplot.figure(frameon=False)
    axes = pyplot.Axes(figure, (0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    figure.add_axes(axes)
    norm = Normalize(low + 0.50 * span, low + 0.95 * span)
    axes.imshow(level, extent=extent, norm=norm, cmap="bone", aspect="auto")
    figure.set_size_inches(512 / figure.get_dpi(), 512 / figure.get_dpi())
    axes.set_xlim(0, len(sound) / RATE_HZ)
    axes.set_ylim(0, 8)
    pyplot.savefig(path)
    pyplot.close(figure)


def their_clip(sound: Any, path: Path) -> None:
    """One segment's clip: normalised, 32-bit WAV."""
    import wave

    whole = (sound / np.abs(sound).max() * (2**31 - 1)).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(4)
        file.setframerate(RATE_HZ)
        file.writeframes(whole.tobytes())


def run_theirs(source: Path, folder: Path, segment_s: float, count: int) -> dict[str, Any]:
    """``count`` segments by their method; reading the file is counted by its share of it."""
    from obspy import read

    length = round(segment_s * RATE_HZ)
    begun_s = time.process_time()
    sound = read(str(source), format="MSEED")[0].data
    read_s = (time.process_time() - begun_s) * length / len(sound)
    their_picture(sound[: RATE_HZ // 2], folder / "warm-up.png")
    begun_s = time.process_time()
    for number in range(count):
        part = sound[number * length : (number + 1) * length]
        their_picture(part, folder / f"theirs-{number}.png")
        their_clip(part, folder / f"theirs-{number}.wav")
    return {"cpu_s": (time.process_time() - begun_s) / count + read_s, "segments": count}


# Ours


class Stages:
    """CPU time by stage, taken around the functions that do them."""

    def __init__(self) -> None:
        self.cpu_s: Counter[str] = Counter()

    def around(self, owner: Any, name: str, stage: str) -> None:
        """Count what a function or method takes as a stage's."""
        setattr(owner, name, self.counted(getattr(owner, name), stage))

    def counted(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """A function that does the same, and is counted."""

        def wrapper(*args: Any, **named: Any) -> Any:
            with self.stage(stage):
                return function(*args, **named)

        return wrapper

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Count what is done within as a stage's."""
        begun_s = time.process_time()
        try:
            yield
        finally:
            self.cpu_s[stage] += time.process_time() - begun_s


def run_ours(source: Path, folder: Path, segment_s: float) -> dict[str, Any]:
    """The whole file with our processor, hashed and stored."""
    from ingest.plugins import clip, miniseed, pixels, psd, spectrogram
    from ingest.processors import JobContext, Source
    from ingest.stores.base import ObjectMeta
    from ingest.stores.local import LocalStore
    from ingest.workers.memory import keep_freed_memory

    keep_freed_memory()  # as a node's processes do
    store = LocalStore(f"file://{folder / 'stored'}", folder / "stored")
    store.probe()
    context = JobContext("bench", "bench", "2026-01-31", None, folder)
    params = {"preset": "whaledr", "segment_s": segment_s, "clip_bits": 32, "clip_scale": "normalised"}
    processor = spectrogram.Spectrogram(spectrogram.SpectrogramParams(**params), context)

    def do(path: Path, stages: Stages, prefix: str) -> int:
        from ingest.items import FileItem

        count = 0
        for number, upload in enumerate(processor.uploads(Source(FileItem(path.name), path))):
            body = upload.body
            assert isinstance(body, bytes)
            with stages.stage("hash"):
                meta = ObjectMeta(hashlib.sha256(body).hexdigest(), upload.content_type or "", {})
            with stages.stage("upload"):
                store.put(f"{prefix}/{number}{upload.fields['suffix']}", body, meta, if_absent=False)
            count += upload.metadata["kind"] == "picture"
        return count

    warm_up = folder / "warm-up.mseed"
    write_mseed(warm_up, sea(segment_s))
    do(warm_up, Stages(), "warm-up")
    stages = Stages()
    stages.around(miniseed.Recording, "_decode", "decode")
    stages.around(miniseed, "read_headers", "decode")
    stages.around(psd.Spectra, "density", "FFT")
    stages.around(pixels.Canvas, "indices", "pixels")
    stages.around(spectrogram, "png", "PNG")
    stages.around(clip.ClipMaker, "make", "clip")
    begun_s, begun_wall_s = time.process_time(), time.monotonic()
    count = do(source, stages, "file")
    cpu_s = time.process_time() - begun_s
    return {
        "cpu_s": cpu_s / count,
        "wall_s": (time.monotonic() - begun_wall_s) / count,
        "segments": count,
        "stages_s": {stage: stages.cpu_s[stage] / count for stage in STAGES},
        "other_s": (cpu_s - sum(stages.cpu_s.values())) / count,
    }


def measured(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What a function returns in a process of its own, with that process's greatest memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, function, args))
    process.start()
    result: dict[str, Any] = ours.recv()
    process.join()
    return result


def _child(pipe: Any, function: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> None:
    result = function(*args)
    pipe.send(result | {"peak_mib": _peak_kib() / 1024})


def _peak_kib() -> int:
    """This process's greatest memory; getrusage's is also that of the one that it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Run both, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file-s", type=float, default=300)
    parser.add_argument("--segment-s", type=float, default=10)
    parser.add_argument(
        "--theirs", type=int, default=1, help="segments by their method, which takes its time"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds: list[Round] = []
    with TemporaryDirectory(dir=memory_folder()) as scratch:
        folder = Path(scratch)
        source = folder / "source.mseed"
        write_mseed(source, sea(arguments.file_s))
        for _ in range(arguments.rounds):
            ours = measured(run_ours, source, folder, arguments.segment_s)
            theirs = measured(run_theirs, source, folder, arguments.segment_s, arguments.theirs)
            rounds.append(Round(ours, theirs))
    _print(rounds, arguments.segment_s)
    if arguments.json:
        result = {
            "rounds": [asdict(one) for one in rounds],
            "segment_s": arguments.segment_s,
            "machine": machine(),
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Round:
    """Both, one after the other."""

    ours: dict[str, Any]
    theirs: dict[str, Any]

    @property
    def ratio(self) -> float:
        """How many times less CPU ours takes, with all that it does."""
        return float(self.theirs["cpu_s"] / self.ours["cpu_s"])

    @property
    def bare_ratio(self) -> float:
        """The same without what theirs does not do: hashing, and storing that is verified."""
        stages_s = self.ours["stages_s"]
        return float(self.theirs["cpu_s"] / (self.ours["cpu_s"] - stages_s["hash"] - stages_s["upload"]))


def _print(rounds: Sequence[Round], segment_s: float) -> None:
    table = Table((f"a segment of {segment_s:g} s", "CPU ms", "least", "most", "peak MiB"))

    def add(name: str, cpu_s: Sequence[float], peak_mib: str = "") -> None:
        table.rows.append((name, *(f"{1000 * f(cpu_s):,.2f}" for f in (median, min, max)), peak_mib))

    for name, results in (
        ("whaledr's method", [one.theirs for one in rounds]),
        ("ours, all of it", [one.ours for one in rounds]),
    ):
        add(name, [result["cpu_s"] for result in results], f"{max(r['peak_mib'] for r in results):,.0f}")
    whole_s = median([one.ours["cpu_s"] for one in rounds])
    for stage in (*STAGES, "the rest"):
        cpu_s = [{**one.ours["stages_s"], "the rest": one.ours["other_s"]}[stage] for one in rounds]
        add(f"  {stage} ({median(cpu_s) / whole_s:.0%})", cpu_s)
    print(table)
    print("\ntimes less CPU a segment, pair by pair: median (least-most)")
    for what, ratios in (
        ("all of ours, hashed and stored, which theirs does not do", [one.ratio for one in rounds]),
        ("picture and clip alone", [one.bare_ratio for one in rounds]),
    ):
        print(f"  {median(ratios):,.0f} ({min(ratios):,.0f}-{max(ratios):,.0f})  {what}")


if __name__ == "__main__":
    main()
