"""Many small files: 20,000 of 16 KiB."""

from __future__ import annotations

import tools
import works
from rounds import Case

CASE = Case(
    name="small",
    title="files of 16 KiB",
    size=20_000,
    make=lambda folder, count: works.files(folder, count, 16 << 10),
    tools=tools.COPYING,
    servers=("nginx", "rclone"),
)
