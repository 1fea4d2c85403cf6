"""A detection as a DICOM Structured Report: Comprehensive 3D SR, root template TID 1500 (PS3.16, IHE AI Results).

Each structure has one TID 1410 group with one point on the exact slice. A study that could not be analysed gets a
report of the same kind, with one group about the lumbar spine as a whole, the reason in words and no point.

The same content also exists as Comprehensive SR, for destinations that do not take Comprehensive 3D SR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentSequence,
    FindingSite,
    ImageRegion,
    ImageRegion3D,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from dicom_node.dicom.identifiers import ResultKey, tracking_identifier, tracking_uid
from dicom_node.results.codes import (
    ABNORMAL,
    CERTAINTY,
    FAILED,
    LANGUAGE,
    LUMBAR_SPINE,
    NORMAL,
    NORMALITY,
    NOT_ATTEMPTED,
    PERCENT,
    PFIRRMANN,
    PFIRRMANN_GRADES,
    PROBABILITY,
    PROCEDURE,
    SIGNS,
    SITES,
    SUMMARY_OF_ANALYSES,
    TITLE,
    UNDETERMINED,
)
from dicom_node.results.envelope import plain, processing_equipment, settled, start_result, unfit_accession
from dicom_node.results.image_library import frame_of_reference, image_library
from dicom_node.results.kinds import REPORT, ObjectKind
from dicom_node.results.sr_document import (
    Predecessor,
    add_content,
    add_document,
    observer,
    predecessor_reference,
    procedure_context,
    sop_class_of,
)
from dicom_node.results.wording import comments
from spineone_core.anatomy import Structure
from spineone_core.findings import Detection, Finding, ModelIdentity, Stage


def build_report(
    *,
    detection: Detection,
    header: Dataset,
    slice_header: Dataset | None,
    key: ResultKey,
    created: datetime,
    images: Sequence[Dataset] = (),
    kind: ObjectKind = REPORT,
    predecessor: Predecessor | None = None,
    degenerative: Mapping[Structure, CodedConcept] = MappingProxyType({}),
    in_space: bool = False,
    grades: bool = False,
) -> Dataset:
    """The report of one study; equal arguments give equal bytes.

    Parameters
    ----------
    detection
        The outcome to report.
    header
        Any instance of the study; patient and study are taken from it.
    slice_header
        The image on which the findings lie; None only if no slice was chosen.
    key
        Gives the UIDs.
    created
        Time of the job, for all dates of the object (see ``envelope.start_result``).
    images
        Headers of the source series, for the image library; if absent, the library holds only the slice.
    kind
        The form: Comprehensive 3D SR (`kinds.REPORT`) or, with the same content, Comprehensive SR (`kinds.REPORT_2D`).
    predecessor
        The study's report before this one; the UID of the object depends on it.
    degenerative
        The code of a degenerative finding for each structure; Abnormal if a structure has no code here.
    in_space
        Whether to write points as SCOORD3D in patient coordinates instead of as SCOORD on the slice. That happens only
        if the class can hold them (Comprehensive 3D SR) and the slice names its frame of reference.
    grades
        Whether to write the Pfirrmann grades of discs and the probabilities of signs, where the model says them.

    Raises
    ------
    ValueError
        If the headers belong to another study or slice than the detection.
    """
    _check_arguments(detection, header, slice_header)
    sources = _unique([*images, *([slice_header] if slice_header is not None else [])] or [header])
    supersedes = predecessor.sop_instance_uid if predecessor is not None else ""
    report = start_result(header, kind, key=key, created=created, supersedes=supersedes)
    add_document(report, detection, sources)
    if predecessor is not None:
        report.PredecessorDocumentsSequence = DicomSequence([predecessor_reference(detection.study_uid, predecessor)])
    report.ContributingEquipmentSequence = DicomSequence([processing_equipment(detection.model, created)])
    frame = frame_of_reference(slice_header) if in_space and kind is REPORT else ""
    context = procedure_context(unfit_accession(header))
    content = _content(detection, slice_header, sources, context, predecessor is not None, degenerative, frame, grades)
    add_content(report, content)
    return settled(report)


def _check_arguments(detection: Detection, header: Dataset, slice_header: Dataset | None) -> None:
    if str(header.get("StudyInstanceUID", "")) != detection.study_uid:
        raise ValueError("the header is of another study than the detection")
    if slice_header is None:
        if detection.analysed:
            raise ValueError("an analysed study needs the header of its slice")
        return
    if str(slice_header.get("StudyInstanceUID", "")) != detection.study_uid:
        raise ValueError("the slice is of another study than the detection")
    if detection.analysed and str(slice_header.SOPInstanceUID) != detection.sop_instance_uid:
        raise ValueError("the slice header is not that of the slice the findings lie on")


def _unique(headers: Sequence[Dataset]) -> list[Dataset]:
    return list({str(h.SOPInstanceUID): h for h in headers}.values())


# ---------------------------------------------------------------- content tree


def _content(
    detection: Detection,
    slice_header: Dataset | None,
    sources: list[Dataset],
    context: list[TextContentItem],
    superseding: bool,
    degenerative: Mapping[Structure, CodedConcept],
    frame_of_reference: str,
    grades: bool,
) -> ContainerContentItem:
    root = ContainerContentItem(name=TITLE, template_id="1500")
    items = ContentSequence()
    items.extend(LanguageOfContentItemAndDescendants(LANGUAGE))
    items.extend(observer(detection.model))
    items.extend(context)
    items.append(
        CodeContentItem(
            name=codes.DCM.ProcedureReported,
            value=PROCEDURE,
            relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
    )
    items.extend(image_library(sources))
    items.append(_measurements(detection, slice_header, degenerative, frame_of_reference, grades))
    items.append(comments(detection, superseding))
    root.ContentSequence = items
    return root


def _measurements(
    detection: Detection,
    slice_header: Dataset | None,
    degenerative: Mapping[Structure, CodedConcept],
    frame_of_reference: str,
    grades: bool,
) -> ContainerContentItem:
    container = ContainerContentItem(
        name=codes.DCM.ImagingMeasurements, relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = ContentSequence()
    if slice_header is None or not detection.analysed:
        container.ContentSequence.extend(_refusal_group(detection))
        return container
    for finding in detection.findings:
        region = (
            _point_in_space(finding, frame_of_reference)
            if frame_of_reference
            else _point(finding, slice_header, detection.frame_number)
        )
        container.ContentSequence.extend(_finding_group(detection, finding, region, degenerative, grades))
    return container


def _algorithm(model: ModelIdentity) -> AlgorithmIdentification:
    """TID 4019; name and version equal the model name and software version in Contributing Equipment."""
    return AlgorithmIdentification(
        name=plain(model.name, 64), version=plain(model.version, 64), parameters=[f"Model SHA-256 {model.digest}"]
    )


def normality(finding: Finding) -> CodedConcept:
    """The CID 222 code of a finding; it is undetermined if the detector did not decide."""
    if not finding.decided:
        return UNDETERMINED
    return ABNORMAL if finding.probability >= 0.5 else NORMAL


def _finding_group(
    detection: Detection,
    finding: Finding,
    region: ImageRegion | ImageRegion3D,
    degenerative: Mapping[Structure, CodedConcept],
    grades: bool,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    measurements = [_percent(PROBABILITY, finding.probability)]
    if finding.decided:
        # The certainty of the class that Finding names, so that the number fits what is written beside it.
        measurements.append(_percent(CERTAINTY, max(finding.probability, 1 - finding.probability)))
    evaluations = [QualitativeEvaluation(name=NORMALITY, value=normality(finding))]
    if grades:
        measurements += [_percent(SIGNS[name], probability) for name, probability in finding.signs]
        if finding.pfirrmann is not None:
            grade = PFIRRMANN_GRADES[finding.pfirrmann.grade]
            evaluations.append(QualitativeEvaluation(name=PFIRRMANN, value=grade))
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(detection.study_uid, finding.landmark), identifier=tracking_identifier(finding.landmark)
        ),
        referenced_region=region,
        finding_type=_finding_type(finding, degenerative),
        finding_sites=[FindingSite(anatomic_location=SITES[finding.level])],
        algorithm_id=_algorithm(detection.model),
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )


def _finding_type(finding: Finding, degenerative: Mapping[Structure, CodedConcept]) -> CodedConcept:
    """The site's own code for a degenerative structure, if there is one; otherwise the normality."""
    code = normality(finding)
    return degenerative.get(finding.structure, code) if code == ABNORMAL else code


