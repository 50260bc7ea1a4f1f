"""A figure says where its plot lies, so that a cursor can run over it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.items import FileItem
from ingest.plugins.spectrogram import Spectrogram
from ingest.plugins.spectrogram_params import SpectrogramParams
from ingest.processors import JobContext, Source
from tests.plugins.test_soundscape import START, mseed, noise


def test_the_plot_box_is_the_frame_of_the_figure(tmp_path: Path) -> None:
    path = mseed(tmp_path / "a.mseed", (START, noise(5)))
    params = SpectrogramParams(style="figure", clip="none", width_px=300, height_px=200)
    spectrogram = Spectrogram(params, JobContext("j", "n", "2026-01-31", None, tmp_path))
    (upload,) = spectrogram.uploads(Source(FileItem("a.mseed"), path))
    assert isinstance(upload.body, bytes)
    image = np.asarray(Image.open(io.BytesIO(upload.body)).convert("L"))

    box = np.array([float(share) for share in upload.metadata["plot_box"].split(",")])
    left, top, right, bottom = np.rint(box * np.tile(image.shape[::-1], 2)).astype(int)
    assert (right - left, bottom - top) == (300, 200)
    for line in (image[top - 1, left:right], image[bottom, left:right], image[top:bottom, left - 1]):
        assert (line == 0).all(), "the frame is one pixel around it"
