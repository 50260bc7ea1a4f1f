"""Making a job: from a config, through every check that can be made before anything is listed or stored."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.config import JobConfig, Settings, TilesJob, load_job_config, local_folder, parse_config
from ingest.config.key_template import FILE_FIELDS, JOB_FIELDS, TILE_FIELDS
from ingest.errors import ConfigError, did_you_mean
from ingest.handle import make_context
from ingest.items import Grid
from ingest.job import Job
from ingest.ledger import Ledger
from ingest.markers import Markers
from ingest.plugin_loader import Processors, load_finishers, load_processors, resolve_processors
from ingest.processors import Finisher
from ingest.redis_client import fit_info
from ingest.redis_server import redis_url
from ingest.stores.base import Capabilities
from ingest.stores.open import open_bucket, open_store
from ingest.version import LEDGER_FORMAT, __version__

_ID_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"


def create(
    config: str | Path | Mapping[str, Any],
    *,
    to: str | None = None,
    manual_complete: bool = False,
    settings: Settings | None = None,
) -> Job:
    """Check a config and its destination, and make a job of it. Nothing is listed or stored yet.

    Args:
        config: a config file, or what one would hold (relative paths from the current folder).
        to: a destination that wins over the config's.
        manual_complete: wait in ``uploaded`` for :meth:`Job.complete`.
        settings: this machine's settings.

    Raises:
        ConfigError: the config, a processor or the source is wrong.
        StoreError: the destination cannot be used: unreachable, refused, or no such bucket.
        RedisError: Redis cannot be used.
    """
    settings = settings or Settings.load()
    if isinstance(config, str | Path):
        raw, base_dir = load_job_config(Path(config), to=to), Path(config).parent
    else:
        raw, base_dir = dict(config), Path.cwd()
        if to is not None:
            raw["destination"] = {**raw.get("destination", {}), "url": to}
    checked = check(raw, base_dir, settings)
    return create_checked(checked, probe(checked), manual_complete=manual_complete, settings=settings)


def check(raw: Mapping[str, Any], base_dir: Path, settings: Settings) -> JobConfig:
    """The config with everything in it checked that can be without the destination: also that the source is there.

    Raises:
        ConfigError: see :func:`create`.
    """
    config = resolve_processors(
        parse_config(raw, base_dir=base_dir.absolute()), settings, base_dir.absolute()
    )
    context = make_context(config, "preview", int(time.time()), settings, is_preview=True)
    processors = load_processors(config, context, settings)
    processors.path.check()
    processors.tile.check()
    for number, finisher in enumerate(load_finishers(config, context, settings)):
        finisher.check()
        _check_knows_duplicates(config, finisher, f"finishers.{number}")
    _check_key_fields(config, processors)
    _check_apart(config)
    processors.close()
    return config


def _check_key_fields(config: JobConfig, processors: Processors) -> None:
    """Refuse a key template with a field that no item of this job can have."""
    tiles = isinstance(config.ingest_job, TilesJob)
    known = {*JOB_FIELDS, *(TILE_FIELDS if tiles else FILE_FIELDS)}
    known |= processors.path.key_fields.keys() | processors.tile.key_fields.keys()
    for name in sorted(config.key_template.field_names - known):
        kind = "tiles" if tiles else "files"
        raise ConfigError(
            f"{{{name}}} is no field of a job over {kind}",
            place="destination.key",
            hint=did_you_mean(name, known),
        )


def _check_knows_duplicates(config: JobConfig, finisher: Finisher[Any], place: str) -> None:
    """Refuse a finisher that would look for an object under every row's key, where some have none."""
    if config.destination.dedupe is not None and not finisher.knows_duplicates:
        raise ConfigError(
            f"{type(finisher).__name__} needs each upload under a key of its own, and destination.dedupe "
            "stores equal ones once",
            place=place,
            hint="leave out one of the two",
        )


def _check_apart(config: JobConfig) -> None:
    """Refuse a destination inside the source: the job would list what it stores."""
    root, folder = config.path_processor.params.get("root_dir"), local_folder(config.destination.url)
    if root is None or folder is None or isinstance(config.ingest_job, TilesJob):
        return
    destination = folder.resolve()
    if destination.is_relative_to(Path(root).resolve()):
        raise ConfigError(
            f"{destination} lies inside the source {root}",
            place="destination.url",
            hint="choose a folder outside it",
        )


@dataclass(frozen=True, slots=True)
class Probed:
    """What a destination's probe found: what the store honours, and whether anything was there before."""

    capabilities: Capabilities
    was_empty: bool


def probe(config: JobConfig) -> Probed:
    """Try a job's destination out, with a few small writes below ``.ingest/``. May be repeated.

    Raises:
        StoreError: it cannot be used: unreachable, refused, or no such bucket.
    """
    store = open_store(config.destination, config.upload)
    try:
        probed = Probed(store.probe(), next(store.list(), None) is None)
    finally:
        store.close()
    _check_may_go_unread(config, probed.capabilities)
    if config.destination.dedupe is not None:
        bucket = open_bucket(config.destination, config.upload, probed.capabilities)
        try:
            Markers(bucket).probe()
        finally:
            bucket.close()
    return probed


def _check_may_go_unread(config: JobConfig, found: Capabilities) -> None:
    """Refuse to leave files unread where a listing proves nothing of what is stored."""
    if not config.upload.reread and not (found.md5_etags and found.probed_at_s is not None):
        raise ConfigError(
            f"{config.destination.url} does not say by itself what it has: its ETags are not MD5s",
            place="upload.reread",
            hint="leave it out: files are read, and compared with what is stored",
        )


def create_checked(config: JobConfig, probed: Probed, *, manual_complete: bool, settings: Settings) -> Job:
    """Make a job of a config that :func:`check` has passed, and whose destination :func:`probe` has tried."""
    url = redis_url(settings)
    fit_info(url)
    fields = {
        "format": str(LEDGER_FORMAT),
        "version": __version__,
        "name": config.name,
        "config": config.model_dump_json(by_alias=True),
        "capabilities": json.dumps(probed.capabilities.to_dict()),
        "manual_complete": str(int(manual_complete)),
        "destination_was_empty": str(int(probed.was_empty)),
    }
    if isinstance(config.ingest_job, TilesJob):
        fields["items_total"] = str(len(Grid(config.ingest_job)))
    while True:
        job_id = _new_id()
        if Ledger(url, job_id).create(fields):
            return Job(job_id, settings)


def _new_id() -> str:
    """A job ID that can be read aloud: eight letters and digits, none easily mistaken for another."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
