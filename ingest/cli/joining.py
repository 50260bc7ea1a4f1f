"""What ``ingest join`` does: imported when its node is under way."""

from __future__ import annotations

from ingest.cli.job_arg import open_job
from ingest.cli.node_process import NodeProcess
from ingest.cli.output import emit_json
from ingest.cli.screens import make_screen
from ingest.cli.work import work
from ingest.config import Settings
from ingest.errors import JobError


def join(job_id: str, settings: Settings, node: NodeProcess, *, as_json: bool) -> int:
    """See that this machine can help with a job, and help; the exit code, as of :func:`ingest.cli.work.work`.

    Raises:
        JobError: the job has ended.
        IngestError: it cannot be helped from this machine.
    """
    job = open_job(job_id, settings)
    state = job.ledger.state()
    if state.ended:
        raise JobError(
            f"job {job_id} is {state}: there is nothing left to do", hint=_what_next(job_id, state)
        )
    job.processors().close()
    job.finishers()
    job.open_store()
    node.begin(job)
    if as_json:
        emit_json({"event": "joined", "job_id": job_id})
    return work(job, node, make_screen(as_json))


def _what_next(job_id: str, state: str) -> str | None:
    return f"`ingest retry -j {job_id}` reopens its failed items" if state == "failed" else None
