"""Files of 1 MiB, a thousand of them."""

from __future__ import annotations

import tools
import works
from rounds import Case

CASE = Case(
    name="medium",
    title="files of 1 MiB",
    size=1000,
    make=lambda folder, count: works.files(folder, count, 1 << 20),
    tools=tools.COPYING,
    servers=("nginx", "rclone"),
)
