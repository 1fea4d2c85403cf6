"""What a series may take in memory: known before it is decoded, and decoded frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEGLSLossless

from spineone_core.findings import Reason
from spineone_core.imaging import pixels, series
from spineone_core.imaging.isolation import decode_isolated
from spineone_core.imaging.pixels import decode_file, decode_frames
from tests.unit.imaging.test_series import COLUMNS, COMPRESSED, ROWS, image, picture, refusal, write


def announced(folder: Path, count: int, size: int) -> Path:
    """So many files of a few hundred bytes, each of which announces ``size`` x ``size`` pixels in JPEG-LS."""
    images = [image(number) for number in range(count)]
    for dataset in images:
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        dataset.Rows = dataset.Columns = size
    return write(folder, *images)


def test_series_of_tiny_files_that_announce_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 files of 4096 x 4096: refused by what the headers say, with nothing allocated and nothing decoded."""

    def decodes(*arguments: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(series, "decode_isolated", decodes)
    monkeypatch.setattr(series, "decode_frames", decodes)
    error = refusal(announced(tmp_path, 150, 4096))
    assert error.reason is Reason.FIELD_OF_VIEW_TOO_LARGE
    assert "150 slices of 4096 x 4096" in error.detail


@pytest.mark.parametrize("syntax", [None, *COMPRESSED])
def test_frames_are_decoded_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str | None
) -> None:
    """In this process and in the child: never more than one at a time."""
    dataset = image(0, pixels=np.stack([picture(n) for n in range(4)]), NumberOfFrames=4)
    if syntax:
        dataset.compress(syntax, generate_instance_uid=False)
    path = write(tmp_path, dataset) / "001.dcm"
    sizes: list[int] = []
    whole = pixels.stored_values

    def watched(*arguments: Any) -> NDArray[Any]:
        found = whole(*arguments)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(pixels, "stored_values", watched)
    frames = list(decode_frames(path, [2, 0]))
    assert sizes == [1, 1]
    for frame, number in zip(frames, (2, 0), strict=True):
        np.testing.assert_allclose(frame, decode_file(path)[number], atol=1e-3)
    isolated = list(decode_isolated([(path, [2, 0])], (ROWS, COLUMNS)))
    np.testing.assert_array_equal(isolated, frames)
