"""The modules that all result objects share: patient and study as in the source, our equipment, UIDs and dates.

Patient and study values are copied as bytes with the source's Specific Character Set, so that a name in any script
survives exactly. A value that breaks its VR (PS3.5 6.2) is not repeated, except the patient's identity and the UIDs:
a name that is too long is cut, and everything else stays as it is, so that the gate refuses the object. `departures`
says in words what was cut or left out, and `unwritable` why a patient cannot stand in a result at all.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pydicom
from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import PN_DELIMS, validate_value

from dicom_node.dicom.identifiers import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MANUFACTURER,
    MODEL_NAME,
    SOFTWARE_VERSION,
    ResultKey,
    model_device_uid,
)
from dicom_node.results.kinds import ObjectKind
from dicom_node.results.person_name import is_too_long, shortened
from spineone_core.findings import RESEARCH_USE, ModelIdentity

# Type 1 or 2 in Patient and General Study (PS3.3 C.7.1.1, C.7.2.1): always present, but empty if the source has no
# value.
REQUIRED = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
)
_IDENTITY = ("PatientName", "PatientID", "StudyInstanceUID")
# Identifiers by which others file a result: they are never cut, and never missing without a word.
_IDENTIFIERS = {
    "AccessionNumber": "Accession Number",
    "StudyID": "Study ID",
    "IssuerOfPatientID": "Issuer of Patient ID",
}
_REPLACEMENT = "\ufffd"
_OPTIONAL = (
    "TimezoneOffsetFromUTC",
    "StudyDescription",
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
)
_ALLOWED_VALUES = {"PatientSex": {"M", "F", "O"}, "PatientIdentityRemoved": {"YES", "NO"}}

# Spellings seen in the field for defined terms of PS3.3 C.12.1.1.2.
_CHARACTER_SETS = {"UTF-8": "ISO_IR 192", "UTF8": "ISO_IR 192"}
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


def start_result(
    header: Dataset, kind: ObjectKind, *, key: ResultKey, created: datetime, supersedes: str = ""
) -> Dataset:
    """A new object of the study to which ``header`` (any instance of it) belongs.

    ``created`` is written as it stands (the site's local time). If the source states its offset from UTC and
    ``created`` is timezone-aware, it is converted, because one offset holds for all times of an object (PS3.3
    C.12.1.1.8). An object that supersedes an earlier one, named by its SOP Instance UID, has another UID than one that
    does not.
    """
    name = f"{kind.uid_name} after {supersedes}" if supersedes else kind.uid_name
    result = Dataset()
    copy_patient_and_study(header, result)
    moment = _in_zone(created, str(result.get("TimezoneOffsetFromUTC", "") or ""))
    result.SOPClassUID = kind.sop_class
    result.SOPInstanceUID = key.uid(name)
    result.InstanceCreationDate = result.SeriesDate = result.ContentDate = f"{moment:%Y%m%d}"
    result.InstanceCreationTime = result.SeriesTime = result.ContentTime = f"{moment:%H%M%S}"
    result.Modality = kind.series.modality
    result.SeriesInstanceUID = key.uid(kind.series.uid_name)
    result.SeriesNumber = kind.series.number
    result.SeriesDescription = kind.series.description
    result.InstanceNumber = kind.instance_number
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = MODEL_NAME
    result.SoftwareVersions = SOFTWARE_VERSION
    result.file_meta = _file_meta(result.SOPClassUID, result.SOPInstanceUID)
    result.preamble = b"\0" * 128
    return result


def _file_meta(sop_class_uid: str, sop_instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _in_zone(created: datetime, offset: str) -> datetime:
    if created.tzinfo is None or not offset:
        return created
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return created.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))


def processing_equipment(model: ModelIdentity, created: datetime) -> Dataset:
    """The Contributing Equipment item (PS3.3 C.12.1) of the analysing algorithm.

    It equals the report's TID 4019 rows.
    """
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([code_item(codes.DCM.ProcessingEquipment)])
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = plain(model.name, 64)
    item.SoftwareVersions = plain(model.version, 64)
    item.DeviceUID = model_device_uid(model.digest)
    item.ContributionDateTime = f"{created:%Y%m%d%H%M%S%z}"
    item.ContributionDescription = f"Model package SHA-256 {model.digest}. {RESEARCH_USE}"
    return item


def code_item(code: Code) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def to_bytes(dataset: Dataset) -> bytes:
    """The object as a PS3.10 file."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def settled(dataset: Dataset) -> Dataset:
    """The object as a reader of its file sees it: plain data sets, without traces of the library that built it."""
    return pydicom.dcmread(BytesIO(to_bytes(dataset)))


def plain(text: str, limit: int = 1024) -> str:
    """Text that fits every Specific Character Set: printable ASCII without backslash, cut to ``limit`` characters."""
    decomposed = unicodedata.normalize("NFKD", text).replace("\\", "/")
    ascii_only = "".join(c for c in decomposed if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    printable = "".join(c if " " <= c <= "~" else " " for c in ascii_only)
    return printable[:limit].strip()


# ---------------------------------------------------------------- patient and study


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Copy character set, patient and study. Absent type 2 attributes become empty, never invented."""
    terms = character_set(source)
    if terms:
        target.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    # pydicom writes raw values as they are only if it knows that they are in the target's own character set.
    target.set_original_encoding(False, True, convert_encodings(terms or [""]))
    for keyword in _IDENTITY:
        _copy(source, target, keyword, required=True, checked=False)
    if name := _cut_name(source):
        target.PatientName = name
    for keyword in REQUIRED:
        _copy(source, target, keyword, required=True, checked=True)
    for keyword in _OPTIONAL:
        _copy(source, target, keyword, required=False, checked=True)
    _settle_deidentification(target)


def departures(source: Dataset) -> tuple[str, ...]:
    """In words, without any value: which identifiers of the source a result cannot repeat as they are."""
    said = []
    if _cut_name(source):
        said.append("the patient's name has more than the 64 characters that a name may have; it is cut")
    for keyword, name in _IDENTIFIERS.items():
        if not _fits(source, keyword):
            where = (
                "; the report's content has it whole"
                if keyword == "AccessionNumber" and unfit_accession(source)
                else ""
            )
            said.append(f"the {name} of the images does not fit its attribute, which is left empty{where}")
    return tuple(said)


def unfit_accession(source: Dataset) -> str:
    """The whole Accession Number where the attribute cannot hold it (more than 16 characters, a backslash).

    It is empty if the attribute holds it, or if it is no text that the source's character set can write.
    """
    text = _whole(source, "AccessionNumber")
    if not text or _fits(source, "AccessionNumber"):
        return ""
    return text if _can_be_written(source, text, "UT") else ""


def unwritable(source: Dataset) -> str:
    """Why the patient of a source cannot stand in a result, without any value; empty if it can."""
    for keyword in ("PatientID", "PatientName"):
        text = _whole(source, keyword)
        if "\\" in text:
            return f"{keyword} has a backslash, which separates two values"
        if keyword == "PatientName":
            text = _cut_name(source) or text
        if not _is_valid(text, keyword, dictionary_VR(keyword)):
            return f"{keyword} does not conform to VR {dictionary_VR(keyword)}"
    return ""


def _cut_name(source: Dataset) -> str:
    """The patient's name cut to what the attribute can hold; empty if it need not or cannot be cut."""
    text = _whole(source, "PatientName")
    if not is_too_long(text):
        return ""
    name = shortened(text)
    return name if _can_be_written(source, name, "PN") else ""


def _fits(source: Dataset, keyword: str) -> bool:
    tag = Tag(keyword)
    return tag not in source or _is_valid(_decoded(source, _view(source), tag), keyword, dictionary_VR(keyword))


def _view(source: Dataset) -> Dataset:
    """An empty data set in the character set of a source."""
    view = Dataset()
    view.set_original_encoding(False, True, convert_encodings(character_set(source) or [""]))
    return view


def _whole(source: Dataset, keyword: str) -> str:
    """The text of an attribute as one value; a byte of a Japanese or Chinese character may look like a backslash."""
    raw = source.get_item(keyword) if keyword in source else None
    if raw is None:
        return ""
    if isinstance(raw, RawDataElement):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encodings = convert_encodings(character_set(source) or [""])
            return decode_bytes(raw.value or b"", encodings, PN_DELIMS).strip(" \0")
    value = source[keyword].value
    values = value if isinstance(value, MultiValue | list) else [value]
    return "\\".join("" if v is None else str(v) for v in values).strip(" \0")


def _can_be_written(source: Dataset, text: str, vr: str) -> bool:
    """Whether a text was decoded without loss, and the source's character set can write it."""
    charset = character_set(source)
    if _REPLACEMENT in text or has_control_characters(text) or not (charset or text.isascii()):
        return False
    written = Dataset()
    written.SpecificCharacterSet = charset
    keyword = "PatientName" if vr == "PN" else "TextValue"
    setattr(written, keyword, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, written)
        buffer.seek(0)
        return str(read_dataset(buffer, False, True).get(keyword)) == text


def character_set(source: Dataset) -> list[str]:
    """The defined terms of the source's Specific Character Set; empty if absent or unknown (its bytes stay anyway)."""
    value = source.get("SpecificCharacterSet")
    terms = [value] if isinstance(value, str) else list(value or [])
    mended = [_character_set_term(str(term or "")) for term in terms]
    known = all(term in python_encoding for term in mended)
    return mended if known and any(mended) else []


def _character_set_term(term: str) -> str:
    term = term.strip().upper()
    mended = re.sub(r"^ISO[ _-]?(2022[ _-])?IR[ _-]?", lambda m: "ISO 2022 IR " if m[1] else "ISO_IR ", term)
    return _CHARACTER_SETS.get(mended, mended)


def _copy(source: Dataset, target: Dataset, keyword: str, *, required: bool, checked: bool) -> None:
    tag, vr = Tag(tag_for_keyword(keyword) or 0), dictionary_VR(keyword)
    raw = source.get_item(tag) if tag in source else None
    if raw is None or (checked and not _is_valid(_decoded(source, target, tag), keyword, vr)):
        if required:
            setattr(target, keyword, None if vr == "PN" else "")
        return
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        value = _padded(raw.value, vr)
        target[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True, True)
    else:
        setattr(target, keyword, source[tag].value)


def _padded(value: bytes, vr: str) -> bytes:
    """The value padded to even length as its VR demands: null for UIDs, space for text (PS3.5 6.2)."""
    if vr == "UI":
        value = value.strip(b"\0 ")
        return value + b"\0" * (len(value) % 2)
    value = value.rstrip(b"\0")
    return value + b" " * (len(value) % 2)


def _decoded(source: Dataset, target: Dataset, tag: BaseTag) -> Any:
    """The source's value in the target's character set; None if it cannot be decoded. The source is not changed."""
    view = Dataset()
    view.set_original_encoding(False, True, target.original_character_set)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            view[tag] = source.get_item(tag)
            return view[tag].value
        except Exception:  # pydicom raises many types on hostile values
            return None


def _is_valid(value: Any, keyword: str, vr: str) -> bool:
    if value is None or isinstance(value, MultiValue | list):
        return False
    text = str(value)
    try:
        validate_value(vr, text, RAISE)
    except ValueError:
        return False
    if keyword == "TimezoneOffsetFromUTC":
        return _OFFSET.fullmatch(text) is not None
    allowed = _ALLOWED_VALUES.get(keyword)
    return not has_control_characters(text) and "\\" not in text and (not allowed or not text or text in allowed)


def has_control_characters(text: str) -> bool:
    """Whether a text has characters that no single-line text VR allows (PS3.5 6.1.3).

    ESC belongs to code extensions.
    """
    return any(c < " " and c != "\x1b" for c in text)


def _settle_deidentification(target: Dataset) -> None:
    """Drop Patient Identity Removed = YES if the source gives no method, which it demands (PS3.3 C.7.1.1, type 1C)."""
    if target.get("PatientIdentityRemoved") == "YES" and not target.get("DeidentificationMethod"):
        del target.PatientIdentityRemoved
