"""The picture of a result as RGB Secondary Capture (PS3.3 A.8.1): for every viewer that shows nothing else."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.envelope import RESEARCH_USE, plain, processing_equipment, settled, start_result
from dicom_node.identifiers import ResultKey
from spineone_core.dicom_series import SagittalVolume, SliceSource
from spineone_core.drawing import RenderedOverlay, direction_letters, png_bytes, render_overlay
from spineone_core.findings import Detection

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7"
SERIES_NUMBER = 9802
SERIES_DESCRIPTION = "SpineOne overlay (research)"

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def build_overlay(
    *, detection: Detection, volume: SagittalVolume, header: Dataset, key: ResultKey, created: datetime
) -> Dataset:
    """Secondary Capture with the findings drawn on their slice; equal arguments give equal bytes.

    ``header`` is any instance of the study; ``created`` as in ``envelope.start_result``.

    Raises
    ------
    ValueError
        If header, volume and detection are not of one study, or the volume lacks the detection's slice.
    """
    studies = {detection.study_uid, volume.study_uid, str(header.get("StudyInstanceUID", ""))}
    if len(studies) != 1:
        raise ValueError("header, volume and detection are not of one study")
    rendered = render_overlay(volume, detection)
    overlay = start_result(
        header,
        sop_class_uid=SOP_CLASS,
        sop_instance_uid=key.uid("overlay"),
        series_uid=key.uid("overlay-series"),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        modality="OT",
        created=created,
    )
    overlay.ContributingEquipmentSequence = Sequence([processing_equipment(detection.model, created)])
    _add_derivation(overlay, detection, volume, rendered)
    _add_pixels(overlay, rendered)
    return settled(overlay)


def overlay_png(overlay: Dataset) -> bytes:
    """The picture of an overlay object as PNG."""
    return png_bytes(np.asarray(overlay.pixel_array, dtype=np.uint8))


def _add_derivation(overlay: Dataset, detection: Detection, volume: SagittalVolume, rendered: RenderedOverlay) -> None:
    """General Image and SC Equipment (PS3.3 C.7.6.1, C.8.6.1): what this is and what it was made from."""
    model = detection.model
    overlay.ConversionType = "SYN"
    overlay.ImageType = ["DERIVED", "SECONDARY"]
    overlay.DerivationDescription = plain(
        f"Slice enlarged, findings of model {model.name} {model.version} drawn on it. {RESEARCH_USE}"
    )
    overlay.SourceImageSequence = Sequence([_source_image(volume.sources[rendered.slice_index])])
    if detection.analysed:
        overlay.BodyPartExamined = "LSPINE"
    else:
        overlay.Laterality = ""  # type 2C where the body part is not known to be unpaired
    overlay.BurnedInAnnotation = "YES"
    overlay.LossyImageCompression = "00"
    overlay.PatientOrientation = [
        direction_letters(volume.row_direction),
        direction_letters(volume.column_direction),
    ]


def _source_image(source: SliceSource) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue = "121322"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class_uid or _MR_IMAGE
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    if source.frame_number is not None:
        item.ReferencedFrameNumber = source.frame_number
    item.PurposeOfReferenceCodeSequence = Sequence([purpose])
    return item


def _add_pixels(overlay: Dataset, rendered: RenderedOverlay) -> None:
    """Image Pixel and SC Image (PS3.3 C.7.6.3, C.8.6.2). Pixel Spacing is the picture's, so that viewers measure right."""
    rows, columns = rendered.image.shape[:2]
    overlay.SamplesPerPixel = 3
    overlay.PhotometricInterpretation = "RGB"
    overlay.PlanarConfiguration = 0
    overlay.Rows, overlay.Columns = rows, columns
    overlay.BitsAllocated = overlay.BitsStored = 8
    overlay.HighBit = 7
    overlay.PixelRepresentation = 0
    spacing = [f"{value:.8f}" for value in rendered.pixel_spacing]
    overlay.PixelSpacing = spacing
    overlay.NominalScannedPixelSpacing = spacing
    data = rendered.image.tobytes()
    overlay.PixelData = data + b"\0" * (len(data) % 2)
    overlay["PixelData"].VR = "OB"
