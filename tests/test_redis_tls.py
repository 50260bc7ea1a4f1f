"""A Redis behind TLS: the ledger and the queue reach it alike, and trust nobody whom they should not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import RedisUnreachable
from ingest.job import Job
from ingest.ledger import Ledger
from tests.engine.jobs_by_hand import job_over
from tests.tls_front import make_authority, tls_front


def test_a_job_over_tls_with_certificates_of_both_sides(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, clients = make_authority(tmp_path, "ours"), make_authority(tmp_path, "clients")
    files = f"ssl_ca_certs={ours.certificate}&ssl_certfile={clients.certificate}&ssl_keyfile={clients.key}"
    with tls_front(redis_url.rpartition("@")[2], ours, clients) as port:
        monkeypatch.setenv("INGEST_REDIS_URL", f"rediss://:for-tests-only@localhost:{port}/3?{files}")
        job: Job = job_over(tmp_path)
        job.queue.publish([7])

        assert job.queue.known() == {7}
        job.queue.purge()


def test_who_is_not_trusted_is_told_from_who_is_not_there(tmp_path: Path, redis_url: str) -> None:
    ours, others = make_authority(tmp_path, "ours"), make_authority(tmp_path, "others")
    with tls_front(redis_url.rpartition("@")[2], ours) as port:
        url = f"rediss://:for-tests-only@localhost:{port}/0?ssl_ca_certs={others.certificate}"
        with pytest.raises(RedisUnreachable, match=r"(?s)CERTIFICATE_VERIFY_FAILED.*hint: .*ssl_ca_certs"):
            Ledger(url, "j").state()
