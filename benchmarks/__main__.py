"""Every benchmark, one after the other, each in a process of its own: ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = ("small_files.py", "enumerate.py")

for name in BENCHMARKS:
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name(name)), *sys.argv[1:]], check=True)
