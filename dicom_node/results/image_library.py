"""The image library of a report (TID 1600): which images were analysed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    RelationshipTypeValues,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_node.dicom.headers import is_valid_uid
from dicom_node.results.codes import COSINE, MILLIMETRE, MODALITIES, PIXELS, SOURCE
from dicom_node.results.sr_document import sop_class_of


def image_library(sources: list[Dataset]) -> list[ContainerContentItem]:
    """The content of TID 1600; empty if the study has no image.

    highdicom's own version fails if a source lacks Slice Thickness or spacing; here absent values are left out.
    """
    images = [source for source in sources if "Rows" in source]
    if not images:
        return []
    group = ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS)
    group.ContentSequence = ContentSequence([_library_entry(image) for image in images])
    library = ContainerContentItem(name=codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS)
    library.ContentSequence = ContentSequence([group])
    return [library]


def _library_entry(image: Dataset) -> ImageContentItem:
    entry = ImageContentItem(
        name=SOURCE,
        referenced_sop_class_uid=sop_class_of(image),
        referenced_sop_instance_uid=str(image.SOPInstanceUID),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    entry.ContentSequence = ContentSequence(_descriptors(image))
    return entry


def _descriptors(image: Dataset) -> list[ContentItem]:
    """The rows of TID 1602 and 1604 for which the image has values."""
    context = RelationshipTypeValues.HAS_ACQ_CONTEXT
    modality = MODALITIES.get(str(image.get("Modality") or "MR"), MODALITIES["OT"])
    items: list[ContentItem] = [CodeContentItem(name=codes.DCM.Modality, value=modality, relationship_type=context)]
    frame = frame_of_reference(image)
    if frame:
        items.append(UIDRefContentItem(name=codes.DCM.FrameOfReferenceUID, value=frame, relationship_type=context))
    return items + [
        NumContentItem(name=row.name, value=number, unit=row.unit, relationship_type=context)
        for row in _NUMBERS
        if (number := _number(image, row)) is not None
    ]


@dataclass(frozen=True, slots=True)
class _NumberRow:
    """A number of TID 1602 or 1604: one value of an attribute that has ``count`` values."""

    name: Code
    unit: CodedConcept
    keyword: str
    index: int = 0
    count: int = 1


_NUMBERS = (
    _NumberRow(codes.DCM.PixelDataRows, PIXELS, "Rows"),
    _NumberRow(codes.DCM.PixelDataColumns, PIXELS, "Columns"),
    _NumberRow(codes.DCM.HorizontalPixelSpacing, MILLIMETRE, "PixelSpacing", 1, 2),
    _NumberRow(codes.DCM.VerticalPixelSpacing, MILLIMETRE, "PixelSpacing", 0, 2),
    _NumberRow(codes.DCM.SliceThickness, MILLIMETRE, "SliceThickness"),
    _NumberRow(codes.DCM.SpacingBetweenSlices, MILLIMETRE, "SpacingBetweenSlices"),
    _NumberRow(codes.DCM.ImagePositionPatientX, MILLIMETRE, "ImagePositionPatient", 0, 3),
    _NumberRow(codes.DCM.ImagePositionPatientY, MILLIMETRE, "ImagePositionPatient", 1, 3),
    _NumberRow(codes.DCM.ImagePositionPatientZ, MILLIMETRE, "ImagePositionPatient", 2, 3),
    _NumberRow(codes.DCM.ImageOrientationPatientRowX, COSINE, "ImageOrientationPatient", 0, 6),
    _NumberRow(codes.DCM.ImageOrientationPatientRowY, COSINE, "ImageOrientationPatient", 1, 6),
    _NumberRow(codes.DCM.ImageOrientationPatientRowZ, COSINE, "ImageOrientationPatient", 2, 6),
    _NumberRow(codes.DCM.ImageOrientationPatientColumnX, COSINE, "ImageOrientationPatient", 3, 6),
    _NumberRow(codes.DCM.ImageOrientationPatientColumnY, COSINE, "ImageOrientationPatient", 4, 6),
    _NumberRow(codes.DCM.ImageOrientationPatientColumnZ, COSINE, "ImageOrientationPatient", 5, 6),
)


def _number(image: Dataset, row: _NumberRow) -> float | None:
    """The value of a row; None if it is absent, is no number or has another multiplicity."""
    try:
        value = image.get(row.keyword)
        values = [value] if row.count == 1 else list(value)
        number = float(values[row.index])
    except (TypeError, ValueError, IndexError):
        return None
    return number if len(values) == row.count and math.isfinite(number) else None


def frame_of_reference(image: Dataset | None) -> str:
    """The Frame of Reference UID; empty if it is absent or malformed."""
    uid = str(image.get("FrameOfReferenceUID") or "") if image is not None else ""
    return uid if is_valid_uid(uid) and "." in uid else ""
