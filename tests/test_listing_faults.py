"""A source that cannot be listed is no failed item: the command ends with 2, and says what to mend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest import coordinator as coordinator_module
from ingest.coordinator import Coordinator
from ingest.errors import ConfigError, SourceUnreadable
from ingest.items import FileItem
from ingest.preview import Previewer
from tests.engine.jobs_by_hand import job_over


def broken(self: Any, after: str | None = None) -> Iterator[FileItem]:
    yield FileItem("a", 1)
    raise SourceUnreadable("the folder b cannot be listed", hint="see who may read it")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    return tmp_path


def test_the_preview_says_so(source: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_over(source)
    monkeypatch.setattr("ingest.plugins.files.Folder.paths", broken)
    previewer = Previewer(job.config, job.settings)

    with pytest.raises(ConfigError, match="the folder b cannot be listed") as caught:
        list(previewer.plans())
    assert caught.value.exit_code == 2


def test_the_coordinator_gives_up_on_it(
    source: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_module, "GIVE_UP_AFTER_S", -1.0)
    coordinator = Coordinator(job_over(source), "n1")
    monkeypatch.setattr("ingest.plugins.files.Folder.paths", broken)
    with pytest.raises(SourceUnreadable) as trouble:
        coordinator.step()
    coordinator._note(trouble.value)
    time.sleep(0.01)

    with pytest.raises(ConfigError, match="the folder b cannot be listed") as caught:
        coordinator.raise_trouble()
    assert caught.value.exit_code == 2
