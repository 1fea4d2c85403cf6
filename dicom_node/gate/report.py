"""Rules for reports (TID 1500)."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_node.gate.content_tree import children, code_of, number, reference, texts, tree, value_code
from dicom_node.gate.documents import evidence, words
from dicom_node.gate.problems import ObjectRules, Problems, wrong_values
from dicom_node.results.codes import (
    ABNORMAL,
    LUMBAR_SPINE,
    NORMAL,
    NORMALITY,
    PFIRRMANN,
    PFIRRMANN_GRADES,
    PROBABILITY,
    SITES_IN_READING_ORDER,
    TITLE,
    UNDETERMINED,
)
from dicom_node.results.kinds import REPORT, REPORTS

_TYPE_1 = (
    "ContentDate",
    "ContentTime",
    "CompletionFlag",
    "VerificationFlag",
    "PreliminaryFlag",
    "CurrentRequestedProcedureEvidenceSequence",
    "ValueType",
    "ContinuityOfContent",
    "ConceptNameCodeSequence",
    "ContentTemplateSequence",
    "ContentSequence",
)
_TYPE_2 = ("ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence")
_SR_VALUES = {
    "Modality": "SR",
    "VerificationFlag": "UNVERIFIED",
    "PreliminaryFlag": "PRELIMINARY",
    "ValueType": "CONTAINER",
    "ContinuityOfContent": "SEPARATE",
}
# The concept codes of the template, by value alone: within one container they are unambiguous.
_LANGUAGE = codes.DCM.LanguageOfContentItemAndDescendants.value
_OBSERVER = codes.DCM.ObserverType.value
_DEVICE_OBSERVER_UID = codes.DCM.DeviceObserverUID.value
_PROCEDURE = codes.DCM.ProcedureReported.value
_GRADES = {grade.value for grade in PFIRRMANN_GRADES.values()}
_LIBRARY = codes.DCM.ImageLibrary.value
_LIBRARY_GROUP = codes.DCM.ImageLibraryGroup.value
_ROWS = codes.DCM.PixelDataRows.value
_COLUMNS = codes.DCM.PixelDataColumns.value
_FRAME_OF_REFERENCE = codes.DCM.FrameOfReferenceUID.value
_MEASUREMENTS = codes.DCM.ImagingMeasurements.value
_GROUP = codes.DCM.MeasurementGroup.value
_TRACKING_ID = codes.DCM.TrackingIdentifier.value
_TRACKING_UID = codes.DCM.TrackingUniqueIdentifier.value
_FINDING = codes.DCM.Finding.value
_SITE = codes.SCT.FindingSite.value
_REGION = codes.DCM.ImageRegion.value
_ALGORITHM = codes.DCM.AlgorithmName.value
_ALGORITHM_VERSION = codes.DCM.AlgorithmVersion.value


def document(dataset: Dataset) -> Problems:
    """A report is complete or partial, preliminary, and not verified by anyone."""
    yield from wrong_values(dataset, _SR_VALUES)
    if dataset.CompletionFlag not in ("COMPLETE", "PARTIAL"):
        yield "CompletionFlag: must be COMPLETE or PARTIAL"


def predecessor(dataset: Dataset) -> Problems:
    """The report that this one replaces is a different one of the same study, in a form that this node writes."""
    for study in dataset.get("PredecessorDocumentsSequence") or []:
        if study.StudyInstanceUID != dataset.StudyInstanceUID:
            yield "PredecessorDocumentsSequence: names another study"
        for series in study.ReferencedSeriesSequence:
            if not series.get("SeriesInstanceUID"):
                yield "PredecessorDocumentsSequence: a series has no UID"
            for named in series.ReferencedSOPSequence:
                if named.ReferencedSOPClassUID not in {kind.sop_class for kind in REPORTS}:
                    yield "PredecessorDocumentsSequence: not a report of this node"
                if named.ReferencedSOPInstanceUID == dataset.SOPInstanceUID:
                    yield "PredecessorDocumentsSequence: names the report itself"


def root(dataset: Dataset) -> Problems:
    """The root follows TID 1500 and has each of its mandatory rows once."""
    if code_of(dataset) != TITLE.value or dataset.ContentTemplateSequence[0].TemplateIdentifier != "1500":
        yield "root: not an Imaging Measurement Report of TID 1500"
    for code, name in (
        (_LANGUAGE, "language"),
        (_OBSERVER, "observer"),
        (_DEVICE_OBSERVER_UID, "device observer"),
        (_PROCEDURE, "procedure reported"),
        (_MEASUREMENTS, "imaging measurements"),
    ):
        if len(children(dataset, code)) != 1:
            yield f"root: not exactly one {name}"


def groups(dataset: Dataset) -> Problems:
    """The groups are the ten levels in reading order, or a refusal about the lumbar spine; tracking UIDs are unique."""
    groups = children(children(dataset, _MEASUREMENTS)[0], _GROUP)
    for group in groups:
        yield from _group(dataset, group)
    tracking = [str(children(g, _TRACKING_UID)[0].UID) for g in groups]
    if len(set(tracking)) != len(tracking):
        yield "groups: tracking UIDs are not unique"
    sites = [value_code(children(g, _SITE)[0]) for g in groups]
    if sites == [LUMBAR_SPINE.value]:
        yield from _refusal(dataset, groups[0])
    else:
        yield from _findings(dataset, groups, sites)


def _group(dataset: Dataset, group: Dataset) -> Problems:
    for code, name in (
        (_TRACKING_ID, "tracking identifier"),
        (_TRACKING_UID, "tracking UID"),
        (_FINDING, "finding"),
        (_SITE, "finding site"),
        (_ALGORITHM, "algorithm name"),
        (_ALGORITHM_VERSION, "algorithm version"),
        (NORMALITY.value, "normality"),
    ):
        if len(children(group, code)) != 1:
            yield f"group: not exactly one {name}"
    if any(value_code(item) not in _GRADES for item in children(group, PFIRRMANN.value)):
        yield "group: the Pfirrmann grade is none of 1 to 5"
    equipment = dataset.ContributingEquipmentSequence[0]
    algorithm = (children(group, _ALGORITHM)[0].TextValue, children(group, _ALGORITHM_VERSION)[0].TextValue)
    if algorithm != (equipment.ManufacturerModelName, equipment.SoftwareVersions):
        yield "group: algorithm differs from contributing equipment"


def _refusal(dataset: Dataset, group: Dataset) -> Problems:
    if any(item.get("ValueType") in ("SCOORD", "SCOORD3D", "NUM") for item in tree(group)):
        yield "refusal: carries points or numbers"
    if value_code(children(group, _FINDING)[0]) != UNDETERMINED.value:
        yield "refusal: finding is not undetermined"
    if not any("Not analysable [" in text for text in texts(dataset)):
        yield "refusal: the reason is not stated"


def _findings(dataset: Dataset, groups: list[Dataset], sites: list[str]) -> Problems:
    if sites != [site.value for site in SITES_IN_READING_ORDER]:
        yield f"groups: {len(groups)} groups are neither the ten levels in reading order nor a refusal"
    images = _library_images(dataset)
    for group in groups:
        yield from _point(dataset, group, images)
        yield from _numbers(group)
    places = {_place(children(group, _REGION)[0]) for group in groups}
    if len(places) != 1:
        yield "groups: points lie on different images"


def _place(region: Dataset) -> tuple[str, Any]:
    """What a point's coordinates refer to: an image and its frame, or a frame of reference."""
    if region.ValueType == "SCOORD3D":
        return str(region.ReferencedFrameOfReferenceUID), None
    image = reference(region.ContentSequence[0])
    return str(image.ReferencedSOPInstanceUID), image.get("ReferencedFrameNumber")


