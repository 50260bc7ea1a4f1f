"""What people write: the job config, the settings of a machine, and the template for keys.

Each is loaded when it is first used: a command starts its node with the settings alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.config.destination import MARKERS_FOLDER, Destination, checked_endpoint, local_folder
    from ingest.config.extent import FilesJob, TilesJob
    from ingest.config.job import JobConfig, ProcessorConfig, QueueConfig, UploadConfig
    from ingest.config.key_template import KeyTemplate, checked_key
    from ingest.config.load import load_config, load_job_config, parse_config, parse_model
    from ingest.config.paths import ConfigPath
    from ingest.config.settings import Settings

__all__ = [
    "MARKERS_FOLDER",
    "ConfigPath",
    "Destination",
    "FilesJob",
    "JobConfig",
    "KeyTemplate",
    "ProcessorConfig",
    "QueueConfig",
    "Settings",
    "TilesJob",
    "UploadConfig",
    "checked_endpoint",
    "checked_key",
    "load_config",
    "load_job_config",
    "local_folder",
    "parse_config",
    "parse_model",
]

_MODULES = ("settings", "key_template", "paths", "extent", "destination", "job", "load")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(import_module, (f"{__name__}.{module}" for module in _MODULES)):
            if name in module.__dict__:
                return module.__dict__[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
