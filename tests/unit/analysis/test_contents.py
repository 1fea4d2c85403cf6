"""What makes an image another one for a result, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.analysis.contents import COPIED, READ, contents_of, contents_of_refusal
from dicom_node.results.envelope import copy_patient_and_study
from dicom_node.results.image_library import image_library
from spineone_core.findings import Reason
from spineone_core.imaging.headers import frame_headers
from spineone_core.imaging.pixels import decode_file
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume, SliceSource
from spineone_core.phantom.dicom import write_exam
from tests.fakes.datasets import mr_image, save
from tests.unit.synthetic import classic, enhanced

# How to read the header, which frames it has, and what says which object it is: no content of its own.
_FRAME = {
    "SpecificCharacterSet",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "Rows",
    "Columns",
}


class Recording(Dataset):
    """A data set that notes which attributes it is asked for."""

    asked: set[str]

    def note(self, key: Any) -> None:
        keyword = key if isinstance(key, str) else keyword_for_tag(key)
        if tag_for_keyword(keyword) is not None:
            self.__dict__.setdefault("asked", set()).add(keyword)

    def get(self, key: Any, default: Any = None) -> Any:
        self.note(key)
        return super().get(key, default)

    def get_item(self, key: Any, **options: Any) -> Any:
        self.note(key)
        return super().get_item(key, **options)

    def __getattr__(self, name: str) -> Any:
        self.note(name)
        return super().__getattr__(name)

    def __contains__(self, key: Any) -> bool:
        self.note(key)
        return super().__contains__(key)


def asked_of(read: Callable[[Dataset], object]) -> set[str]:
    header = Recording()
    header.update(classic())
    header.__dict__["asked"] = set()
    read(header)
    return set(header.__dict__["asked"])


def test_every_attribute_that_is_copied_is_content() -> None:
    assert asked_of(lambda header: copy_patient_and_study(header, Dataset())) - _FRAME == set(COPIED)


@pytest.mark.parametrize("read", [lambda header: frame_headers(header, Path()), lambda header: image_library([header])])
def test_every_attribute_that_is_read_is_content(read: Callable[[Dataset], object]) -> None:
    asked = asked_of(read)
    assert "ImagePositionPatient" in asked
    assert asked - _FRAME - set(COPIED) <= set(READ)


def test_no_attribute_is_listed_twice_or_misspelt() -> None:
    listed = [*COPIED, *READ]
    assert len(set(listed)) == len(listed)
    assert all(tag_for_keyword(keyword) for keyword in listed)


def volume_of(images: list[Dataset], folder: Path) -> SagittalVolume:
    """The images as one volume, whatever the rules of series say of them."""
    paths = [save(image, folder / f"{image.SOPInstanceUID}.dcm") for image in images]
    return SagittalVolume(
        voxels=np.concatenate([decode_file(path) for path in paths]),
        origins=np.array([image.ImagePositionPatient for image in images], dtype=float),
        row_direction=np.array([0.0, 1, 0]),
        column_direction=np.array([0.0, 0, -1]),
        pixel_spacing=(1.0, 1.0),
        sources=tuple(
            SliceSource(path, str(image.SOPInstanceUID), str(image.SOPClassUID), None)
            for image, path in zip(images, paths, strict=True)
        ),
        study_uid=str(images[0].StudyInstanceUID),
        series_uid=str(images[0].SeriesInstanceUID),
    )


def contents(folder: Path, change: Callable[[Dataset], None] = lambda image: None) -> tuple[tuple[str, str], ...]:
    images = [mr_image(number) for number in (1, 2, 3)]
    change(images[1])
    headers = {str(image.SOPInstanceUID): image for image in images}
    return contents_of(volume_of(images, folder), headers.get)


def _set(**values: Any) -> Callable[[Dataset], None]:
    def change(image: Dataset) -> None:
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(PatientName="OTHER^NAME"),
        _set(PatientID="OTHER"),
        _set(AccessionNumber="7"),
        _set(StudyDescription="other"),
        _set(SeriesDescription="t2 sag"),
        _set(EchoTime="90"),
        _set(WindowCenter="40", WindowWidth="400"),
        _set(FrameOfReferenceUID="1.2.3"),
        _set(ImagePositionPatient=[8.5, 0, 0]),
        _set(PixelData=np.full((8, 8), 8, dtype="<u2").tobytes()),
        _set(RescaleSlope="2", RescaleIntercept="0"),
    ],
)
def test_what_is_read_or_copied_is_content(tmp_path: Path, change: Callable[[Dataset], None]) -> None:
    before, after = contents(tmp_path / "a"), contents(tmp_path / "b", change)
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "change",
    [
        _set(InstitutionName="Elsewhere", PatientComments="none", StationName="MR2"),
        _set(PixelSpacing=["1.000", "1.0"], ImagePositionPatient=["8.00", "0", "-0.0"]),
        _set(AccessionNumber=""),
        lambda image: image.add_new(0x00091001, "LO", "private"),
    ],
)
def test_what_nobody_reads_is_none__nor_how_a_number_is_written(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    assert contents(tmp_path / "a") == contents(tmp_path / "b", change)


def test_values_count_as_they_read__not_in_which_character_set(tmp_path: Path) -> None:
    one = contents(tmp_path / "a", _set(PatientName="Müller^Jürgen"))
    other = contents(tmp_path / "b", _set(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen"))
    assert one == other


def test_frames_of_an_enhanced_image_have_contents_of_their_own(tmp_path: Path) -> None:
    exam = write_exam(tmp_path, 3, slices=5, companions=False, enhanced=True)
    (path,) = exam.files["t2"]
    header = pydicom.dcmread(path)
    (series,) = group_series(frame_headers(header, path))
    volume = load_volume(series)
    before = contents_of(volume, lambda uid: header)
    assert len(before) == 1
    header.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3]
    moved = contents_of(volume, lambda uid: header)
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [2, 2]
    assert len({before, moved, contents_of(volume, lambda uid: header)}) == 3


def test_a_refusal_is_its_reason_and_its_patient() -> None:
    header = classic()
    before = contents_of_refusal(Reason.NO_SAGITTAL_T2, header)
    assert contents_of_refusal(Reason.NO_SAGITTAL_T2, enhanced()) == before
    assert contents_of_refusal(Reason.NO_IMAGES, header) != before
    assert contents_of_refusal(Reason.NO_SAGITTAL_T2, classic(AccessionNumber="A-18")) != before
    assert contents_of_refusal(Reason.NO_SAGITTAL_T2, classic(SeriesDescription="other")) == before
