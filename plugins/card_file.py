"""Files of a memory card, stored as they are, with when they were recorded: the tile processor ``card_file``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from ingest.plugins.files import FileAsIs
from ingest.plugins.media_times import captured
from ingest.processors import Source, Upload


class CardFile(FileAsIs):
    """The file as it is, as `file` stores it, by default under ``raw/{ingest_date}/{device}/{path}``; for `card`.

    The manifest's ``metadata`` says when it was recorded, where the file does: ``captured_at`` (ISO 8601: UTC with a
    ``Z``, or the camera's local time without a zone where it names none) and ``captured_at_from`` (``exif``; ``mvhd``
    of MP4 and QuickTime, which is UTC by the standard, though some cameras write their local time there; ``guano``,
    ``bext`` or ``audiomoth`` of WAV). Where the file does not say, or is corrupt, that stays unknown, and the file is
    stored all the same.
    """

    default_key: ClassVar[str | None] = "raw/{ingest_date}/{device}/{path}"

    def uploads(self, source: Source) -> Iterator[Upload]:
        made = captured(source.path)
        facts = {"captured_at": made.at, "captured_at_from": made.by} if made else {}
        for upload in super().uploads(source):
            yield replace(upload, metadata=facts)
