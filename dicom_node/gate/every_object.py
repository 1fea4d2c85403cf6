"""Rules for every object that leaves the node: file meta, UIDs, values, terms, items of sequences, equipment."""

from __future__ import annotations

import re
from datetime import datetime

from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import validate_value

from dicom_node.gate.content_tree import code_of
from dicom_node.gate.problems import Problems, elements
from dicom_node.results.envelope import has_control_characters

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_STRICT_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_OWN_ROOT = "2.25."
_TEXT_VR = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR"})
# The values that attributes inside sequences, and attributes copied from the source, may have.
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
# What an item of a sequence must hold. Code sequences that are not listed hold a code.
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
# What a content item must hold in addition, by its value type (PS3.3 C.17.3).
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


def file_meta(dataset: Dataset) -> Problems:
    """File Meta Information names the object that follows it, and this node (PS3.10 7.1)."""
    meta = dataset.file_meta
    if meta.get("MediaStorageSOPClassUID") != dataset.get("SOPClassUID"):
        yield "file meta: MediaStorageSOPClassUID differs from SOPClassUID"
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "file meta: MediaStorageSOPInstanceUID differs from SOPInstanceUID"
    if not str(meta.get("ImplementationClassUID", "")).startswith(_OWN_ROOT):
        yield "file meta: ImplementationClassUID is not ours"


def uids(dataset: Dataset) -> Problems:
    """Our own UIDs strictly follow PS3.5 9.1; other UIDs may have leading zeros, since real devices write them."""
    for element in elements(dataset):
        if element.VR == "UI" and not element.is_empty:
            for uid in element.value if element.VM > 1 else [element.value]:
                if len(uid) > 64 or not _UID.fullmatch(uid):
                    yield f"{element.keyword}: not a valid UID"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uid = str(dataset.get(keyword, ""))
        if not (uid.startswith(_OWN_ROOT) and _STRICT_UID.fullmatch(uid)):
            yield f"{keyword}: not derived by this node"


def values(dataset: Dataset) -> Problems:
    """Every text conforms to its VR (PS3.5 6.2), and has control characters only where the VR allows them."""
    for element in elements(dataset):
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


def body_part(dataset: Dataset) -> Problems:
    """Laterality (type 2C) is present unless the body part is known to be unpaired (PS3.3 C.7.3.1)."""
    if dataset.get("BodyPartExamined") != "LSPINE" and "Laterality" not in dataset:
        yield "BodyPartExamined: neither LSPINE nor with a Laterality"


def terms(dataset: Dataset) -> Problems:
    """Attributes with enumerated values have one of the values that this node writes or copies."""
    for element in elements(dataset):
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


def sequences(dataset: Dataset) -> Problems:
    """Items hold what they must, and a sequence that exists for its items is not empty."""
    for element in elements(dataset):
        if element.VR != "SQ":
            continue
        wanted = _ITEMS.get(element.keyword, _CODE if element.keyword.endswith("CodeSequence") else ())
        if wanted and not element.value and element.keyword not in _MAY_BE_EMPTY:
            yield f"{element.keyword}: has no item"
        for item in element.value:
            yield from _item(element.keyword, item, wanted)


def _item(sequence: str, item: Dataset, wanted: tuple[str, ...]) -> Problems:
    # Once for all: a look-up by keyword costs more than to walk the few elements of an item.
    held = {element.keyword: element for element in item}
    if sequence == "ContentSequence":
        kind = str(held["ValueType"].value) if "ValueType" in held else ""
        if kind not in _VALUE_OF:
            yield "ContentSequence: ValueType is none that this node writes"
        wanted = (*wanted, *_VALUE_OF.get(kind, ()))
    if "AnchorPoint" in held:
        wanted = (*wanted, "AnchorPointAnnotationUnits", "AnchorPointVisibility")
    if "GraphicType" in held and held["GraphicType"].value == "CIRCLE":
        wanted = (*wanted, "GraphicFilled")
    if "FloatingPointValue" in held:
        wanted = (*wanted, "FloatingPointValue")
    for keyword in wanted:
        if keyword not in held or held[keyword].is_empty:
            yield f"{sequence}: {keyword} missing or empty"


def dates(dataset: Dataset) -> Problems:
    """Dates are calendar dates or empty."""
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


def equipment(dataset: Dataset) -> Problems:
    """Contributing Equipment lists the analysing algorithm once, with maker, name, version and Device UID."""
    items = [
        i
        for i in dataset.get("ContributingEquipmentSequence") or []
        if code_of(i, "PurposeOfReferenceCodeSequence") == codes.DCM.ProcessingEquipment.value
    ]
    if len(items) != 1:
        yield "ContributingEquipmentSequence: not exactly one processing equipment (109102)"
        return
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
        if not items[0].get(keyword):
            yield f"ContributingEquipmentSequence: {keyword} missing or empty"
