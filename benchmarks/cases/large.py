"""Large files, sent in parts: four of 512 MiB. nginx knows no multipart uploads."""

from __future__ import annotations

import tools
import works
from rounds import Case

CASE = Case(
    name="large",
    title="files of 512 MiB",
    size=4,
    make=lambda folder, count: works.files(folder, count, 512 << 20),
    tools={"ingest": tools.ingest, "s5cmd": tools.s5cmd, "rclone": tools.rclone, "aws-cli": tools.aws},
    servers=("rclone",),
)
