"""The finisher ``sample_manifest``: the list of samples that whaledr's app reads."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TextIO

from pydantic import Field

from ingest.plugins.stored_segments import split_suffix
from ingest.processors import Addition, Finisher, Params, Results

log = logging.getLogger(__name__)


class SampleManifestParams(Params):
    """Parameters of ``sample_manifest``."""

    key: str = Field(
        default="whalemanifest.json", min_length=1, description="Key of the list below the destination."
    )
    below: str = Field(
        default="",
        description="Folder that the app's URL templates start from, such as `megaptera/`: "
        "only pictures in it are listed, by their paths below it.",
    )
    delimiter: str = Field(
        default="___", min_length=1, description="What stands for each `/`, as in the app's configuration."
    )

    @property
    def prefix(self) -> str:
        """``below`` with the slash at its end; empty where it is the destination itself."""
        return self.below.strip("/") + "/" if self.below.strip("/") else ""


class SampleManifest(Finisher[SampleManifestParams]):
    """The paths of all pictures (uploads of the ``kind`` `picture`), as one JSON list of texts.

    Each is a key without its suffix, and with ``___`` for each slash:
    ``HYDBBA105___2019_01_14___OO_HYEA1__YDH_2019_01_14T00_00_05_000``. The app splits it there, and
    fills its templates of URLs with the pieces: ``{0}/{1}/{2}.png`` and ``.wav``.
    """

    Params: ClassVar[type[Params]] = SampleManifestParams

    def additions(self, results: Results) -> Iterator[Addition]:
        """The list, in the manifest's order. It is written to a scratch file: it may name millions."""
        self.context.scratch_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="samples-", dir=self.context.scratch_dir) as folder:
            path = Path(folder, "samples.json")
            with path.open("w", encoding="ascii") as file:
                self._write(results, file)
            yield Addition(self.params.key, path, "application/json")

    def _write(self, results: Results, file: TextIO) -> None:
        prefix, delimiter = self.params.prefix, self.params.delimiter
        separator, ambiguous = "[", 0
        for row in results.rows():
            if row.metadata.get("kind") != "picture" or not row.key.startswith(prefix):
                continue
            stem, _ = split_suffix(row.key.removeprefix(prefix))
            ambiguous += delimiter in stem
            file.write(separator + json.dumps(stem.replace("/", delimiter)))
            separator = ",\n"
        file.write("[]\n" if separator == "[" else "]\n")
        if ambiguous:
            names = "1 name holds" if ambiguous == 1 else f"{ambiguous} names hold"
            log.warning("%s: %s %r, and the app will split there", self.params.key, names, delimiter)
