"""Numbers in headers, as devices write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import frame_headers
from tests.fakes.datasets import mr_image, save


def with_text(dataset: Dataset, keyword: str, text: str) -> None:
    """Set a decimal string that pydicom would not write."""
    tag, value = Tag(keyword), text.encode() + b" " * (len(text) % 2)
    dataset[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True, True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("spacing", "thickness", "read"),
    [
        ("0,6696\\0,6696", "4,0", ((0.6696, 0.6696), 4.0)),
        ("0.6696\\0.6696", "4.5", ((0.6696, 0.6696), 4.5)),
        ("0,66,96\\0,6696", "1.024,5", (None, None)),
        ("wide\\0,6696", ",5", (None, None)),
    ],
)
def test_decimal_comma__is_read(tmp_path: Path, spacing: str, thickness: str, read: tuple[object, object]) -> None:
    image = mr_image(1)
    with_text(image, "PixelSpacing", spacing)
    with_text(image, "SliceThickness", thickness)
    path = save(image, tmp_path / "image.dcm")
    (header,) = frame_headers(read_dataset(path, pixels=False), path)
    assert (header.pixel_spacing, header.slice_thickness) == read
