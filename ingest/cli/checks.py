"""The looks that ``ingest doctor`` takes. None of them changes anything, or shows a secret."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from ingest.cli.output import human_bytes
from ingest.cli.plugins import all_plugins
from ingest.config import Settings
from ingest.errors import IngestError
from ingest.redis_binary import find_binary
from ingest.redis_client import fit_info, without_password
from ingest.redis_server import running
from ingest.version import __version__

FEW_FILES = 1024
LITTLE_SPACE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One look: what was looked for, whether it is there, and what was found.

    Attributes:
        exit_code: of the doctor, where it is not there; 0 for what only some jobs need.
    """

    what: str
    ok: bool
    found: str
    exit_code: int = 0


def all_checks(settings: Settings) -> list[Check]:
    """Every look, in the order in which a newcomer needs them."""
    return [
        Check(
            "Ingest",
            True,
            f"{__version__} on Python {platform.python_version()}, {platform.platform(terse=True)}",
        ),
        _redis(settings),
        _scratch(settings),
        _processors(settings),
        _open_files(),
        _s3_credentials(),
        _flower(),
        *_plugins(settings),
    ]


def _redis(settings: Settings) -> Check:
    try:
        found = _external_redis(settings.redis_url) if settings.redis_url else _bundled_redis(settings)
    except IngestError as error:
        return Check("Redis", False, _on_one_line(error), exit_code=error.exit_code)
    return Check("Redis", True, found)


def _on_one_line(error: IngestError) -> str:
    """What is wrong; without the advice to run the doctor, who says it."""
    return str(error).replace("\n  hint: ", "; ").removesuffix(" `ingest doctor` looks")


def _external_redis(url: str) -> str:
    info = fit_info(url)
    kept = (
        "append-only file on"
        if info.get("aof_enabled")
        else "no append-only file: jobs do not survive its restart"
    )
    return f"{info['redis_version']} at {without_password(url)}, {kept}"


def _bundled_redis(settings: Settings) -> str:
    server = running(settings)
    if server is not None:
        memory = human_bytes(server.memory_bytes)
        return f"bundled, {server.version}, running as process {server.pid} with {memory} of memory"
    binary = find_binary()
    return f"bundled, {binary.version_text} ({binary.path}), starts when needed"


def _scratch(settings: Settings) -> Check:
    folder = settings.scratch_dir or settings.state_dir / "scratch"
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not os.access(there, os.W_OK):
        return Check("scratch space", False, f"{there} may not be written", exit_code=2)
    free_bytes = shutil.disk_usage(there).free
    return Check(
        "scratch space", free_bytes >= LITTLE_SPACE_BYTES, f"{human_bytes(free_bytes)} free at {folder}"
    )


def _processors(settings: Settings) -> Check:
    return Check("processes", True, f"{settings.default_processes} where -p is not given")


def _open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Check("open files", soft >= FEW_FILES, f"limit {soft}, may be raised to {hard} (`ulimit -n`)")


def _s3_credentials() -> Check:
    """Where credentials for S3 come from. Not whether they are right: that, `ingest create` finds out."""
    what = "S3 credentials"
    try:
        import botocore.exceptions
        import botocore.session

        session = botocore.session.Session()
        credentials = session.get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        return Check(what, False, str(error))
    profile = session.get_config_variable("profile")
    named = f", profile {profile}" if profile else ""
    if credentials is None:
        return Check(what, False, f"none{named}; set AWS_* variables or a profile for s3:// destinations")
    return Check(what, True, f"from {credentials.method}{named}")


def _flower() -> Check:
    there = importlib.util.find_spec("flower") is not None
    return Check(
        "Flower",
        there,
        "installed" if there else "not installed; `pip install flower` to watch nodes",
    )


def _plugins(settings: Settings) -> Iterator[Check]:
    for plugin in all_plugins(settings):
        what = f"{plugin.kind_words} {plugin.name}"
        yield Check(what, plugin.missing is None, plugin.missing or "installed")
