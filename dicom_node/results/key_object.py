"""The analysed slice as Key Object Selection (PS3.3 A.35.4, TID 2010): worklists and viewers jump to it."""

from __future__ import annotations

from datetime import datetime

from highdicom.sr import ContainerContentItem, ContentSequence, RelationshipTypeValues, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from dicom_node.dicom.identifiers import ResultKey
from dicom_node.results.envelope import plain, processing_equipment, settled, start_result
from dicom_node.results.kinds import KEY_OBJECT
from dicom_node.results.sr_document import add_content, evidence, observer, sop_class_of
from spineone_core.findings import RESEARCH_USE, Detection

TITLE = codes.DCM.OfInterest


def build_key_object(
    *, detection: Detection, header: Dataset, slice_header: Dataset, key: ResultKey, created: datetime
) -> Dataset:
    """The note that points at the slice on which the findings lie; arguments as in ``report.build_report``.

    Raises
    ------
    ValueError
        If the study was not analysed, or the headers belong to another study or slice.
    """
    if not detection.analysed:
        raise ValueError("a study that was not analysed has no slice to point at")
    if {str(h.get("StudyInstanceUID")) for h in (header, slice_header)} != {detection.study_uid}:
        raise ValueError("the headers are of another study than the detection")
    if str(slice_header.get("SOPInstanceUID")) != detection.sop_instance_uid:
        raise ValueError("the slice header is not that of the slice the findings lie on")
    note = start_result(header, KEY_OBJECT, key=key, created=created)
    note.ContributingEquipmentSequence = Sequence([processing_equipment(detection.model, created)])
    note.ReferencedPerformedProcedureStepSequence = Sequence()
    note.CurrentRequestedProcedureEvidenceSequence = Sequence([evidence(detection.study_uid, [slice_header])])
    add_content(note, _content(detection))
    note.ContentSequence = Sequence([*note.ContentSequence, _image(detection, slice_header)])
    return settled(note)


def _content(detection: Detection) -> ContainerContentItem:
    model = detection.model
    text = plain(f"Slice analysed by model {model.name} {model.version}. {RESEARCH_USE}")
    items = ContentSequence(observer(model))
    items.append(
        TextContentItem(
            name=codes.DCM.KeyObjectDescription, value=text, relationship_type=RelationshipTypeValues.CONTAINS
        )
    )
    root = ContainerContentItem(name=TITLE, template_id="2010")
    root.ContentSequence = items
    return root


def _image(detection: Detection, slice_header: Dataset) -> Dataset:
    """The template's image has no concept name."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_of(slice_header)
    reference.ReferencedSOPInstanceUID = slice_header.SOPInstanceUID
    if detection.frame_number is not None:
        reference.ReferencedFrameNumber = detection.frame_number
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "IMAGE"
    item.ReferencedSOPSequence = Sequence([reference])
    return item
