"""The settings of a machine: ``INGEST_*`` variables, and one file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from ingest.config.explain import in_words
from ingest.config.paths import from_home
from ingest.config.redis_url import checked_redis_url
from ingest.errors import ConfigError, did_you_mean

PREFIX = "INGEST_"
FILE_VARIABLE = "INGEST_SETTINGS_FILE"


def _default_state_dir() -> Path:
    return _of_this_user(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "ingest"


def settings_file() -> Path:
    """The settings file: ``INGEST_SETTINGS_FILE``, or ``~/.config/ingest/settings.json``."""
    named = os.environ.get(FILE_VARIABLE)
    return _of_this_user(named or "~/.config/ingest/settings.json")


def _of_this_user(path: str) -> Path:
    try:
        return from_home(Path(path))
    except ValueError as error:
        raise ConfigError(str(error), hint="set HOME to a folder that may be written") from None


class Settings(BaseModel):
    """What a machine's operator sets. In :meth:`load` a variable wins over the file, the file over the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    secret_names: ClassVar[frozenset[str]] = frozenset({"redis_url", "tag_password"})

    redis_url: str | None = Field(
        default=None,
        description="Redis for all nodes: `redis://[user:password@]host:6379/0`, `rediss://` for TLS, or "
        "`unix:///path`. Where it is not set, a bundled Redis is started in the state folder.",
    )
    state_dir: Path = Field(
        default_factory=_default_state_dir,
        description="Folder for the bundled Redis, scratch files, and what this machine remembers. Default: "
        "`~/.local/state/ingest`.",
    )
    scratch_dir: Path | None = Field(
        default=None, description="Folder for passing files, if not `scratch` in the state folder."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="How much a node logs to standard error."
    )
    redis_patience_s: float = Field(
        default=300,
        ge=1,
        description="Seconds for which a node waits for a Redis that has gone before it gives up.",
    )
    plugin_paths: str = Field(
        default="",
        description="Which dotted processor paths may be imported here, separated by `:`. A folder "
        "(with a `/`) is put on the import path and all in it allowed; a module such as "
        "`ingestclient.plugins` allows what lies below it.",
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Processes of a node where `-p` is not given. Default: one a core.",
    )
    tag_password: SecretStr | None = Field(
        default=None,
        description="Password for whale tags that take no key. Each machine that reads from a tag needs it. It is "
        "never put into a job, a log or Redis.",
    )
    process_memory_bytes: int | None = Field(
        default=None,
        ge=256 << 20,
        description="Memory that a process of a node may take; one that takes more is ended, and an item for which "
        "that happens three times fails. Default: no bound while the machine has memory left; when a sixteenth "
        "of it is left, the largest process is ended, if it has more than its share.",
    )

    @field_validator("state_dir", "scratch_dir")
    @classmethod
    def _from_home(cls, folder: Path | None) -> Path | None:
        """The same folder for all processes of a command, and for the libraries that read a ``~`` their own way."""
        return folder and from_home(folder).absolute()

    @field_validator("plugin_paths")
    @classmethod
    def _known_homes(cls, entries: str) -> str:
        for entry in entries.split(":"):
            from_home(Path(entry))
        return entries

    @field_validator("redis_url")
    @classmethod
    def _of_one_server(cls, url: str | None) -> str | None:
        return url and checked_redis_url(url)

    @classmethod
    def load(cls) -> Settings:
        """The settings of this machine.

        Raises:
            ConfigError: a variable, or a key of the file, that is unknown or cannot be used; or a locale in which
                file names are not UTF-8.
        """
        _refuse_other_names()
        variables = _from_variables(cls.model_fields)
        try:
            return cls.model_validate(_from_file(cls.model_fields) | variables)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = str(first["loc"][0])
            place = f"{PREFIX}{name.upper()}" if name in variables else f"{name} in {settings_file()}"
            raise ConfigError(in_words(first), place=place) from None

    @cached_property
    def scratch(self) -> Path:
        """The folder for passing files; made when first asked for.

        Raises:
            ConfigError: it cannot be made, or not be written.
        """
        if self.scratch_dir is not None:
            return _own_folder(self.scratch_dir, f"{PREFIX}SCRATCH_DIR")
        return _own_folder(self.state_dir / "scratch", f"{PREFIX}STATE_DIR")

    @property
    def logs(self) -> Path:
        """The folder for what nodes say; as :attr:`scratch`."""
        return _own_folder(self.state_dir / "logs", f"{PREFIX}STATE_DIR")

    @property
    def default_processes(self) -> int:
        """Processes of a node where the command line names no number."""
        return self.processes or _usable_cores()


def _refuse_other_names() -> None:
    """Keys are made of names in UTF-8: in another locale one file would have another key, or none."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise ConfigError(
            f"the locale of this machine takes file names for {encoding}, and keys are made of UTF-8",
            hint="set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8",
        )


def _own_folder(folder: Path, variable: str) -> Path:
    hint = f"set {variable} to a folder that may be written"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", hint=hint) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written", hint=hint)
    return folder


def _from_variables(known: Collection[str]) -> dict[str, Any]:
    """What variables say; an empty one says nothing."""
    names = {
        variable: variable.removeprefix(PREFIX).lower()
        for variable, text in os.environ.items()
        if variable.startswith(PREFIX) and variable != FILE_VARIABLE and text
    }
    for variable, name in names.items():
        if name not in known:
            variables = (f"{PREFIX}{one.upper()}" for one in known)
            raise ConfigError(
                f"unknown setting {variable}", hint=did_you_mean(variable, variables, begin=PREFIX)
            )
    return {name: os.environ[variable] for variable, name in names.items()}


def _from_file(known: Collection[str]) -> dict[str, Any]:
    path = settings_file()
    place = f"the settings file {path}"
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        if os.environ.get(FILE_VARIABLE):
            raise ConfigError(f"there is no file {path}", place=FILE_VARIABLE) from None
        return {}
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", place=place) from None
    except ValueError as error:
        raise ConfigError(f"is not valid JSON: {error}", place=place) from None
    if not isinstance(found, dict):
        raise ConfigError("expected an object", place=place)
    for name in found:
        if name not in known:
            hint = did_you_mean(name.lower().removeprefix(PREFIX.lower()), known)
            raise ConfigError(f"unknown setting {name!r}", place=place, hint=hint)
    return found


def _usable_cores() -> int:
    """The cores that this process may use, where the system tells (Linux does), else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
