"""Small synthetic sources and detections, on which the writers of results are tested."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from dicom_node.dicom.identifiers import ResultKey
from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.findings import Detection, Finding, ModelIdentity, Reason, Status
from spineone_core.imaging.volume import SagittalVolume, SliceSource

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
STUDY, SERIES, SLICE = "2.25.1001", "2.25.1002", "2.25.1003"
CREATED = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 (a site's local time)
MODEL = ModelIdentity(name="spineone-resnet18", version="1.2.0", digest="0123456789abcdef" * 4)
KEY = ResultKey(STUDY, ((SLICE, "ab" * 32),), MODEL.digest, "ee" * 32, CREATED.isoformat())

NAMES = {
    "latin": (["ISO_IR 100"], "Müller^Jürgen"),
    "cyrillic": (["ISO_IR 144"], "Люкceмбypг^Анна"),
    "utf8": (["ISO_IR 192"], "Wang^XiaoDong=王^小東"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "japanese_13": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "chinese": (["GB18030"], "Wang^XiaoDong=王^小东"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
}


def classic(**changes: Any) -> Dataset:
    """Header of a classic MR image; ``changes`` overwrite attributes, None removes them."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = MR
    image.SOPInstanceUID = SLICE
    image.StudyDate, image.StudyTime = "20260301", "101112"
    image.AccessionNumber = "A-17"
    image.Modality = "MR"
    image.Manufacturer = "Scanner Works"
    image.ReferringPhysicianName = "Doe^Jane"
    image.StudyDescription = "MR lumbar spine"
    image.SeriesDescription = "T2 TSE sag"
    image.PatientName, image.PatientID = "Test^Patient", "P-0001"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19700101", "F", "056Y"
    image.SliceThickness = "4"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.StudyID = STUDY, SERIES, "S1"
    image.SeriesNumber, image.InstanceNumber = 3, 7
    image.ImagePositionPatient = [2, -110, 130]
    image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    image.FrameOfReferenceUID = "2.25.1009"
    image.Rows, image.Columns, image.PixelSpacing = 320, 256, [0.8, 0.8]
    return _changed(image, changes)


def as_sent(**values: str) -> Dataset:
    """A classic header with values that the standard does not allow."""
    image = classic()
    for keyword, value in values.items():
        image[keyword] = DataElement(keyword, dictionary_VR(keyword), value, validation_mode=IGNORE)
    return image


def _changed(image: Dataset, changes: dict[str, Any]) -> Dataset:
    for keyword, value in changes.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    return image


def enhanced() -> Dataset:
    """Header of an enhanced multi-frame image with the geometry in functional groups."""
    image = classic(
        SOPClassUID=ENHANCED_MR,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        SliceThickness=None,
        NumberOfFrames=9,
    )
    image.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    image.PerFrameFunctionalGroupsSequence = Sequence([Dataset() for _ in range(9)])
    return image


def poor() -> Dataset:
    """What a careless anonymiser leaves."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = MR, SLICE
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, SERIES
    image.Modality = "MR"
    image.Rows, image.Columns = 320, 256
    return image


def named(kind: str) -> Dataset:
    terms, name = NAMES[kind]
    return classic(SpecificCharacterSet=terms if len(terms) > 1 else terms[0], PatientName=name)


def findings(width: float = 256, height: float = 320) -> tuple[Finding, ...]:
    """Ten points down a gentle curve; some degenerative, one undecided."""
    result = []
    for index, landmark in enumerate(READING_ORDER):
        share = index / (len(READING_ORDER) - 1)
        x = width * (0.45 + 0.08 * np.sin(3 * share)) + 0.125
        y = height * (0.12 + 0.72 * share)
        probability = [0.03, 0.12, 0.08, 0.55, 0.21, 0.91, 0.07, 0.983, 0.64, 0.97][index]
        result.append(
            Finding(
                structure=Structure(landmark.structure),
                level=landmark.level,
                probability=probability,
                decided=abs(probability - 0.5) > 0.1,
                x=float(x),
                y=float(y),
                xyz_mm=(2.0, float(-110 + 0.8 * x), float(130 - 0.8 * y)),
                localisation_confidence=0.9,
            )
        )
    return tuple(result)


def analysed(frame_number: int | None = None, **size: float) -> Detection:
    return Detection(
        study_uid=STUDY,
        series_uid=SERIES,
        sop_instance_uid=SLICE,
        model=MODEL,
        status=Status.ANALYSED,
        findings=findings(**size),
        frame_number=frame_number,
        ood_score=0.1,
        warnings=("slices are missing or unevenly spaced",),
    )


def refused(reason: Reason = Reason.NO_SAGITTAL_T2, *, chosen: bool = False) -> Detection:
    return Detection(
        study_uid=STUDY,
        series_uid=SERIES if chosen else "",
        sop_instance_uid=SLICE if chosen else "",
        model=MODEL,
        status=Status.NOT_ANALYSABLE,
        reason=reason,
        reason_detail="3 series looked at: Übersicht\\loc",
    )


def volume(
    rows: int = 320,
    columns: int = 256,
    spacing: tuple[float, float] = (0.8, 0.8),
    slices: int = 3,
    frames: int | None = None,
) -> SagittalVolume:
    """A volume with a bright canal and a grid, enough for drawing and geometry."""
    y, x = np.mgrid[:rows, :columns]
    plane = 400 * np.exp(-(((x - 0.6 * columns) / (0.05 * columns)) ** 2)) + 200 * ((y // 16 + x // 16) % 2)
    return SagittalVolume(
        voxels=np.repeat(plane[None], slices, axis=0).astype(np.float32),
        origins=np.array([[4.0 * i - 2, -110, 130] for i in range(slices)]),
        row_direction=np.array([0.0, 1, 0]),
        column_direction=np.array([0.0, 0, -1]),
        pixel_spacing=spacing,
        sources=tuple(_source(i, slices, frames) for i in range(slices)),
        study_uid=STUDY,
        series_uid=SERIES,
        window=(300.0, 600.0),
    )


def _source(index: int, slices: int, frame: int | None) -> SliceSource:
    """The middle slice is the one that the detections name."""
    middle = index == slices // 2
    if frame is not None:
        return SliceSource(Path("multi.dcm"), SLICE, ENHANCED_MR, frame + index - slices // 2)
    return SliceSource(Path(f"{index}.dcm"), SLICE if middle else f"2.25.20{index}", MR, None)