def _percent(name: CodedConcept, value: float) -> Measurement:
    return Measurement(name=name, value=round(100 * value, 4), unit=PERCENT)


def _point(finding: Finding, slice_header: Dataset, frame_number: int | None) -> ImageRegion:
    """SCOORD counts from the corner of the first pixel, whose centre is (0.5, 0.5) (PS3.3 C.18.6)."""
    image = SourceImageForRegion(
        referenced_sop_class_uid=sop_class_of(slice_header),
        referenced_sop_instance_uid=str(slice_header.SOPInstanceUID),
        referenced_frame_numbers=None if frame_number is None else [frame_number],
    )
    return ImageRegion(
        graphic_type="POINT", graphic_data=np.array([[finding.x + 0.5, finding.y + 0.5]]), source_image=image
    )


def _point_in_space(finding: Finding, frame_of_reference: str) -> ImageRegion3D:
    """SCOORD3D: patient coordinates in mm (PS3.3 C.18.9)."""
    return ImageRegion3D(
        graphic_type="POINT", graphic_data=np.array([finding.xyz_mm]), frame_of_reference_uid=frame_of_reference
    )


def _refusal_group(detection: Detection) -> MeasurementsAndQualitativeEvaluations:
    """A TID 1501 group about the whole lumbar spine: viewers that demand a group find one, and it claims nothing."""
    assert detection.reason is not None
    status = NOT_ATTEMPTED if detection.reason.stage is Stage.BEFORE_ANALYSIS else FAILED
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(detection.study_uid, None), identifier="Lumbar spine: not analysable"
        ),
        finding_type=UNDETERMINED,
        finding_sites=[FindingSite(anatomic_location=LUMBAR_SPINE)],
        algorithm_id=_algorithm(detection.model),
        qualitative_evaluations=[
            QualitativeEvaluation(name=SUMMARY_OF_ANALYSES, value=status),
            QualitativeEvaluation(name=NORMALITY, value=UNDETERMINED),
        ],
    )
