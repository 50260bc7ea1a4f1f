"""Nothing to do: 20,000 files of 16 KiB that the same tool has stored before.

Ingest reads each file and compares its content; told not to, it goes by inodes, sizes, times and ETags. The others look
at sizes and times.
"""

from __future__ import annotations

import tools
import works
from rounds import Case

CASE = Case(
    name="unchanged",
    title="unchanged files of 16 KiB",
    size=20_000,
    make=lambda folder, count: works.files(folder, count, 16 << 10),
    tools={
        "ingest": tools.ingest,
        "ingest unread": tools.ingest_unread,
        "s5cmd sync": tools.s5cmd_sync,
        "rclone sync": tools.rclone_sync,
        "rclone sync, server's times": tools.rclone_sync_listed,
    },
    servers=("rclone",),
    before={
        "ingest": tools.ingest,
        "ingest unread": tools.ingest_unread,
        "s5cmd sync": tools.s5cmd,
        "rclone sync": tools.rclone,
        "rclone sync, server's times": tools.rclone,
    },
)
