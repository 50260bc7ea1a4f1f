"""The ledger: a job's state and counts, in Redis.

Keys of a job, all below ``ingest:{ID}``:

=================  ======  =====================================================================
``ingest:{ID}``    hash    config, state, counters, the feeder's cursor
``…:committed``    bitmap  a bit for each batch that is stored and counted
``…:payloads``     hash    batch → its items, for batches that are not arithmetic, until committed (those of items
                           that are tried again: until the job has ended)
``…:attempts``     hash    batch → how often it was begun, without what was stopped politely, until committed
``…:in_hand``      hash    batch → index of the item being tried by itself, the node that tries it, its process
``…:kills``        hash    batch → how often each item was in hand when its process died, why where known, the last
``…:parts``        hash    batch → its manifest part: the token in its name, what it counts, which files it has
``…:failures``     hash    ``batch:index`` → a failed item, with its reason
``…:uploads``      hash    key → ID of an unfinished multipart upload
``…:additions``    set     keys of what finishers stored beside the data
``…:slots:NAME``   zset    who holds a slot (connections to a host, say) → when that lease ends, in milliseconds
``…:nodes``        zset    node → when it was last seen
``…:left``         set     nodes that were asked to stop: if they died since, then not of an item
``…:ended``        hash    node and process → why the node ended that process
``…:node:NAME``    hash    what a node says of itself; expires when the node dies
``…:pause``        string  why the work waits; expires unless renewed
``…:coordinator``  string  the node that coordinates now; expires unless renewed
=================  ======  =====================================================================

Every time in it is Redis's own: nodes' clocks may be wrong by hours.
"""

from __future__ import annotations

from ingest.ledger.ledger import Ledger, job_ids
from ingest.ledger.records import (
    OPEN_STATES,
    Attempt,
    Counts,
    FailedItem,
    JobRecord,
    Kills,
    Listed,
    Part,
    State,
    Tally,
    pack_items,
    unpack_items,
)

__all__ = [
    "OPEN_STATES",
    "Attempt",
    "Counts",
    "FailedItem",
    "JobRecord",
    "Kills",
    "Ledger",
    "Listed",
    "Part",
    "State",
    "Tally",
    "job_ids",
    "pack_items",
    "unpack_items",
]