def _library_images(dataset: Dataset) -> list[Dataset]:
    return [
        image
        for library in children(dataset, _LIBRARY)
        for group in children(library, _LIBRARY_GROUP)
        for image in group.ContentSequence
    ]


def _point(dataset: Dataset, group: Dataset, images: list[Dataset]) -> Problems:
    regions = [item for item in group.ContentSequence if item.get("ValueType") in ("SCOORD", "SCOORD3D")]
    if len(regions) != 1 or regions[0].GraphicType != "POINT":
        yield "group: not exactly one point"
    elif regions[0].ValueType == "SCOORD3D":
        yield from _point_in_space(dataset, regions[0], images)
    else:
        yield from _point_on_image(regions[0], images)


def _point_on_image(region: Dataset, images: list[Dataset]) -> Problems:
    if len(region.GraphicData) != 2:
        yield "group: the point has not two coordinates"
        return
    if [child.ValueType for child in region.ContentSequence] != ["IMAGE"]:
        yield "group: the point does not name exactly one image"
        return
    place = _place(region)[0]
    found = [image for image in images if str(reference(image).ReferencedSOPInstanceUID) == place]
    if not found:
        yield "group: the point's image is not in the image library"
        return
    size = [number(children(found[0], code)[0]) for code in (_COLUMNS, _ROWS)]
    if not all(0 <= float(v) <= limit for v, limit in zip(region.GraphicData, size, strict=True)):
        yield "group: the point lies outside its image"


def _point_in_space(dataset: Dataset, region: Dataset, images: list[Dataset]) -> Problems:
    if dataset.SOPClassUID != REPORT.sop_class:
        yield "group: this SOP class holds no point in space"
    if len(region.GraphicData) != 3 or not all(math.isfinite(float(v)) for v in region.GraphicData):
        yield "group: the point has not three coordinates"
    frames = {str(item.UID) for image in images for item in children(image, _FRAME_OF_REFERENCE)}
    if _place(region)[0] not in frames:
        yield "group: the point counts in a frame of reference of no image in the image library"


def _numbers(group: Dataset) -> Problems:
    numbers = {code_of(item): number(item) for item in group.ContentSequence if item.ValueType == "NUM"}
    if any(not 0 <= value <= 100 for value in numbers.values()):
        yield "group: a percentage lies outside 0 to 100"
    probability = numbers.get(PROBABILITY.value)
    if probability is None:
        yield "group: no probability"
        return
    normality, finding = (value_code(children(group, code)[0]) for code in (NORMALITY.value, _FINDING))
    likelier = ABNORMAL if probability >= 50 else NORMAL
    # An abnormal structure may be named by the site's own code.
    named = normality == ABNORMAL.value and finding not in (NORMAL.value, UNDETERMINED.value)
    if normality not in (likelier.value, UNDETERMINED.value) or not (finding == normality or named):
        yield "group: finding, normality and probability contradict each other"


RULES = ObjectRules(type_1=_TYPE_1, type_2=_TYPE_2, rules=(document, evidence, predecessor, root, groups, words))
