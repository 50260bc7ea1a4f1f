"""What people write: the job config, the settings of a machine, and the template for keys."""

from ingest.config.job import (
    MARKERS_FOLDER,
    Destination,
    FilesJob,
    JobConfig,
    ProcessorConfig,
    QueueConfig,
    TilesJob,
    UploadConfig,
    local_folder,
)
from ingest.config.key_template import KeyTemplate, checked_key
from ingest.config.load import load_config, load_job_config, parse_config, parse_model
from ingest.config.settings import Settings

__all__ = [
    "MARKERS_FOLDER",
    "Destination",
    "FilesJob",
    "JobConfig",
    "KeyTemplate",
    "ProcessorConfig",
    "QueueConfig",
    "Settings",
    "TilesJob",
    "UploadConfig",
    "checked_key",
    "load_config",
    "load_job_config",
    "local_folder",
    "parse_config",
    "parse_model",
]
