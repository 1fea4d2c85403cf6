"""The pictures of a result as RGB Secondary Capture (PS3.3 A.8.1), for viewers that show nothing else.

They form one series: the findings on their slice, then, if asked for, the table of levels and the sheet of all slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from dicom_node.dicom.identifiers import ResultKey
from dicom_node.dicom.sop_classes import image_class
from dicom_node.results.envelope import code_item, plain, processing_equipment, settled, start_result
from dicom_node.results.kinds import OVERLAY, SHEET, TABLE, ObjectKind
from spineone_core.drawing.overlay import render_overlay
from spineone_core.drawing.pages import render_sheet, render_table
from spineone_core.drawing.slices import direction_letters, png_bytes, slice_index
from spineone_core.findings import RESEARCH_USE, Detection
from spineone_core.imaging.volume import SagittalVolume, SliceSource


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """One picture of the series: (rows, columns, 3) uint8, mm between its rows and columns or None, and its sources."""

    kind: ObjectKind
    image: NDArray[np.uint8]
    pixel_spacing: tuple[float, float] | None
    sources: Sequence[SliceSource]
    derivation: str


def build_overlay(
    *, detection: Detection, volume: SagittalVolume, header: Dataset, key: ResultKey, created: datetime
) -> Dataset:
    """The Secondary Capture with the findings drawn on their slice; equal arguments give equal bytes.

    ``header`` is any instance of the study; ``created`` as in ``envelope.start_result``.

    Raises
    ------
    ValueError
        If header, volume and detection do not belong to one study, or the volume lacks the detection's slice.
    """
    _check_study(detection, volume, header)
    rendered = render_overlay(volume, detection)
    source = volume.sources[rendered.slice_index]
    words = "Slice enlarged, findings of model {} drawn on it"
    page = _Page(OVERLAY, rendered.image, rendered.pixel_spacing, [source], words)
    return _secondary_capture(page, detection, volume, header, key, created)


def build_table(
    *, detection: Detection, volume: SagittalVolume, header: Dataset, key: ResultKey, created: datetime
) -> Dataset:
    """The series' second picture: the levels as a table. Arguments and errors are those of ``build_overlay``."""
    _check_study(detection, volume, header)
    source = volume.sources[slice_index(volume, detection)]
    page = _Page(TABLE, render_table(volume, detection), None, [source], "Findings of model {} as a table")
    return _secondary_capture(page, detection, volume, header, key, created)


def build_sheet(
    *, detection: Detection, volume: SagittalVolume, header: Dataset, key: ResultKey, created: datetime
) -> Dataset:
    """The series' third picture: all slices side by side. Arguments and errors are those of ``build_overlay``."""
    _check_study(detection, volume, header)
    image, spacing = render_sheet(volume, detection)
    words = "All slices of the series that model {} analysed"
    page = _Page(SHEET, image, spacing, volume.sources, words)
    return _secondary_capture(page, detection, volume, header, key, created)


def _check_study(detection: Detection, volume: SagittalVolume, header: Dataset) -> None:
    studies = {detection.study_uid, volume.study_uid, str(header.get("StudyInstanceUID", ""))}
    if len(studies) != 1:
        raise ValueError("header, volume and detection are not of one study")


def _secondary_capture(
    page: _Page, detection: Detection, volume: SagittalVolume, header: Dataset, key: ResultKey, created: datetime
) -> Dataset:
    capture = start_result(header, page.kind, key=key, created=created)
    capture.ContributingEquipmentSequence = DicomSequence([processing_equipment(detection.model, created)])
    _add_derivation(capture, page, detection)
    _add_orientation(capture, page, volume)
    _add_pixels(capture, page)
    return settled(capture)


def overlay_png(overlay: Dataset) -> bytes:
    """The picture of an overlay object as PNG."""
    return png_bytes(np.asarray(overlay.pixel_array, dtype=np.uint8))


def _add_derivation(capture: Dataset, page: _Page, detection: Detection) -> None:
    """General Image and SC Equipment (PS3.3 C.7.6.1, C.8.6.1): what this is and what it was made from."""
    model = detection.model
    capture.ConversionType = "SYN"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = plain(f"{page.derivation.format(f'{model.name} {model.version}')}. {RESEARCH_USE}")
    capture.SourceImageSequence = DicomSequence([_source_image(images) for images in _by_object(page.sources)])
    if detection.analysed:
        capture.BodyPartExamined = "LSPINE"
    else:
        capture.Laterality = ""  # type 2C where the body part is not known to be unpaired
    capture.BurnedInAnnotation = "YES"
    capture.LossyImageCompression = "00"


def _add_orientation(capture: Dataset, page: _Page, volume: SagittalVolume) -> None:
    """Add the orientation of the slice or slices shown; a table has none (type 2C)."""
    directions = (volume.row_direction, volume.column_direction)
    capture.PatientOrientation = [direction_letters(d) for d in directions] if page.pixel_spacing else ""


def _by_object(sources: Sequence[SliceSource]) -> list[list[SliceSource]]:
    """The slices, grouped by the multi-frame object that holds them."""
    objects: dict[str, list[SliceSource]] = {}
    for source in sources:
        objects.setdefault(source.sop_instance_uid, []).append(source)
    return list(objects.values())


def _source_image(slices: list[SliceSource]) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image_class(slices[0].sop_class_uid)
    item.ReferencedSOPInstanceUID = slices[0].sop_instance_uid
    frames = [s.frame_number for s in slices if s.frame_number is not None]
    if frames:
        item.ReferencedFrameNumber = frames if len(frames) > 1 else frames[0]
    item.PurposeOfReferenceCodeSequence = DicomSequence([code_item(codes.DCM.SourceImageForImageProcessingOperation)])
    return item


def _add_pixels(capture: Dataset, page: _Page) -> None:
    """Image Pixel and SC Image (PS3.3 C.7.6.3, C.8.6.2).

    Pixel Spacing fits the picture, so that viewers measure right.
    """
    capture.Rows, capture.Columns = page.image.shape[:2]
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    if page.pixel_spacing:
        capture.PixelSpacing = capture.NominalScannedPixelSpacing = [f"{value:.8f}" for value in page.pixel_spacing]
    data = page.image.tobytes()
    capture.PixelData = data + b"\0" * (len(data) % 2)
    capture["PixelData"].VR = "OB"
