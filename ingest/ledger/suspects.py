"""Which item a process has in hand by itself: where the process dies, that item is suspected of having killed it."""

from __future__ import annotations

from ingest.ledger import scripts
from ingest.ledger.keys import JobKeys
from ingest.redis_client import redis_errors


class Suspects:
    """The items of a job that are tried by themselves. Every method is one atomic step and may be repeated."""

    def __init__(self, job: JobKeys) -> None:
        self._job = job

    def hold(self, batch: int, index: int, node: str = "", process: int = 0) -> None:
        """Note which item a node's process tries by itself, so that it is found if it kills its process."""
        with redis_errors(self._job.url):
            self._job.client.hset(self._job.key("in_hand"), str(batch), f"{index} {node} {process}")

    def drop(self, batch: int) -> None:
        """No item of the batch is tried by itself any more."""
        with redis_errors(self._job.url):
            self._job.client.hdel(self._job.key("in_hand"), str(batch))

    def blame(self, batch: int, index: int, kills: int, why: str) -> bool:
        """Note that an item's process is about to be ended for that item alone. False where its batch is committed.

        Args:
            batch: the item's.
            index: its place in the batch.
            kills: how often that counts.
            why: a sentence that becomes the item's failure.
        """
        args = [batch, index, kills, why]
        return bool(self._job.run(scripts.BLAME, ["committed", "in_hand", "kills"], args))

    def pardon(self, batch: int, index: int, node: str, process: int) -> bool:
        """Take back that an item is to blame for the death of a process that lives: it was cut off, or asleep.

        False where nobody thought so. Only the last that was taken for dead can be pardoned.
        """
        return bool(self._job.run(scripts.PARDON, ["kills"], [batch, index, f"{node} {process}"]))

    def note_end(self, node: str, process: int, why: str) -> None:
        """Note why a node is about to end one of its processes, for the item that it tries by itself, if it does."""
        with redis_errors(self._job.url):
            self._job.client.hset(self._job.key("ended"), f"{node} {process}", why)

    def stopped_by_itself(self, node: str) -> None:
        """Note that a node was asked to end, or was ended by its own command: no item it has in hand is to blame."""
        with redis_errors(self._job.url):
            self._job.client.sadd(self._job.key("left"), node)
