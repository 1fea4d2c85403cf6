"""Parts of structured documents: the evidence, observer and content tree of each, and the modules of a report."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.sr import (
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from dicom_node.dicom.identifiers import MANUFACTURER, model_device_uid
from dicom_node.dicom.sop_classes import image_class
from dicom_node.results.codes import CODING_SCHEME
from dicom_node.results.envelope import plain
from spineone_core.findings import Detection, ModelIdentity


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The report of an earlier result of the study, which the new one replaces."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


def add_document(report: Dataset, detection: Detection, sources: list[Dataset]) -> None:
    """SR Document Series and General modules (PS3.3 C.17.1, C.17.2) and General Equipment's serial number."""
    report.DeviceSerialNumber = detection.model.digest[:16]
    # The content is all that there will be, but nobody has read it: it is complete, preliminary and unverified.
    report.CompletionFlag = "COMPLETE" if detection.analysed else "PARTIAL"
    report.PreliminaryFlag = "PRELIMINARY"
    report.VerificationFlag = "UNVERIFIED"
    report.ReferencedPerformedProcedureStepSequence = DicomSequence()
    report.PerformedProcedureCodeSequence = DicomSequence()
    report.CurrentRequestedProcedureEvidenceSequence = DicomSequence([evidence(detection.study_uid, sources)])
    scheme = Dataset()
    scheme.CodingSchemeDesignator = CODING_SCHEME
    scheme.CodingSchemeName = "SpineOne Node private codes"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    report.CodingSchemeIdentificationSequence = DicomSequence([scheme])


def predecessor_reference(study_uid: str, predecessor: Predecessor) -> Dataset:
    """The item of Predecessor Documents (PS3.3 C.17.2): the new document's content supersedes this one's."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = predecessor.sop_class_uid
    reference.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = DicomSequence([_series_reference(predecessor.series_uid, [reference])])
    return study


def evidence(study_uid: str, sources: list[Dataset]) -> Dataset:
    """The item of Current Requested Procedure Evidence (PS3.3 C.17.2): the images that the content is about."""
    series: dict[str, list[Dataset]] = {}
    for source in sources:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_of(source)
        reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
        series.setdefault(str(source.get("SeriesInstanceUID", "")), []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = DicomSequence(
        [_series_reference(uid, references) for uid, references in series.items()]
    )
    return study


def _series_reference(uid: str, references: list[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = uid
    item.ReferencedSOPSequence = DicomSequence(references)
    return item


def add_content(report: Dataset, root: ContainerContentItem) -> None:
    """Add a content tree to a document (PS3.3 C.17.3)."""
    _separate(root)
    for element in root:
        report.add(element)


def _separate(item: Dataset) -> None:
    """Mark the content items as separate statements, not as one running text (PS3.3 C.18.8)."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence") or []:
        _separate(child)


def observer(model: ModelIdentity) -> ObservationContext:
    """TID 1004: the algorithm is the observer, as in Contributing Equipment."""
    attributes = DeviceObserverIdentifyingAttributes(
        uid=model_device_uid(model.digest),
        name=plain(model.name, 64),
        manufacturer_name=MANUFACTURER,
        model_name=plain(model.name, 64),
    )
    device = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=attributes)
    return ObservationContext(observer_device_context=device)


def procedure_context(accession: str) -> list[TextContentItem]:
    """TID 1005, as far as it differs from the General Study module: an Accession Number that its attribute cannot hold."""
    if not accession:
        return []
    return [
        TextContentItem(
            name=codes.DCM.AccessionNumber,
            value=accession,
            relationship_type=RelationshipTypeValues.HAS_OBS_CONTEXT,
        )
    ]


def sop_class_of(image: Dataset) -> str:
    """The SOP class of an image, by its header; see `image_class`."""
    return image_class(image.get("SOPClassUID"))
