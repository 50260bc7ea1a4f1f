"""The names of nodes."""

from __future__ import annotations

import os
import secrets
import socket


def new_node_name() -> str:
    """A name for a node: its host, the process that named it, and what tells apart two containers' equal ones."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
