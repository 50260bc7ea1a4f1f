"""Raw PCM, as a whale tag writes it, to FLAC and back, bit for bit and in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ingest.errors import SourceUnreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

ByteOrder = Literal["big", "little"]
BLOCK_BYTES = 1 << 20
_MARK = re.compile(r"raw (s16|s24)(be|le) tail=([0-9a-f]*)")
_ENDIANS = {"big": "be", "little": "le"}


@dataclass(frozen=True, slots=True)
class RawFormat:
    """What the bytes of a raw file mean: signed samples, the channels interleaved.

    Attributes:
        channels: 1 to 8.
        bits: 16 or 24 for each sample.
        sample_rate_hz: samples a second in each channel.
        byte_order: ``big`` is most significant byte first.
    """

    channels: int
    bits: int
    sample_rate_hz: int
    byte_order: ByteOrder

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        return self.channels * self.bits // 8

    def __str__(self) -> str:
        endian = _ENDIANS[self.byte_order]
        return f"s{self.bits}{endian}, {self.channels} channels, {self.sample_rate_hz} Hz"


def encode_flac(
    source: Path, flac: Path, form: RawFormat, *, level: int, check: Callable[[], None] = lambda: None
) -> None:
    """Write ``source`` as FLAC. Bytes after the last whole frame, and the byte order, are kept in a comment.

    Args:
        level: FLAC's compression level, 0 to 8.
        check: called before each block; raises to interrupt.

    Raises:
        SourceUnreadable: the source has no whole frame, or FLAC cannot hold this format.
    """
    import soundfile

    tail_bytes = source.stat().st_size % form.frame_bytes
    whole_bytes = source.stat().st_size - tail_bytes
    if not whole_bytes:
        raise SourceUnreadable(f"{source.name!r} has no whole sample of {form.frame_bytes} bytes")
    try:
        with (
            source.open("rb") as raw,
            soundfile.SoundFile(
                flac,
                "w",
                form.sample_rate_hz,
                form.channels,
                f"PCM_{form.bits}",
                format="FLAC",
                compression_level=level / 8,
            ) as sound,
        ):
            raw.seek(whole_bytes)
            sound.comment = f"raw s{form.bits}{_ENDIANS[form.byte_order]} tail={raw.read(tail_bytes).hex()}"
            raw.seek(0)
            for block in _blocks(raw, whole_bytes, form.frame_bytes):
                check()
                sound.write(_to_samples(block, form))
    except soundfile.LibsndfileError as error:
        raise SourceUnreadable(f"{source.name!r} cannot be made FLAC as {form}: {error}") from error


def _blocks(raw: BinaryIO, left_bytes: int, frame_bytes: int) -> Iterator[bytes]:
    block_bytes = BLOCK_BYTES // frame_bytes * frame_bytes
    while left_bytes:
        block = raw.read(min(block_bytes, left_bytes))
        if not block or len(block) % frame_bytes:
            raise SourceUnreadable("it became shorter while it was read")
        yield block
        left_bytes -= len(block)


def decode_flac(flac: Path) -> Iterator[bytes]:
    """The bytes of the raw file that :func:`encode_flac` made ``flac`` of, in pieces of about a MiB.

    Raises:
        SourceUnreadable: it is no FLAC, is corrupt, or was not made by :func:`encode_flac`.
    """
    import numpy as np
    import soundfile

    try:
        with soundfile.SoundFile(flac) as sound:
            mark = _MARK.search(sound.comment)
            if sound.format != "FLAC" or mark is None:
                raise SourceUnreadable(f"{flac.name!r} does not say which raw bytes it was made of")
            bits = int(mark[1][1:])
            order: ByteOrder = "big" if mark[2] == "be" else "little"
            form = RawFormat(sound.channels, bits, sound.samplerate, order)
            frames = BLOCK_BYTES // form.frame_bytes
            dtype = "int16" if bits == 16 else "int32"
            room = np.empty((frames, form.channels), dtype)
            left = sound.frames
            while left > 0:
                samples = sound.read(min(frames, left), dtype, always_2d=True, out=room[: min(frames, left)])
                if not len(samples):
                    raise SourceUnreadable(f"{flac.name!r} ends {left} samples too soon")
                left -= len(samples)
                yield _to_bytes(samples, form)
            yield bytes.fromhex(mark[3])
    except soundfile.LibsndfileError as error:
        raise SourceUnreadable(f"{flac.name!r} cannot be decoded: {error}") from error


def _to_samples(block: bytes, form: RawFormat) -> NDArray[Any]:
    """Samples of shape (frames, channels), as soundfile takes them: 24 bits are the upper ones of 32."""
    import numpy as np

    if form.bits == 16:
        order = ">i2" if form.byte_order == "big" else "<i2"
        return np.frombuffer(block, order).astype(np.int16).reshape(-1, form.channels)
    wide = np.zeros((len(block) // 3, 4), np.uint8)
    first, order = (0, ">i4") if form.byte_order == "big" else (1, "<i4")
    wide[:, first : first + 3] = np.frombuffer(block, np.uint8).reshape(-1, 3)
    return wide.view(order).astype(np.int32).reshape(-1, form.channels)


def _to_bytes(samples: NDArray[Any], form: RawFormat) -> bytes:
    """What :func:`_to_samples` made these samples of."""
    import numpy as np

    if form.bits == 16:
        return samples.astype(">i2" if form.byte_order == "big" else "<i2").tobytes()
    first, order = (0, ">i4") if form.byte_order == "big" else (1, "<i4")
    wide = samples.astype(order).reshape(-1, 1).view(np.uint8)
    return wide[:, first : first + 3].tobytes()
