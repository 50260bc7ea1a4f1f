"""What ``ingest join`` does: imported when its node is under way."""

from __future__ import annotations

from ingest.cli.job_arg import open_job
from ingest.cli.node_process import NodeProcess
from ingest.cli.output import emit_json, note
from ingest.cli.screens import make_screen
from ingest.cli.work import work
from ingest.config import Settings


def join(job_id: str, settings: Settings, node: NodeProcess, *, as_json: bool) -> int:
    """See that this machine can help with a job, and help; the exit code, as of :func:`ingest.cli.work.work`.

    One that has ended is no error of who comes late: its end is shown.

    Raises:
        IngestError: it cannot be helped from this machine.
    """
    job = open_job(job_id, settings)
    screen = make_screen(as_json)
    status = job.status()
    if status.state.ended:
        note(f"job {job_id} is {status.state}: there is nothing left to do")
        screen.end(status)
        return status.exit_code
    job.processors().close()
    job.finishers()
    job.open_store()
    node.begin(job)
    if as_json:
        emit_json({"event": "joined", "job_id": job_id})
    return work(job, node, screen)
