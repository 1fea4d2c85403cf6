"""The check before anything is sent: a result that fails here never reaches a PACS.

It reads the object as its receiver will, from its bytes, and knows only what the standard and our templates demand. Messages
name attributes and rules, never values of patient attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from dicom_node.results import key_object, overlay, presentation, report
from dicom_node.results.envelope import RESEARCH_USE, has_control_characters, settled

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_STRICT_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_OWN_ROOT = "2.25."
_TEXT_VR = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR"})

_TYPE_1 = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SeriesDescription",
    "ContributingEquipmentSequence",
)
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_SR_TYPE_1 = (
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
_SR_TYPE_2 = ("ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence")
_SC_TYPE_1 = (
    "ContentDate",
    "ContentTime",
    "ConversionType",
    "ImageType",
    "DerivationDescription",
    "SourceImageSequence",
    "BurnedInAnnotation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelData",
)
_PR_TYPE_1 = (
    "PresentationCreationDate",
    "PresentationCreationTime",
    "ContentLabel",
    "ReferencedSeriesSequence",
    "DisplayedAreaSelectionSequence",
    "GraphicAnnotationSequence",
    "GraphicLayerSequence",
    "SoftcopyVOILUTSequence",
    "PresentationLUTShape",
)
_PR_TYPE_2 = ("ContentDescription", "ContentCreatorName")
_KO_TYPE_1 = (
    "ContentDate",
    "ContentTime",
    "CurrentRequestedProcedureEvidenceSequence",
    "ValueType",
    "ContinuityOfContent",
    "ConceptNameCodeSequence",
    "ContentTemplateSequence",
    "ContentSequence",
)
_KO_TYPE_2 = ("ReferencedPerformedProcedureStepSequence",)
_SC_VALUES = {
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "PlanarConfiguration": 0,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "PixelRepresentation": 0,
    "BurnedInAnnotation": "YES",
    "Modality": "OT",
}
_SR_VALUES = {
    "Modality": "SR",
    "VerificationFlag": "UNVERIFIED",
    "PreliminaryFlag": "PRELIMINARY",
    "ValueType": "CONTAINER",
    "ContinuityOfContent": "SEPARATE",
}

# Attributes of type 1 and 2 by SOP class, beside those of every object.
_TYPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(report.FORMS, (_SR_TYPE_1, _SR_TYPE_2)),
    overlay.SOP_CLASS: (_SC_TYPE_1, ()),
    presentation.SOP_CLASS: (_PR_TYPE_1, _PR_TYPE_2),
    key_object.SOP_CLASS: (_KO_TYPE_1, _KO_TYPE_2),
}

# Concept codes of the template, value alone: within one container they are unambiguous.
_LANGUAGE, _OBSERVER, _DEVICE_OBSERVER_UID, _PROCEDURE = "121049", "121005", "121012", "121058"
_LIBRARY, _LIBRARY_GROUP, _ROWS, _COLUMNS = "111028", "126200", "110910", "110911"
_FRAME_OF_REFERENCE = "112227"
_MEASUREMENTS, _GROUP, _TRACKING_ID, _TRACKING_UID = "126010", "125007", "112039", "112040"
_FINDING, _SITE, _REGION, _ALGORITHM, _ALGORITHM_VERSION = "121071", "363698007", "111030", "111001", "111003"

# Values of attributes that stand inside sequences, and of those that are copied from the source.
_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "RelationshipType": {
        "CONTAINS",
        "HAS ACQ CONTEXT",
        "HAS CONCEPT MOD",
        "HAS OBS CONTEXT",
        "HAS PROPERTIES",
        "INFERRED FROM",
        "SELECTED FROM",
    },
    "ContinuityOfContent": {"SEPARATE"},
    "MappingResource": {"DCMR"},
    "ConversionType": {"SYN"},
    "LossyImageCompression": {"00"},
    "GraphicType": {"POINT", "CIRCLE"},
    "GraphicAnnotationUnits": {"PIXEL"},
    "GraphicFilled": {"N"},
    "AnchorPointAnnotationUnits": {"PIXEL"},
    "AnchorPointVisibility": {"Y"},
    "BoundingBoxAnnotationUnits": {"PIXEL", "DISPLAY"},
    "BoundingBoxTextHorizontalJustification": {"LEFT", "RIGHT"},
    "PresentationSizeMode": {"SCALE TO FIT"},
    "RescaleType": {"US"},
    "VOILUTFunction": {"LINEAR_EXACT"},
}
# What an item of these sequences must say; any other code sequence as the first.
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
_ITEMS: dict[str, tuple[str, ...]] = {
    "ReferencedSOPSequence": _REFERENCE,
    "ReferencedImageSequence": _REFERENCE,
    "SourceImageSequence": _REFERENCE,
    "CurrentRequestedProcedureEvidenceSequence": ("StudyInstanceUID", "ReferencedSeriesSequence"),
    "PredecessorDocumentsSequence": ("StudyInstanceUID", "ReferencedSeriesSequence"),
    "ReferencedSeriesSequence": ("SeriesInstanceUID",),
    "CodingSchemeIdentificationSequence": ("CodingSchemeDesignator",),
    "ContentTemplateSequence": ("MappingResource", "TemplateIdentifier"),
    "ContentSequence": ("RelationshipType", "ValueType"),
    "MeasuredValueSequence": ("NumericValue", "MeasurementUnitsCodeSequence"),
    "DisplayedAreaSelectionSequence": (
        "DisplayedAreaTopLeftHandCorner",
        "DisplayedAreaBottomRightHandCorner",
        "PresentationSizeMode",
        "PresentationPixelSpacing",
    ),
    "SoftcopyVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "GraphicLayerSequence": ("GraphicLayer", "GraphicLayerOrder"),
    "GraphicAnnotationSequence": ("GraphicLayer", "ReferencedImageSequence", "TextObjectSequence"),
    "GraphicObjectSequence": (
        "GraphicAnnotationUnits",
        "GraphicDimensions",
        "NumberOfGraphicPoints",
        "GraphicData",
        "GraphicType",
    ),
    "TextObjectSequence": (
        "UnformattedTextValue",
        "BoundingBoxAnnotationUnits",
        "BoundingBoxTopLeftHandCorner",
        "BoundingBoxBottomRightHandCorner",
        "BoundingBoxTextHorizontalJustification",
    ),
}
_MAY_BE_EMPTY = frozenset({"PerformedProcedureCodeSequence"})
# What a content item must have besides, by its value type (PS3.3 C.17.3).
_VALUE_OF = {
    "CODE": ("ConceptNameCodeSequence", "ConceptCodeSequence"),
    "CONTAINER": ("ConceptNameCodeSequence", "ContinuityOfContent"),
    "IMAGE": ("ReferencedSOPSequence",),
    "NUM": ("ConceptNameCodeSequence", "MeasuredValueSequence"),
    "SCOORD": ("GraphicData", "GraphicType", "ContentSequence"),
    "SCOORD3D": ("GraphicData", "GraphicType", "ReferencedFrameOfReferenceUID"),
    "TEXT": ("ConceptNameCodeSequence", "TextValue"),
    "UIDREF": ("ConceptNameCodeSequence", "UID"),
}

Problems = Iterator[str]


def check(dataset: Dataset) -> list[str]:
    """Everything that is wrong with a result; empty if it may be sent. Never raises on what an object contains."""
    try:
        read = settled(dataset)
    except Exception as error:  # an object that cannot be written can fail in any way
        return [f"cannot be written and read back: {type(error).__name__}"]
    problems: list[str] = []
    for rule in _rules(str(read.get("SOPClassUID", ""))):
        try:
            problems += rule(read)
        except Exception as error:  # a broken structure is itself the finding
            problems.append(f"{rule.__name__.strip('_')}: structure is broken ({type(error).__name__})")
    return problems


def _rules(sop_class: str) -> list[Callable[[Dataset], Problems]]:
    common: list[Callable[[Dataset], Problems]] = [
        _class,
        _file_meta,
        _presence,
        _uids,
        _values,
        _terms,
        _sequences,
        _dates,
        _equipment,
    ]
    if sop_class in report.FORMS:
        return [*common, _document, _evidence, _predecessor, _root, _groups, _words]
    if sop_class == overlay.SOP_CLASS:
        return [*common, _body_part, _picture, _source]
    if sop_class == presentation.SOP_CLASS:
        return [*common, _body_part, _presented_image, _annotations, _notes]
    if sop_class == key_object.SOP_CLASS:
        return [*common, _evidence, _key_image, _words]
    return common


# ---------------------------------------------------------------- every object


def _class(dataset: Dataset) -> Problems:
    if dataset.get("SOPClassUID") not in _TYPES:
        yield "SOPClassUID: not a class that this node writes"


def _file_meta(dataset: Dataset) -> Problems:
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "file meta: MediaStorageSOPClassUID differs from SOPClassUID"
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "file meta: MediaStorageSOPInstanceUID differs from SOPInstanceUID"
    if not str(meta.get("ImplementationClassUID", "")).startswith(_OWN_ROOT):
        yield "file meta: ImplementationClassUID is not ours"


def _presence(dataset: Dataset) -> Problems:
    type_1, type_2 = _TYPES.get(str(dataset.get("SOPClassUID", "")), ((), ()))
    for keyword in (*_TYPE_1, *type_1):
        if keyword not in dataset or dataset[keyword].is_empty:
            yield f"{keyword}: missing or empty (type 1)"
    for keyword in (*_TYPE_2, *type_2):
        if keyword not in dataset:
            yield f"{keyword}: missing (type 2)"


def _uids(dataset: Dataset) -> Problems:
    """Own UIDs strictly by PS3.5 9.1; UIDs of others may have leading zeros, for real devices write them."""
    for element in _elements(dataset):
        if element.VR == "UI" and not element.is_empty:
            for uid in element.value if element.VM > 1 else [element.value]:
                if len(uid) > 64 or not _UID.fullmatch(uid):
                    yield f"{element.keyword}: not a valid UID"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uid = str(dataset.get(keyword, ""))
        if not (uid.startswith(_OWN_ROOT) and _STRICT_UID.fullmatch(uid)):
            yield f"{keyword}: not derived by this node"


def _values(dataset: Dataset) -> Problems:
    for element in _elements(dataset):
        if element.VR not in _TEXT_VR or element.is_empty:
            continue
        for value in element.value if element.VM > 1 else [element.value]:
            if not _conforms(element.VR, str(value)):
                yield f"{element.keyword}: value does not conform to VR {element.VR}"


def _conforms(vr: str, value: str) -> bool:
    try:
        validate_value(vr, value, RAISE)
    except ValueError:
        return False
    return vr in ("LT", "ST") or not has_control_characters(value)


def _body_part(dataset: Dataset) -> Problems:
    """Laterality (type 2C) is wanted wherever the body part is not known to be unpaired (PS3.3 C.7.3.1)."""
    if dataset.get("BodyPartExamined") != "LSPINE" and "Laterality" not in dataset:
        yield "BodyPartExamined: neither LSPINE nor with a Laterality"


def _terms(dataset: Dataset) -> Problems:
    for element in _elements(dataset):
        allowed = _ENUMERATED.get(element.keyword)
        if allowed and not element.is_empty and element.value not in allowed:
            yield f"{element.keyword}: not one of its terms"
    if "SpecificCharacterSet" in dataset:
        terms = dataset.SpecificCharacterSet or ["none"]
        if not all(term in python_encoding for term in ([terms] if isinstance(terms, str) else terms)):
            yield "SpecificCharacterSet: not a defined term"
    for letters in dataset.get("PatientOrientation") or []:
        if not set(letters) <= set("LRPAHF"):
            yield "PatientOrientation: not letters of patient directions"


def _sequences(dataset: Dataset) -> Problems:
    """Items hold what they must; a sequence that is there for their sake is not empty."""
    for element in _elements(dataset):
        if element.VR != "SQ":
            continue
        wanted = _ITEMS.get(element.keyword, _CODE if element.keyword.endswith("CodeSequence") else ())
        if wanted and not element.value and element.keyword not in _MAY_BE_EMPTY:
            yield f"{element.keyword}: has no item"
        for item in element.value:
            yield from _item(element.keyword, item, wanted)


def _item(sequence: str, item: Dataset, wanted: tuple[str, ...]) -> Problems:
    if sequence == "ContentSequence":
        kind = item.get("ValueType")
        if kind not in _VALUE_OF:
            yield "ContentSequence: ValueType is none that this node writes"
        wanted = (*wanted, *_VALUE_OF.get(kind, ()))
    if "AnchorPoint" in item:
        wanted = (*wanted, "AnchorPointAnnotationUnits", "AnchorPointVisibility")
    if item.get("GraphicType") == "CIRCLE":
        wanted = (*wanted, "GraphicFilled")
    if "FloatingPointValue" in item:
        wanted = (*wanted, "FloatingPointValue")
    for keyword in wanted:
        if keyword not in item or item[keyword].is_empty:
            yield f"{sequence}: {keyword} missing or empty"


def _dates(dataset: Dataset) -> Problems:
    for keyword in (
        "StudyDate",
        "SeriesDate",
        "ContentDate",
        "InstanceCreationDate",
        "PatientBirthDate",
        "PresentationCreationDate",
    ):
        value = str(dataset.get(keyword) or "")
        if value and not _is_date(value):
            yield f"{keyword}: not a date"


def _is_date(value: str) -> bool:
    try:
        datetime.strptime(value, "%Y%m%d")  # noqa: DTZ007 (a date has no zone)
    except ValueError:
        return False
    return True


def _equipment(dataset: Dataset) -> Problems:
    items = [
        i
        for i in dataset.get("ContributingEquipmentSequence") or []
        if _code_of(i, "PurposeOfReferenceCodeSequence") == "109102"
    ]
    if len(items) != 1:
        yield "ContributingEquipmentSequence: not exactly one processing equipment (109102)"
        return
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
        if not items[0].get(keyword):
            yield f"ContributingEquipmentSequence: {keyword} missing or empty"


def _elements(dataset: Dataset) -> Iterator[Any]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _wrong_values(dataset: Dataset, wanted: dict[str, Any]) -> Problems:
    for keyword, value in wanted.items():
        if dataset.get(keyword) != value:
            yield f"{keyword}: must be {value}"


# ---------------------------------------------------------------- secondary capture


def _picture(dataset: Dataset) -> Problems:
    yield from _wrong_values(dataset, _SC_VALUES)
    expected = int(dataset.Rows) * int(dataset.Columns) * 3
    if len(dataset.PixelData) != expected + expected % 2:
        yield "PixelData: length does not match Rows and Columns"
    spacing = [float(v) for v in dataset.get("PixelSpacing") or []]
    # Nothing can be measured on a table; it says so by having no orientation either.
    if (dataset.PatientOrientation or spacing) and (len(spacing) != 2 or min(spacing) <= 0):
        yield "PixelSpacing: not two positive numbers"
    if list(dataset.ImageType)[:1] != ["DERIVED"]:
        yield "ImageType: a picture made by software is DERIVED"


def _source(dataset: Dataset) -> Problems:
    for item in dataset.SourceImageSequence:
        if not (item.get("ReferencedSOPClassUID") and item.get("ReferencedSOPInstanceUID")):
            yield "SourceImageSequence: reference is incomplete"
    if RESEARCH_USE not in str(dataset.DerivationDescription):
        yield "DerivationDescription: does not say that this is for research use only"


# ---------------------------------------------------------------- presentation state


def _presented_image(dataset: Dataset) -> Problems:
    """One image of one series, and everything is about it."""
    yield from _wrong_values(dataset, {"Modality": "PR"})
    if dataset.PresentationLUTShape not in ("IDENTITY", "INVERSE"):
        yield "PresentationLUTShape: must be IDENTITY or INVERSE"
    images = [i for series in dataset.ReferencedSeriesSequence for i in series.ReferencedImageSequence]
    if len(images) != 1 or not all(series.get("SeriesInstanceUID") for series in dataset.ReferencedSeriesSequence):
        yield "ReferencedSeriesSequence: not exactly one image of one series"
        return
    if not (images[0].get("ReferencedSOPClassUID") and images[0].get("ReferencedSOPInstanceUID")):
        yield "ReferencedSeriesSequence: reference is incomplete"
    for annotation in dataset.GraphicAnnotationSequence:
        if [i for i in annotation.ReferencedImageSequence if i != images[0]]:
            yield "GraphicAnnotationSequence: is about another image"


def _annotations(dataset: Dataset) -> Problems:
    area = dataset.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner
    graphics = [g for a in dataset.GraphicAnnotationSequence for g in a.get("GraphicObjectSequence") or []]
    texts = [t for a in dataset.GraphicAnnotationSequence for t in a.get("TextObjectSequence") or []]
    points = [tuple(g.GraphicData) for g in graphics if g.GraphicType == "POINT"]
    anchors = [tuple(t.AnchorPoint) for t in texts if "AnchorPoint" in t]
    if len(points) != len(report.SITES_IN_READING_ORDER) or sorted(points) != sorted(anchors):
        yield "GraphicAnnotationSequence: not one labelled point for each of the ten levels"
    for graphic in graphics:
        if not all(0 <= float(v) <= area[i % 2] for i, v in enumerate(graphic.GraphicData)):
            yield "GraphicAnnotationSequence: a graphic lies outside its image"
    layers = {layer.GraphicLayer for layer in dataset.GraphicLayerSequence}
    if layers != {annotation.GraphicLayer for annotation in dataset.GraphicAnnotationSequence}:
        yield "GraphicLayerSequence: layers and annotations differ"


def _notes(dataset: Dataset) -> Problems:
    texts = [
        t.UnformattedTextValue for a in dataset.GraphicAnnotationSequence for t in a.get("TextObjectSequence") or []
    ]
    if not any(RESEARCH_USE in str(text) for text in texts):
        yield "GraphicAnnotationSequence: does not say that this is for research use only"


# ---------------------------------------------------------------- key object selection


def _key_image(dataset: Dataset) -> Problems:
    yield from _wrong_values(dataset, {"Modality": "KO", "ValueType": "CONTAINER"})
    template = dataset.ContentTemplateSequence[0].TemplateIdentifier
    if _code_of(dataset) != key_object.TITLE.value or template != "2010":
        yield "root: not a key object selection of TID 2010"
    if len([item for item in dataset.ContentSequence if item.ValueType == "IMAGE"]) != 1:
        yield "content: not exactly one image"


# ---------------------------------------------------------------- structured report


def _document(dataset: Dataset) -> Problems:
    yield from _wrong_values(dataset, _SR_VALUES)
    if dataset.CompletionFlag not in ("COMPLETE", "PARTIAL"):
        yield "CompletionFlag: must be COMPLETE or PARTIAL"


def _evidence(dataset: Dataset) -> Problems:
    for study in dataset.CurrentRequestedProcedureEvidenceSequence:
        if study.StudyInstanceUID != dataset.StudyInstanceUID:
            yield "CurrentRequestedProcedureEvidenceSequence: names another study"
        if not all(series.get("SeriesInstanceUID") for series in study.ReferencedSeriesSequence):
            yield "CurrentRequestedProcedureEvidenceSequence: a series has no UID"
    listed = _evidence_uids(dataset)
    for item in _tree(dataset):
        if item.get("ValueType") == "IMAGE" and _reference(item).ReferencedSOPInstanceUID not in listed:
            yield "content refers to an image that is not listed as evidence"


def _predecessor(dataset: Dataset) -> Problems:
    for study in dataset.get("PredecessorDocumentsSequence") or []:
        if study.StudyInstanceUID != dataset.StudyInstanceUID:
            yield "PredecessorDocumentsSequence: names another study"
        for series in study.ReferencedSeriesSequence:
            if not series.get("SeriesInstanceUID"):
                yield "PredecessorDocumentsSequence: a series has no UID"
            for reference in series.ReferencedSOPSequence:
                if reference.ReferencedSOPClassUID not in report.FORMS:
                    yield "PredecessorDocumentsSequence: not a report of this node"
                if reference.ReferencedSOPInstanceUID == dataset.SOPInstanceUID:
                    yield "PredecessorDocumentsSequence: names the report itself"


def _evidence_uids(dataset: Dataset) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def _root(dataset: Dataset) -> Problems:
    if _code_of(dataset) != "126000" or dataset.ContentTemplateSequence[0].TemplateIdentifier != "1500":
        yield "root: not an Imaging Measurement Report of TID 1500"
    for code, name in (
        (_LANGUAGE, "language"),
        (_OBSERVER, "observer"),
        (_DEVICE_OBSERVER_UID, "device observer"),
        (_PROCEDURE, "procedure reported"),
        (_MEASUREMENTS, "imaging measurements"),
    ):
        if len(_children(dataset, code)) != 1:
            yield f"root: not exactly one {name}"


def _groups(dataset: Dataset) -> Problems:
    groups = _children(_children(dataset, _MEASUREMENTS)[0], _GROUP)
    for group in groups:
        yield from _group(dataset, group)
    tracking = [str(_children(g, _TRACKING_UID)[0].UID) for g in groups]
    if len(set(tracking)) != len(tracking):
        yield "groups: tracking UIDs are not unique"
    sites = [_value_code(_children(g, _SITE)[0]) for g in groups]
    if sites == [report.LUMBAR_SPINE.value]:
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
        (report.NORMALITY.value, "normality"),
    ):
        if len(_children(group, code)) != 1:
            yield f"group: not exactly one {name}"
    equipment = dataset.ContributingEquipmentSequence[0]
    algorithm = (_children(group, _ALGORITHM)[0].TextValue, _children(group, _ALGORITHM_VERSION)[0].TextValue)
    if algorithm != (equipment.ManufacturerModelName, equipment.SoftwareVersions):
        yield "group: algorithm differs from contributing equipment"


def _refusal(dataset: Dataset, group: Dataset) -> Problems:
    if any(item.get("ValueType") in ("SCOORD", "SCOORD3D", "NUM") for item in _tree(group)):
        yield "refusal: carries points or numbers"
    if _value_code(_children(group, _FINDING)[0]) != report.UNDETERMINED.value:
        yield "refusal: finding is not undetermined"
    if not any("Not analysable [" in text for text in _texts(dataset)):
        yield "refusal: the reason is not stated"


def _findings(dataset: Dataset, groups: list[Dataset], sites: list[str]) -> Problems:
    if sites != [site.value for site in report.SITES_IN_READING_ORDER]:
        yield f"groups: {len(groups)} groups are neither the ten levels in reading order nor a refusal"
    images = _library_images(dataset)
    for group in groups:
        yield from _point(dataset, group, images)
        yield from _numbers(group)
    places = {_place(_children(group, _REGION)[0]) for group in groups}
    if len(places) != 1:
        yield "groups: points lie on different images"


def _place(region: Dataset) -> tuple[str, Any]:
    """The image and its frame, or the frame of reference, that a point counts in."""
    if region.ValueType == "SCOORD3D":
        return str(region.ReferencedFrameOfReferenceUID), None
    reference = _reference(region.ContentSequence[0])
    return str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")


def _library_images(dataset: Dataset) -> list[Dataset]:
    return [
        image
        for library in _children(dataset, _LIBRARY)
        for group in _children(library, _LIBRARY_GROUP)
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
    found = [image for image in images if str(_reference(image).ReferencedSOPInstanceUID) == place]
    if not found:
        yield "group: the point's image is not in the image library"
        return
    size = [_number(_children(found[0], code)[0]) for code in (_COLUMNS, _ROWS)]
    if not all(0 <= float(v) <= limit for v, limit in zip(region.GraphicData, size, strict=True)):
        yield "group: the point lies outside its image"


def _point_in_space(dataset: Dataset, region: Dataset, images: list[Dataset]) -> Problems:
    if dataset.SOPClassUID != report.SOP_CLASS:
        yield "group: this SOP class holds no point in space"
    if len(region.GraphicData) != 3 or not all(math.isfinite(float(v)) for v in region.GraphicData):
        yield "group: the point has not three coordinates"
    frames = {str(item.UID) for image in images for item in _children(image, _FRAME_OF_REFERENCE)}
    if _place(region)[0] not in frames:
        yield "group: the point counts in a frame of reference of no image in the image library"


def _numbers(group: Dataset) -> Problems:
    numbers = {_code_of(item): _number(item) for item in group.ContentSequence if item.ValueType == "NUM"}
    if any(not 0 <= value <= 100 for value in numbers.values()):
        yield "group: a percentage lies outside 0 to 100"
    probability = numbers.get(report.PROBABILITY.value)
    if probability is None:
        yield "group: no probability"
        return
    normality, finding = (_value_code(_children(group, code)[0]) for code in (report.NORMALITY.value, _FINDING))
    likelier = report.ABNORMAL if probability >= 50 else report.NORMAL
    # What is abnormal may be called by the site's own code.
    named = normality == report.ABNORMAL.value and finding not in (report.NORMAL.value, report.UNDETERMINED.value)
    if normality not in (likelier.value, report.UNDETERMINED.value) or not (finding == normality or named):
        yield "group: finding, normality and probability contradict each other"


def _words(dataset: Dataset) -> Problems:
    if not any(RESEARCH_USE in text for text in _texts(dataset)):
        yield "content: does not say that this is for research use only"


# ---------------------------------------------------------------- content tree


def _tree(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or []:
        yield child
        yield from _tree(child)


def _children(item: Dataset, code: str) -> list[Dataset]:
    return [child for child in item.get("ContentSequence") or [] if _code_of(child) == code]


def _code_of(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> str:
    """Code value of the concept name, or of another code sequence; empty where there is none."""
    codes = item.get(keyword)
    return str(codes[0].get("CodeValue", "")) if codes else ""


def _value_code(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeValue)


def _number(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def _reference(item: Dataset) -> Dataset:
    return item.ReferencedSOPSequence[0]


def _texts(dataset: Dataset) -> list[str]:
    return [str(item.get("TextValue", "")) for item in _tree(dataset) if item.get("ValueType") == "TEXT"]
