"""The image library of a report (TID 1600): which images were analysed."""

from __future__ import annotations

import math

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

from dicom_node.dicom.headers import is_valid_uid
from dicom_node.results.codes import (
    COSINE,
    MILLIMETRE,
    MODALITIES,
    PIXELS,
    coded,
)
from dicom_node.results.sr_document import (
    sop_class_of,
)


def image_library(sources: list[Dataset]) -> list[ContainerContentItem]:
    """TID 1600; none where the study has no image.

    highdicom's own fails where a source lacks Slice Thickness or spacing; here what is absent is left out.
    """
    images = [source for source in sources if "Rows" in source]
    if not images:
        return []
    group = ContainerContentItem(
        name=coded("126200", "DCM", "Image Library Group"), relationship_type=RelationshipTypeValues.CONTAINS
    )
    group.ContentSequence = ContentSequence([_library_entry(image) for image in images])
    library = ContainerContentItem(
        name=coded("111028", "DCM", "Image Library"), relationship_type=RelationshipTypeValues.CONTAINS
    )
    library.ContentSequence = ContentSequence([group])
    return [library]


def _library_entry(image: Dataset) -> ImageContentItem:
    entry = ImageContentItem(
        name=coded("260753009", "SCT", "Source"),
        referenced_sop_class_uid=sop_class_of(image),
        referenced_sop_instance_uid=str(image.SOPInstanceUID),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    entry.ContentSequence = ContentSequence(_descriptors(image))
    return entry


def _descriptors(image: Dataset) -> list[ContentItem]:
    """TID 1602 and 1604 rows for which the image has values."""
    context = RelationshipTypeValues.HAS_ACQ_CONTEXT
    modality = MODALITIES.get(str(image.get("Modality") or "MR"), MODALITIES["OT"])
    items: list[ContentItem] = [
        CodeContentItem(name=coded("121139", "DCM", "Modality"), value=modality, relationship_type=context)
    ]
    frame = frame_of_reference(image)
    if frame:
        name = coded("112227", "DCM", "Frame of Reference UID")
        items.append(UIDRefContentItem(name=name, value=frame, relationship_type=context))
    return items + [
        NumContentItem(name=coded(value, "DCM", meaning), value=number, unit=unit, relationship_type=context)
        for (value, meaning), unit, number in _image_numbers(image)
    ]


def _image_numbers(image: Dataset) -> list[tuple[tuple[str, str], CodedConcept, float]]:
    rows: list[tuple[tuple[str, str], CodedConcept, float | None]] = [
        (("110910", "Pixel Data Rows"), PIXELS, _number(image, "Rows")),
        (("110911", "Pixel Data Columns"), PIXELS, _number(image, "Columns")),
        (("111026", "Horizontal Pixel Spacing"), MILLIMETRE, _number(image, "PixelSpacing", 1, 2)),
        (("111066", "Vertical Pixel Spacing"), MILLIMETRE, _number(image, "PixelSpacing", 0, 2)),
        (("112225", "Slice Thickness"), MILLIMETRE, _number(image, "SliceThickness")),
        (("112226", "Spacing between slices"), MILLIMETRE, _number(image, "SpacingBetweenSlices")),
    ]
    for index, axis in enumerate("XYZ"):
        position = _number(image, "ImagePositionPatient", index, 3)
        rows.append(((f"{110901 + index}", f"Image Position (Patient) {axis}"), MILLIMETRE, position))
    for index, name in enumerate(("Row X", "Row Y", "Row Z", "Column X", "Column Y", "Column Z")):
        cosine = _number(image, "ImageOrientationPatient", index, 6)
        rows.append(((f"{110904 + index}", f"Image Orientation (Patient) {name}"), COSINE, cosine))
    return [(code, unit, number) for code, unit, number in rows if number is not None]


def _number(image: Dataset, keyword: str, index: int = 0, count: int = 1) -> float | None:
    """One value of an attribute; None where it is absent, no number, or has another multiplicity than ``count``."""
    try:
        value = image.get(keyword)
        values = [value] if count == 1 else list(value)
        number = float(values[index])
    except (TypeError, ValueError, IndexError):
        return None
    return number if len(values) == count and math.isfinite(number) else None


def frame_of_reference(image: Dataset | None) -> str:
    """Frame of Reference UID; empty where it is absent or malformed."""
    uid = str(image.get("FrameOfReferenceUID") or "") if image is not None else ""
    return uid if is_valid_uid(uid) and "." in uid else ""
