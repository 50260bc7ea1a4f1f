"""Tiles of 512 x 512 pixels, cut from grey PNG sections of 8192 x 8192."""

from __future__ import annotations

import tools
import works
from rounds import Case

CASE = Case(
    name="tiles",
    title="tiles cut from PNG sections of 8192 x 8192 pixels",
    size=2,
    make=lambda folder, count: works.sections(folder, count, 8192),
    tools={"ingest": tools.ingest, "boss-ingest": tools.boss},
    servers=("nginx",),
)
