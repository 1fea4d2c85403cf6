"""A detection as DICOM Structured Report: Comprehensive 3D SR, root template TID 1500 (PS3.16, IHE AI Results).

One TID 1410 group a structure, each with one point on the exact slice. A study that could not be analysed gets a report
of the same kind with one group about the lumbar spine as a whole, the reason in words and no point.

The same content also exists as Comprehensive SR, for destinations that take no Comprehensive 3D SR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    ImageRegion,
    ImageRegion3D,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicom_node.dicom.headers import is_valid_uid
from dicom_node.dicom.identifiers import MANUFACTURER, ResultKey, model_device_uid, tracking_identifier, tracking_uid
from dicom_node.results.envelope import RESEARCH_USE, plain, processing_equipment, settled, start_result
from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.findings import REASON_TEXT, Detection, Finding, ModelIdentity, Reason

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SOP_CLASS_2D = "1.2.840.10008.5.1.4.1.1.88.33"
# What the UIDs of each form are derived from. Viewers show one report a series, so each form has its own.
FORMS = {SOP_CLASS: "sr", SOP_CLASS_2D: "sr-2d"}
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SERIES_NUMBER = 9801
SERIES_DESCRIPTION = "SpineOne lumbar findings (research)"

CODING_SCHEME = "99SPINEONE"


def coded(value: str, scheme: str, meaning: str) -> CodedConcept:
    """A coded concept (PS3.3 8)."""
    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


TITLE = coded("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = coded("en-US", "RFC5646", "English (United States)")
PROCEDURE = coded("25056-3", "LN", "MRI unspecified body region")
LUMBAR_SPINE = coded("122496007", "SCT", "Lumbar spine")
NORMALITY = coded("121402", "DCM", "Normality")
NORMAL = coded("17621005", "SCT", "Normal")
ABNORMAL = coded("263654008", "SCT", "Abnormal")
UNDETERMINED = coded("371934000", "SCT", "Normality Undetermined")
CERTAINTY = coded("111012", "DCM", "Certainty of Finding")
PROBABILITY = coded("DEGENPROB", CODING_SCHEME, "Probability of degeneration")
PERCENT = coded("%", "UCUM", "Percent")
COMMENT = coded("121106", "DCM", "Comment")
SUMMARY_OF_ANALYSES = coded("111065", "DCM", "Summary of Analyses")
FAILED = coded("111224", "DCM", "Failed")
NOT_ATTEMPTED = coded("111225", "DCM", "Not Attempted")

# CID 7603 and CID 7604. 75782005 ("disc of fifth lumbar vertebra") is in neither: L5-S1 is 715056000.
SITES = {
    "L1": coded("66794005", "SCT", "L1 vertebra"),
    "L2": coded("14293000", "SCT", "L2 vertebra"),
    "L3": coded("36470004", "SCT", "L3 vertebra"),
    "L4": coded("11994002", "SCT", "L4 vertebra"),
    "L5": coded("49668003", "SCT", "L5 vertebra"),
    "L1-L2": coded("80064006", "SCT", "L1/L2 disc"),
    "L2-L3": coded("67459009", "SCT", "L2/L3 disc"),
    "L3-L4": coded("62551000", "SCT", "L3/L4 disc"),
    "L4-L5": coded("84020006", "SCT", "L4/L5 disc"),
    "L5-S1": coded("715056000", "SCT", "L5/S1 disc"),
}

SITES_IN_READING_ORDER = tuple(SITES[landmark.level] for landmark in READING_ORDER)

_PIXELS = coded("{pixels}", "UCUM", "Pixels")
_MILLIMETRE = coded("mm", "UCUM", "mm")
_COSINE = coded("{-1:1}", "UCUM", "{-1:1}")
_MODALITIES = {
    "MR": coded("MR", "DCM", "Magnetic Resonance"),
    "CT": coded("CT", "DCM", "Computed Tomography"),
    "OT": coded("OT", "DCM", "Other Modality"),
}


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The report of an earlier result of the study, which the new one replaces."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


# Reasons found before the detector ran; after all others it ran and its answer was not usable.
_BEFORE_ANALYSIS = frozenset(
    {
        Reason.NO_IMAGES,
        Reason.NO_SAGITTAL_T2,
        Reason.TOO_FEW_SLICES,
        Reason.UNREADABLE_PIXELS,
        Reason.INVALID_GEOMETRY,
        Reason.FIELD_OF_VIEW_TOO_LARGE,
    }
)


def build_report(
    *,
    detection: Detection,
    header: Dataset,
    slice_header: Dataset | None,
    key: ResultKey,
    created: datetime,
    images: Sequence[Dataset] = (),
    sop_class: str = SOP_CLASS,
    predecessor: Predecessor | None = None,
    degenerative: Mapping[Structure, CodedConcept] = MappingProxyType({}),
    in_space: bool = False,
) -> Dataset:
    """The report of one study; equal arguments give equal bytes.

    Parameters
    ----------
    detection
        The outcome to report.
    header
        Any instance of the study: patient and study are taken from it.
    slice_header
        The image that the findings lie on; None only where no slice was chosen.
    key
        Gives the UIDs.
    created
        Time of the job, for all dates of the object (see ``envelope.start_result``).
    images
        Headers of the source series, for the image library; the slice alone where absent.
    sop_class
        Comprehensive 3D SR or, with the same content, Comprehensive SR.
    predecessor
        The study's report before this one; it is part of what names the object.
    degenerative
        What a finding is called that is degenerative; Abnormal where a structure has no code of its own.
    in_space
        Points as SCOORD3D in patient coordinates, not as SCOORD on the slice; where the class holds them (Comprehensive 3D SR)
        and the slice names its frame of reference.

    Raises
    ------
    ValueError
        If the headers are of another study or slice than the detection.
    """
    _check_arguments(detection, header, slice_header)
    sources = _unique([*images, *([slice_header] if slice_header is not None else [])] or [header])
    report = start_result(
        header,
        sop_class_uid=sop_class,
        sop_instance_uid=key.uid(_role(sop_class, predecessor)),
        series_uid=key.uid(f"{FORMS[sop_class]}-series"),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        modality="SR",
        created=created,
    )
    _add_document(report, detection, sources)
    if predecessor is not None:
        report.PredecessorDocumentsSequence = DicomSequence([_predecessor_reference(detection.study_uid, predecessor)])
    report.ContributingEquipmentSequence = DicomSequence([processing_equipment(detection.model, created)])
    frame = _frame_of_reference(slice_header) if in_space and sop_class == SOP_CLASS else ""
    content = _content(detection, slice_header, sources, predecessor is not None, degenerative, frame)
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


def sop_class_of(image: Dataset) -> str:
    """SOP Class UID; MR Image Storage where a poor source lacks it."""
    return str(image.get("SOPClassUID") or MR_IMAGE)


# ---------------------------------------------------------------- document


def _add_document(report: Dataset, detection: Detection, sources: list[Dataset]) -> None:
    """SR Document Series and General modules (PS3.3 C.17.1, C.17.2) and General Equipment's serial number."""
    report.DeviceSerialNumber = detection.model.digest[:16]
    # The content is all there will be, but nobody has read it: complete, preliminary, unverified.
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


