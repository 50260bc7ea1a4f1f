"""The examples for joining nodes, in docs/joining/, checked as far as they can be without their clusters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.ledger import State
from ingest.presence import STOP_WITHIN_S
from ingest.queue import queue_name
from tests.audit import make_files
from tests.engine.making import create, files_config, open_job

JOINING = Path(__file__).parent.parent / "docs" / "joining"


def test_the_slurm_script_joins_a_job(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path / "source", 30)
    config = files_config(tmp_path, tmp_path / "source", f"file://{tmp_path}/stored")
    job = create(config, "--detach")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")

    done = subprocess.run([JOINING / "slurm.sh", job.job_id], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert open_job(job.job_id).status().state is State.COMPLETE
    assert [path.name[:12] for path in tmp_path.glob("ingest-4711-*")] == ["ingest-4711-"]


def test_the_slurm_script_leaves_time_to_stop() -> None:
    text = (JOINING / "slurm.sh").read_text()
    subprocess.run(["bash", "-n", JOINING / "slurm.sh"], check=True)

    (seconds,) = re.findall(r"^#SBATCH --signal=B:TERM@(\d+)$", text, re.MULTILINE)
    assert int(seconds) > STOP_WITHIN_S
    assert "\nexec ingest join " in text, "else the signal ends the shell alone"


def kubernetes() -> list[dict[str, Any]]:
    text = (JOINING / "kubernetes.yaml").read_text().replace("JOB_ID", "k7f3q2xm")
    return list(yaml.safe_load_all(text))


def test_kubernetes_scales_on_the_jobs_own_queue() -> None:
    authentication, scaled = kubernetes()
    (trigger,) = scaled["spec"]["triggers"]

    assert trigger["type"] == "redis"
    assert trigger["metadata"]["listName"] == queue_name("k7f3q2xm")
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes text only"
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert authentication["spec"]["secretTargetRef"][0]["parameter"] == "password"


def test_kubernetes_runs_nodes_that_may_finish_what_they_have_in_hand() -> None:
    _, scaled = kubernetes()
    pod = scaled["spec"]["jobTargetRef"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["args"][:3] == ["join", "-j", "k7f3q2xm"]
    assert pod["terminationGracePeriodSeconds"] > STOP_WITHIN_S
    assert pod["restartPolicy"] == "Never"
    assert {mount["name"] for mount in container["volumeMounts"]} == {vol["name"] for vol in pod["volumes"]}
    written = (JOINING / "kubernetes.yaml").read_text().partition("apiVersion")[0]
    keys = {env["valueFrom"]["secretKeyRef"]["key"] for env in container["env"] if "valueFrom" in env}
    assert keys | {"redis-password"} == set(re.findall(r"--from-literal=([a-z-]+)=", written))


def test_compose_runs_the_same_command() -> None:
    (node,) = yaml.safe_load((JOINING / "compose.yml").read_text())["services"].values()

    assert node["command"][:2] == ["join", "-j"]
    assert int(node["stop_grace_period"].rstrip("s")) > STOP_WITHIN_S
    assert "INGEST_REDIS_URL" in node["environment"]
