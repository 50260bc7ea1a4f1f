"""Ingest: from where instrument data lies to an object store, provably whole, with many machines.

The Python interface is small: :func:`create` makes a job, :class:`Job` is a handle on one.
Both are loaded when first used, so that ``ingest --help`` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ingest.version import __version__

if TYPE_CHECKING:
    from ingest.creation import create as create
    from ingest.job import Job as Job

_LAZY = {"Job": "ingest.job", "create": "ingest.creation"}
__all__ = ["Job", "__version__", "create"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ingest' has no attribute {name!r}")
