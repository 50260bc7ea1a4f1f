"""The tile processor ``tag_data``: a whale tag's audio as FLAC, its tables and logs compressed, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ingest.conversions import CONVERSIONS, compared, encode_gzip, encode_zstd
from ingest.errors import ConfigError, ItemError, SourceChanged
from ingest.items import FileItem, Item
from ingest.locked_folder import LockedFolder
from ingest.plugins.files import media_type
from ingest.plugins.tag_folder import TagFolder, folder_of
from ingest.plugins.tag_format import time_ns
from ingest.plugins.tag_quality import FLAGS
from ingest.processors import JobContext, Params, Source, TileProcessor, Upload
from ingest.raw_audio import ByteOrder, RawFormat, encode_flac

RAW, FLAC = ".raw", ".flac"
PACKED = {"gzip": ".gz", "zstd": ".zst"}
SCRATCH_PREFIX = "tag-data-"
USUAL = "most tags record 3 channels of 16 bits at 96000 Hz, byte order big"


class TagDataParams(Params):
    """Parameters of ``tag_data``."""

    audio: Literal["flac", "as_is"] = Field(
        default="flac", description="What becomes of raw audio (`.raw`): `flac`, or stored `as_is`."
    )
    tables: Literal["gzip", "zstd", "as_is"] = Field(
        default="gzip", description="How files with one of `table_suffixes` are compressed, if at all."
    )
    table_suffixes: tuple[str, ...] = Field(
        default=(".csv", ".log"), description="Suffixes of tables and logs; case does not count."
    )
    flac_level: int = Field(
        default=2, ge=0, le=8, description="FLAC's compression level: 0 is quickest, 8 smallest."
    )
    channels: int | None = Field(
        default=None, ge=1, le=8, description="Channels of raw audio. Default: as the tag's own files say."
    )
    bits: Literal[16, 24] | None = Field(
        default=None, description="Bits of a sample of raw audio. Default: as the tag's own files say."
    )
    sample_rate_hz: int | None = Field(
        default=None,
        ge=1,
        le=655_350,
        description="Sample rate of raw audio. Default: as the tag's own files say.",
    )
    byte_order: ByteOrder | None = Field(
        default=None,
        description="Byte order of raw audio. Default: `big`, as the tag's capture program writes it, where a file of "
        "that program's lies beside the audio.",
    )
    device: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The tag's name for keys, such as `wt-0a1b2c`, where the path processor does not say it.",
    )


class TagData(TileProcessor[TagDataParams]):
    """Raw audio to FLAC, tables and logs to gzip or zstd, everything else as it is.

    Channels, bits, rate and byte order of raw audio come from the parameters, else from the tag's own
    ``data_config*.txt`` and ``data_tag_info*.yaml`` in its folder; where neither says one, the item fails. What was
    converted is decoded again and compared with the file, byte by byte, before it is stored. A file without a whole
    sample is stored as it is.

    The manifest has ``conversion`` (``flac``, ``gzip``, ``zstd`` or ``as_is``), ``source_sha256`` (of the file's own
    bytes), for raw audio ``raw_format`` and ``raw_format_from``, and for recordings named by their time
    ``captured_at`` and, where the tag's log of its capture lies beside them, ``quality_flags``.
    """

    Params: ClassVar[type[Params]] = TagDataParams
    looks_beside: ClassVar[bool] = True
    key_fields: ClassVar[dict[str, str]] = {
        "device": "the tag, as `wt-0a1b2c`",
        "ingest_date": "the UTC day on which the job was created",
    }
    default_key: ClassVar[str | None] = "raw/{ingest_date}/{device}/{parent}{stem}{suffix}"

    def __init__(self, params: TagDataParams, context: JobContext) -> None:
        super().__init__(params, context)
        self._scratch: LockedFolder | None = None
        self._made = 0
        self._folder: tuple[str | None, TagFolder] = None, TagFolder()

    def check(self) -> None:
        """Refuse a job over tiles."""
        if self.context.grid is not None:
            raise ConfigError("'tag_data' serves jobs of type 'files' only", place="ingest_job.type")

    def suffix(self, item: Item) -> str | None:
        """``.flac`` for raw audio, one more suffix for what is compressed, else the file's own."""
        name = item.name.rpartition("/")[2]
        own = str(item.fields().get("suffix", ""))
        how = self._how(name)
        if how == "as_is":
            return None
        return FLAC if how == "flac" else own + PACKED[how]

    def _how(self, name: str) -> str:
        """The conversion of a file of this name."""
        suffix = Path(name).suffix.lower()
        if suffix == RAW:
            return self.params.audio
        return (
            self.params.tables if suffix in {some.lower() for some in self.params.table_suffixes} else "as_is"
        )

    def uploads(self, source: Source) -> Iterator[Upload]:
        item = source.item
        assert isinstance(item, FileItem)
        name = item.path.rpartition("/")[2]
        how, metadata = self._how(name), self._recording(source, name)
        if how == "flac":
            form, metadata["raw_format_from"] = self._format(source, name)
            metadata["raw_format"] = str(form)
            whole, rest = divmod(source.path.stat().st_size, form.frame_bytes)
            if rest:
                metadata["quality_flags"] = f"{metadata.get('quality_flags', '')} partial_sample".strip()
            if whole:
                yield self._converted(source, "flac", metadata, form)
                return
            how = "as_is"
        if how == "as_is":
            fields = self._fields(source, None)
            yield Upload(source.path, media_type(source.path.suffix), fields, metadata | {"conversion": how})
        else:
            yield self._converted(source, how, metadata, None)

    def _converted(
        self, source: Source, how: str, metadata: Mapping[str, str], form: RawFormat | None
    ) -> Upload:
        """The upload of a file as it was converted, and compared with it."""
        made = self._new_file()
        try:
            if form is not None:
                encode_flac(source.path, made, form, level=self.params.flac_level, check=self.context.check)
            elif how == "gzip":
                encode_gzip(source.path, made, self.context.check)
            else:
                encode_zstd(source.path, made, self.context.check)
            sha256 = self._compared(source, how, made)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        facts = {**metadata, "conversion": how, "source_sha256": sha256}
        fields = self._fields(source, self.suffix(source.item))
        return Upload(made, CONVERSIONS[how].content_type, fields, facts, temporary=True)

    def _compared(self, source: Source, how: str, made: Path) -> str:
        """The SHA-256 of a file that what was made of it was found to decode to.

        Raises:
            SourceChanged: it does not, or the file is not the one that lay on the tag.
        """
        sha256 = compared(source.path, CONVERSIONS[how].decode(made), self.context.check)
        expected = source.facts.get("source_sha256", sha256)
        if sha256 != expected:
            raise SourceChanged(f"{source.path.name!r} has SHA-256 {sha256[:12]}…; expected {expected[:12]}…")
        return sha256

    def _fields(self, source: Source, suffix: str | None) -> dict[str, str]:
        """The key's fields; the path and name of what was converted end as it does."""
        path = source.facts.get("source_path", source.item.name)
        own = FileItem(path).fields()
        fields = {"ingest_date": self.context.date, "path": path, "suffix": str(own["suffix"])}
        if suffix is not None:
            fields["path"] = path.removesuffix(str(own["suffix"])) + suffix
            fields["suffix"] = suffix
        fields["name"] = fields["path"].rpartition("/")[2]
        device = self.params.device or source.facts.get("device")
        return fields | ({"device": device} if device else {})

    def _format(self, source: Source, name: str) -> tuple[RawFormat, str]:
        """The format of a raw file, and where it is from.

        Raises:
            ItemError: neither the parameters nor the tag's files say all of it.
        """
        folder = self._folder_of(source)
        values: dict[str, int] = {}
        origins, missing, troubles = [], [], []
        for what in ("channels", "bits", "sample_rate_hz"):
            given = getattr(self.params, what)
            known = folder.tag_files.known(what, name) if given is None else None
            value = given if known is None else known.value
            if value is None:
                missing.append(what)
                troubles += [known.trouble] if known else []
            else:
                values[what] = value
                origins.append(f"{what}: {known.origin if known else 'config'}")
        order = self.params.byte_order or ("big" if folder.tag_files.files else None)
        if order is None:
            missing.append("byte_order")
            troubles.append(
                "no file of the tag's capture program lies beside it, so its byte order is not known"
            )
        if order is None or missing:
            what = ", ".join(f"tile_processor.params.{some}" for some in missing)
            raise ItemError(
                f"the format of {name!r} is not known: {'; '.join(troubles)}",
                hint=f"give {what} ({USUAL}), and retry",
            )
        origins.append(f"byte_order: {'config' if self.params.byte_order else 'capture program'}")
        return RawFormat(**values, byte_order=order), "; ".join(origins)

    def _recording(self, source: Source, name: str) -> dict[str, str]:
        """When a recording was begun, and its quality, as far as they are known."""
        began_ns = time_ns(name)
        if Path(name).suffix.lower() not in (RAW, FLAC) or began_ns is None:
            return {}
        captured_at = datetime.fromtimestamp(began_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        metadata = {"captured_at": captured_at.replace("+00:00", "Z"), "captured_at_from": "name"}
        flags = self._folder_of(source).flags(name)
        if flags is not None:
            metadata["quality_flags"] = " ".join(flag for flag in FLAGS if flag in flags)
        return metadata

    def _folder_of(self, source: Source) -> TagFolder:
        """What the files beside an item say; read once for neighbours, which come together."""
        name = source.item.name.rpartition("/")[0]
        if name != self._folder[0]:
            self._folder = name, folder_of(source.beside() if source.beside else {})
        return self._folder[1]

    def _new_file(self) -> Path:
        if self._scratch is None:
            self._scratch = LockedFolder(self.context.scratch_dir, SCRATCH_PREFIX)
        self._made += 1
        return self._scratch.path / str(self._made)

    def close(self) -> None:
        """Remove what was made and is not deleted yet."""
        if self._scratch is not None:
            self._scratch.remove()
        self._scratch = None
