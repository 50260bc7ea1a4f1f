"""What a job looks like from the outside, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ingest.ledger import Counts, State
from ingest.presence import NodeInfo


@dataclass(frozen=True, slots=True)
class Status:
    """A job at one moment.

    Attributes:
        nodes: those of its nodes that were looked at; all, or some where there are many.
        node_count: how many there are.
        pause, trouble: why it waits, where it does.
    """

    job_id: str
    name: str
    state: State
    counts: Counts
    nodes: tuple[NodeInfo, ...]
    node_count: int
    pause: str
    trouble: str
    destination: str
    created_s: int
    ended_s: int | None

    @property
    def items_total(self) -> int:
        """Items that are known of."""
        return max(self.counts.items_total, self.counts.items_listed)

    @property
    def total_is_final(self) -> bool:
        """Whether no more items will be found."""
        return self.counts.enumerated or self.counts.items_total >= 0

    @property
    def exit_code(self) -> int:
        """The exit code that this state means for a command that waited for the job's end."""
        codes = {State.FAILED: 3, State.CANCELLING: 4, State.CANCELLED: 4, State.EXPIRED: 4}
        return codes.get(self.state, 3 if self.state is State.UPLOADED and self.counts.failed else 0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for ``status --json``."""
        counts = self.counts
        return {
            "job_id": self.job_id,
            "name": self.name,
            "state": str(self.state),
            "items": {
                "total": self.items_total,
                "total_is_final": self.total_is_final,
                "done": counts.done,
                "failed": counts.failed,
                "skipped": counts.skipped,
                "blank": counts.blank,
            },
            "bytes": {
                "total": counts.bytes_listed if counts.items_total < 0 else None,
                "done": counts.bytes_done,
                "stored": counts.bytes_stored,
            },
            "objects": counts.objects,
            "node_count": self.node_count,
            "nodes": [node.to_dict() for node in self.nodes],
            "pause": self.pause or None,
            "trouble": self.trouble or None,
            "destination": self.destination,
            "created_s": self.created_s,
            "ended_s": self.ended_s,
        }
