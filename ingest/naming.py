"""From an item to its key: a pure function, so that doing an item twice stores one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.config import KeyTemplate
from ingest.items import Item
from ingest.processors import JobContext, PathProcessor, TileProcessor


class KeyMaker:
    """Renders a job's key template for items and their uploads.

    Args:
        processor: the job's tile processor.
        path_processor: the job's path processor, which may bring fields of its own.
    """

    def __init__(
        self,
        template: KeyTemplate,
        context: JobContext,
        processor: TileProcessor[Any],
        path_processor: PathProcessor[Any] | None = None,
    ) -> None:
        self.template = template
        self._processor = processor
        self._path_processor = path_processor
        self._job_fields: dict[str, str | int] = {
            "job": context.job_id,
            "job_name": context.job_name,
            "date": context.date,
            "resolution": context.grid.resolution if context.grid else 0,
        }

    @property
    def may_be_found(self) -> bool:
        """Whether uploads may bring fields for their keys, which nobody knows then before an item's data is read."""
        return not self.template.field_names.isdisjoint({"suffix", *self._processor.key_fields})

    def begin(self) -> str:
        """What every key of the job begins with, as far as that is known before any data is read."""
        theirs = {*self._processor.key_fields}
        if self._path_processor is not None:
            theirs |= self._path_processor.key_fields.keys()
        return self.template.begin(
            {name: self._job_fields[name] for name in self._job_fields.keys() - theirs}
        )

    def key(self, item: Item, upload_fields: Mapping[str, str | int] | None = None) -> str:
        """The key of an upload of this item, relative to the destination.

        Raises:
            KeyInvalid: a field is missing, or the key could not be held below the prefix.
        """
        fields = {**self._job_fields, **item.fields()}
        if self._path_processor is not None:
            fields.update(self._path_processor.fields(item))
        suffix = self._processor.suffix(item)
        if suffix is not None:
            fields["suffix"] = suffix
        if upload_fields:
            fields.update(upload_fields)
        return self.template.render(fields)