def _role(sop_class: str, predecessor: Predecessor | None) -> str:
    return FORMS[sop_class] if predecessor is None else f"{FORMS[sop_class]} after {predecessor.sop_instance_uid}"


def _predecessor_reference(study_uid: str, predecessor: Predecessor) -> Dataset:
    """Predecessor Documents (PS3.3 C.17.2): its content is superseded by this one's."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = predecessor.sop_class_uid
    reference.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = DicomSequence([_series_reference(predecessor.series_uid, [reference])])
    return study


def evidence(study_uid: str, sources: list[Dataset]) -> Dataset:
    """Item of Current Requested Procedure Evidence (PS3.3 C.17.2): the images that the content is about."""
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
    """Make a content tree that of a document (PS3.3 C.17.3)."""
    _separate(root)
    for element in root:
        report.add(element)


def _separate(item: Dataset) -> None:
    """Content items are statements of their own, not one running text (PS3.3 C.18.8)."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence") or []:
        _separate(child)


# ---------------------------------------------------------------- content tree


def _content(
    detection: Detection,
    slice_header: Dataset | None,
    sources: list[Dataset],
    superseding: bool,
    degenerative: Mapping[Structure, CodedConcept],
    frame_of_reference: str,
) -> ContainerContentItem:
    root = ContainerContentItem(name=TITLE, template_id="1500")
    items = ContentSequence()
    items.extend(LanguageOfContentItemAndDescendants(LANGUAGE))
    items.extend(observer(detection.model))
    items.append(
        CodeContentItem(
            name=coded("121058", "DCM", "Procedure reported"),
            value=PROCEDURE,
            relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
    )
    items.extend(_image_library(sources))
    items.append(_measurements(detection, slice_header, degenerative, frame_of_reference))
    items.append(_comments(detection, superseding))
    root.ContentSequence = items
    return root


def observer(model: ModelIdentity) -> ObservationContext:
    """TID 1004: the algorithm, as in Contributing Equipment."""
    attributes = DeviceObserverIdentifyingAttributes(
        uid=model_device_uid(model.digest),
        name=plain(model.name, 64),
        manufacturer_name=MANUFACTURER,
        model_name=plain(model.name, 64),
    )
    device = ObserverContext(observer_type=coded("121007", "DCM", "Device"), observer_identifying_attributes=attributes)
    return ObservationContext(observer_device_context=device)


def _measurements(
    detection: Detection,
    slice_header: Dataset | None,
    degenerative: Mapping[Structure, CodedConcept],
    frame_of_reference: str,
) -> ContainerContentItem:
    container = ContainerContentItem(
        name=coded("126010", "DCM", "Imaging Measurements"), relationship_type=RelationshipTypeValues.CONTAINS
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
        container.ContentSequence.extend(_finding_group(detection, finding, region, degenerative))
    return container


def _algorithm(model: ModelIdentity) -> AlgorithmIdentification:
    """TID 4019; name and version equal Contributing Equipment's model name and software version."""
    return AlgorithmIdentification(
        name=plain(model.name, 64), version=plain(model.version, 64), parameters=[f"Model SHA-256 {model.digest}"]
    )


def normality(finding: Finding) -> CodedConcept:
    """CID 222 code of a finding; undetermined where the detector did not decide."""
    if not finding.decided:
        return UNDETERMINED
    return ABNORMAL if finding.probability >= 0.5 else NORMAL


def _finding_group(
    detection: Detection,
    finding: Finding,
    region: ImageRegion | ImageRegion3D,
    degenerative: Mapping[Structure, CodedConcept],
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    measurements = [_percent(PROBABILITY, finding.probability)]
    if finding.decided:
        # Of the class named by Finding, so that the number reads right beside it.
        measurements.append(_percent(CERTAINTY, max(finding.probability, 1 - finding.probability)))
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(detection.study_uid, finding.landmark), identifier=tracking_identifier(finding.landmark)
        ),
        referenced_region=region,
        finding_type=_finding_type(finding, degenerative),
        finding_sites=[FindingSite(anatomic_location=SITES[finding.level])],
        algorithm_id=_algorithm(detection.model),
        measurements=measurements,
        qualitative_evaluations=[QualitativeEvaluation(name=NORMALITY, value=normality(finding))],
    )


def _finding_type(finding: Finding, degenerative: Mapping[Structure, CodedConcept]) -> CodedConcept:
    """The site's own code for what is degenerative, where there is one; else the normality."""
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


def _frame_of_reference(image: Dataset | None) -> str:
    """Frame of Reference UID; empty where it is absent or malformed."""
    uid = str(image.get("FrameOfReferenceUID") or "") if image is not None else ""
    return uid if is_valid_uid(uid) and "." in uid else ""


def _refusal_group(detection: Detection) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501 about the whole lumbar spine: viewers that demand a group find one, and it claims nothing."""
    assert detection.reason is not None
    status = NOT_ATTEMPTED if detection.reason in _BEFORE_ANALYSIS else FAILED
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


# ---------------------------------------------------------------- words


def _comments(detection: Detection, superseding: bool) -> ContainerContentItem:
    container = ContainerContentItem(
        name=coded("C0034375", "UMLS", "Qualitative Evaluations"), relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = ContentSequence(
        [
            TextContentItem(name=COMMENT, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
            for text in comment_lines(detection, superseding=superseding)
        ]
    )
    return container


def comment_lines(detection: Detection, *, superseding: bool = False) -> list[str]:
    """What the report says in words, for viewers that show nothing else."""
    model = detection.model
    lines = [
        f"{RESEARCH_USE}. Computed by software, not a diagnosis, not verified by a physician.",
        plain(f"Model {model.name} {model.version}, SHA-256 {model.digest}"),
    ]
    if superseding:
        lines.append("Replaces an earlier report of this study, which is named as its predecessor.")
    lines += [_summary(f) for f in detection.findings] if detection.analysed else [_refusal(detection)]
    return lines + [plain(f"Warning: {warning}") for warning in detection.warnings]


def _summary(finding: Finding) -> str:
    grade = finding.grade.value if finding.decided else "undecided"
    name = tracking_identifier(finding.landmark)
    return f"{name}: {grade}, probability of degeneration {100 * finding.probability:.0f} %"


def _refusal(detection: Detection) -> str:
    assert detection.reason is not None
    text = REASON_TEXT[detection.reason]
    detail = f" ({detection.reason_detail})" if detection.reason_detail not in ("", text) else ""
    return plain(f"Not analysable [{detection.reason.value}]: {text}{detail}")


# ---------------------------------------------------------------- image library


def _image_library(sources: list[Dataset]) -> list[ContainerContentItem]:
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
    modality = _MODALITIES.get(str(image.get("Modality") or "MR"), _MODALITIES["OT"])
    items: list[ContentItem] = [
        CodeContentItem(name=coded("121139", "DCM", "Modality"), value=modality, relationship_type=context)
    ]
    frame_of_reference = _frame_of_reference(image)
    if frame_of_reference:
        name = coded("112227", "DCM", "Frame of Reference UID")
        items.append(UIDRefContentItem(name=name, value=frame_of_reference, relationship_type=context))
    return items + [
        NumContentItem(name=coded(value, "DCM", meaning), value=number, unit=unit, relationship_type=context)
        for (value, meaning), unit, number in _image_numbers(image)
    ]


def _image_numbers(image: Dataset) -> list[tuple[tuple[str, str], CodedConcept, float]]:
    rows: list[tuple[tuple[str, str], CodedConcept, float | None]] = [
        (("110910", "Pixel Data Rows"), _PIXELS, _number(image, "Rows")),
        (("110911", "Pixel Data Columns"), _PIXELS, _number(image, "Columns")),
        (("111026", "Horizontal Pixel Spacing"), _MILLIMETRE, _number(image, "PixelSpacing", 1, 2)),
        (("111066", "Vertical Pixel Spacing"), _MILLIMETRE, _number(image, "PixelSpacing", 0, 2)),
        (("112225", "Slice Thickness"), _MILLIMETRE, _number(image, "SliceThickness")),
        (("112226", "Spacing between slices"), _MILLIMETRE, _number(image, "SpacingBetweenSlices")),
    ]
    for index, axis in enumerate("XYZ"):
        position = _number(image, "ImagePositionPatient", index, 3)
        rows.append(((f"{110901 + index}", f"Image Position (Patient) {axis}"), _MILLIMETRE, position))
    for index, name in enumerate(("Row X", "Row Y", "Row Z", "Column X", "Column Y", "Column Z")):
        cosine = _number(image, "ImageOrientationPatient", index, 6)
        rows.append(((f"{110904 + index}", f"Image Orientation (Patient) {name}"), _COSINE, cosine))
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
