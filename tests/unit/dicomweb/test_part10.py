"""DICOM files that arrive in blocks."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.dataset import Dataset

from dicom_node.dicomweb.part10 import ArrivingFile, Part10, Part10Error
from tests.fakes.datasets import encode, mr_image


def file_of(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def arrive(data: bytes, size: int = 10_000) -> Part10:
    file = ArrivingFile()
    for at in range(0, len(data), size):
        file.add(data[at : at + size])
    assert file.everything() == data
    return file.finish()


@pytest.mark.parametrize("size", [1, 143, 144, 145, 300, 10_000])
def test_file__head_and_data_set(size: int) -> None:
    image = mr_image()
    found = arrive(file_of(image), size)
    assert found.head + found.data == file_of(image)
    assert found.data == encode(image)
    assert (found.sop_class_uid, found.sop_instance_uid) == (image.SOPClassUID, image.SOPInstanceUID)
    assert found.transfer_syntax_uid == image.file_meta.TransferSyntaxUID


GOOD = file_of(mr_image())
META_END = 144 + int.from_bytes(GOOD[140:144], "little")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no DICOM file",
        GOOD[:100],
        GOOD[128:],
        GOOD[:143],
        GOOD[: META_END - 1],
        # The file meta ends earlier or later than it says.
        GOOD[:140] + (META_END - 144 - 8).to_bytes(4, "little") + GOOD[144:],
        GOOD[:140] + (META_END - 144 + 8).to_bytes(4, "little") + GOOD[144:],
        GOOD[:140] + b"\xff\xff\xff\xff" + GOOD[144:],
        # An element of it twice.
        GOOD[:140] + (2 * (META_END - 144)).to_bytes(4, "little") + GOOD[144:META_END] + GOOD[144:],
        # No group length.
        GOOD[:132] + GOOD[144:],
    ],
)
def test_file__that_is_none(data: bytes) -> None:
    with pytest.raises(Part10Error):
        arrive(data)
