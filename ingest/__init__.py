"""Ingest: from where instrument data lies to an object store, provably whole, with many machines.

The Python interface is small: :func:`create` makes a job, :class:`Job` is a handle on one.
Both are loaded when first used, so that ``ingest --help`` stays quick.
"""

from typing import TYPE_CHECKING, Any

from ingest.version import __version__

if TYPE_CHECKING:
    from ingest.job import Job as Job
    from ingest.job import create as create

__all__ = ["Job", "__version__", "create"]


def __getattr__(name: str) -> Any:
    if name in ("Job", "create"):
        from ingest import job

        return getattr(job, name)
    raise AttributeError(f"module 'ingest' has no attribute {name!r}")
