"""De-identifying MR images: Basic Application Level Confidentiality Profile (PS3.15 E.2), by a list of what may stay.

Everything that is not on the list is removed, in every sequence, including private attributes and dates. Keyed hashes
(HMAC-SHA-256) replace UIDs and the patient's identity: they are the same for every image and every export of a site,
and without the key nobody can compute them from a guess. Pixels are decoded and written again, so that nothing is
carried along in unused bits, in comments of codestreams or after the image. The output is then searched for everything
that identified the original; a single hit refuses the image.
"""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOFTWARE_VERSION
from dicom_node.errors import NodeError
from dicom_node.results.envelope import REQUIRED, to_bytes
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import MR_IMAGES
from spineone_core.imaging.pixels import stored_values

KEY_BYTES = 32
_STANDARD_ROOT = "1.2.840.10008."


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Scanner, sequence, geometry and pixels: what training, its splits and its figures by scanner need.
_KEPT = _words(
    """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID ImageType Modality
    Manufacturer ManufacturerModelName MagneticFieldStrength ImagingFrequency ImagedNucleus ResonantNucleus
    BodyPartExamined PatientPosition AnatomicRegionSequence
    ScanningSequence SequenceVariant MRAcquisitionType EchoTime EffectiveEchoTime RepetitionTime InversionTime
    EchoTrainLength EchoNumbers FlipAngle NumberOfAverages PixelBandwidth PercentSampling PercentPhaseFieldOfView
    AcquisitionMatrix InPlanePhaseEncodingDirection AcquisitionContrast ContentQualification VolumetricProperties
    VolumeBasedCalculationTechnique PixelPresentation ComplexImageComponent PresentationLUTShape
    SeriesNumber AcquisitionNumber InstanceNumber
    ImagePositionPatient ImageOrientationPatient SliceLocation SliceThickness SpacingBetweenSlices PixelSpacing
    SamplesPerPixel PhotometricInterpretation Rows Columns NumberOfFrames BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit PixelAspectRatio
    SmallestImagePixelValue LargestImagePixelValue WindowCenter WindowWidth
    RescaleIntercept RescaleSlope RescaleType LossyImageCompression LossyImageCompressionRatio
    LossyImageCompressionMethod
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence FrameContentSequence PlanePositionSequence
    PlaneOrientationSequence PixelMeasuresSequence PixelValueTransformationSequence FrameVOILUTSequence
    MRImageFrameTypeSequence MRTimingAndRelatedParametersSequence MREchoSequence FrameType
    DimensionIndexValues TemporalPositionIndex
    DimensionOrganizationSequence DimensionOrganizationUID DimensionIndexSequence DimensionIndexPointer
    FunctionalGroupPointer
    CodeValue CodingSchemeDesignator CodeMeaning
    """
)
_KEPT_TAGS = frozenset(tag for keyword in _KEPT if (tag := tag_for_keyword(keyword)) is not None)
# Type 2 like `REQUIRED`, but only in the classes that have them: they stay present, but empty.
_EMPTIED_WHERE_PRESENT = ("ScanOptions", "PositionReferenceIndicator")
# Free text among the attributes that stay. It is emptied if it repeats something about the patient, who may be called
# Siemens.
_FREE_TEXT = ("Manufacturer", "ManufacturerModelName")
# Attributes whose whole values point to a person, a visit or a place, besides names, dates and UIDs, which their VR
# tells.
_IDENTIFYING = _words(
    """
    PatientID IssuerOfPatientID OtherPatientIDs PatientAddress PatientTelephoneNumbers PatientTelecomInformation
    PatientComments MedicalRecordLocator MilitaryRank CountryOfResidence RegionOfResidence PatientInsurancePlanCodeSequence
    AccessionNumber StudyID AdmissionID ServiceEpisodeID RequestedProcedureID ScheduledProcedureStepID
    PerformedProcedureStepID PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
    InstitutionName InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber DeviceUID
    OperatorIdentificationSequence PersonAddress PersonTelephoneNumbers ReferringPhysicianAddress
    ReferringPhysicianTelephoneNumbers StudyComments ImageComments AdditionalPatientHistory
    """
)
_TEXT_VR = _words("AE AS CS DA DT LO LT PN SH ST TM UC UI UR UT")
# Shorter values occur everywhere by chance.
_SHORTEST_IN_TEXT, _SHORTEST_IN_BYTES = 4, 6
_WORD = re.compile(r"[^\W_]+")


class IdentifyingError(NodeError):
    """The study cannot be de-identified; none of it was written. The message names the attribute, never its value."""


class Pseudonyms:
    """Keyed hashes that stand for patients and UIDs.

    Parameters
    ----------
    key
        The site's secret. Anyone who has it can find out whose study an exported study is.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes")
        self._key = key

    def patient(self, header: Dataset) -> str:
        """The patient's pseudonym: 16 hex digits from issuer and Patient ID, or from the study if there is no ID."""
        identity = [str(header.get(k) or "").strip() for k in ("IssuerOfPatientID", "PatientID")]
        if not identity[1]:
            identity = ["study", str(header.StudyInstanceUID)]
        return self._hash("patient", *identity).hex()[:16]

    def uid(self, original: str) -> str:
        """The replacement of a UID (PS3.5 B.2); UIDs that the standard defines stay."""
        if original.startswith(_STANDARD_ROOT):
            return original
        return f"2.25.{uuid.UUID(bytes=self._hash('uid', original)[:16], version=4).int}"

    def _hash(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\0".join(parts).encode(), "sha256")


def deidentify(path: Path, pseudonyms: Pseudonyms) -> bytes:
    """The image as a de-identified, uncompressed PS3.10 file.

    Raises
    ------
    IdentifyingError
        If the image may have text burned in, cannot be decoded, or still shows something of the original.
    """
    try:
        original = read_dataset(path, pixels=True)
    except ValueError as error:
        raise IdentifyingError(f"an image cannot be exported: {error}") from None
    _check_class(original)
    image = _kept(original, pseudonyms)
    known = identifiers_of(original)
    for keyword in _FREE_TEXT:
        if keyword in image and _repeated(image[keyword], known):
            image[keyword].value = ""
    _check_texts(known, image)
    image.PatientName = image.PatientID = pseudonyms.patient(original)
    for keyword in REQUIRED:
        setattr(image, keyword, "")
    for keyword in _EMPTIED_WHERE_PRESENT:
        if keyword in original:
            setattr(image, keyword, "")
    image.PatientIdentityRemoved = "YES"
    image.LongitudinalTemporalInformationModified = "REMOVED"
    image.BurnedInAnnotation = "NO"
    image.DeidentificationMethod = f"SpineOne Node {SOFTWARE_VERSION}: listed attributes kept, UIDs hashed"
    image.DeidentificationMethodCodeSequence = Sequence(
        [CodedConcept("113100", "DCM", "Basic Application Confidentiality Profile")]
    )
    _set_pixels(image, original)
    image.file_meta = _file_meta(image)
    written = to_bytes(image)
    check_bytes(known, written)
    return written


def _check_class(original: Dataset) -> None:
    if str(original.get("SOPClassUID")) not in MR_IMAGES:
        raise IdentifyingError("only MR images are exported: other objects may have text burned in")
    if str(original.get("BurnedInAnnotation") or "NO").upper() != "NO":
        raise IdentifyingError("an image has BurnedInAnnotation YES: text is burned into it")
    if "ConversionType" in original:
        raise IdentifyingError("an image is a secondary capture (ConversionType): text may be burned into it")


# ---------------------------------------------------------------- attributes


def _kept(dataset: Dataset, pseudonyms: Pseudonyms) -> Dataset:
    """What may stay from a data set or an item."""
    kept = Dataset()
    for element in _readable(dataset):
        if element.tag not in _KEPT_TAGS:
            continue
        if element.VR == "SQ":
            kept.add_new(element.tag, "SQ", Sequence([_kept(item, pseudonyms) for item in element.value]))
        elif element.VR == "UI":
            kept.add_new(element.tag, "UI", _mapped(element.value, pseudonyms))
        else:
            kept.add_new(element.tag, element.VR, element.value)
    return kept


def _readable(dataset: Dataset) -> Iterator[DataElement]:
    """The elements outside the pixel data whose values can be read; the others are not worth keeping."""
    for tag in list(dataset.keys()):
        if tag.group == 0x7FE0:
            continue
        try:
            yield dataset[tag]
        except Exception:  # a value that cannot be parsed fails in many ways
            continue


def _mapped(value: Any, pseudonyms: Pseudonyms) -> Any:
    if isinstance(value, MultiValue | list):
        return [pseudonyms.uid(str(uid)) for uid in value]
    return pseudonyms.uid(str(value)) if value else value


def _file_meta(image: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


# ---------------------------------------------------------------- pixels


def _set_pixels(image: Dataset, original: Dataset) -> None:
    """Write the stored values and nothing else: bits outside Bits Stored may hold an overlay (PS3.5 8.1.1, retired)."""
    allocated, stored = int(original.get("BitsAllocated", 0)), int(original.get("BitsStored", 0))
    if allocated not in (8, 16) or int(original.get("HighBit", -1)) != stored - 1:
        raise IdentifyingError("an image has an unusual pixel module (BitsAllocated, HighBit); it is not exported")
    try:
        pixels = stored_values(original)
    except NotAnalysable as error:
        raise IdentifyingError(f"an image is not exported: {error}") from None
    signed = int(original.get("PixelRepresentation", 0)) == 1
    kind = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
    spare = allocated - stored
    # A right shift of a signed type fills with the sign.
    values = (pixels.astype(kind) << spare).astype(kind) >> spare
    data = values.astype(kind).tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image["PixelData"].VR = "OW" if allocated == 16 else "OB"


# ---------------------------------------------------------------- the check


@dataclass(frozen=True, slots=True)
class Identifier:
    """A value that must not be found again, and the attribute that it came from."""

    keyword: str
    text: str
    # Whether this is a part of a person's name, which is searched for as a word.
    is_word: bool = False


def identifiers_of(dataset: Dataset) -> set[Identifier]:
    """Everything in a data set that points to a person, a visit, a place or a day."""
    found: set[Identifier] = set()
    for element in _readable(dataset):
        name = element.keyword or f"{element.tag}"
        if element.VR == "SQ":
            for item in element.value:
                found |= identifiers_of(item)
        elif element.VR == "PN":
            words = {w for text in _texts(element) for w in _WORD.findall(text.casefold()) if len(w) > 1}
            found |= {Identifier(name, word, is_word=True) for word in words}
            found |= {Identifier(name, text) for text in _texts(element)}
        elif element.VR in ("DA", "DT") or element.keyword in _IDENTIFYING:
            found |= {Identifier(name, text) for text in _texts(element)}
        elif element.VR == "UI":
            found |= {Identifier(name, text) for text in _texts(element) if not text.startswith(_STANDARD_ROOT)}
    return found


def _check_texts(known: set[Identifier], image: Dataset) -> None:
    """Search what stayed from the original for what identified it.

    Raises
    ------
    IdentifyingError
        If something is found.
    """
    for element in image.iterall():
        repeated = _repeated(element, known)
        if repeated:
            raise IdentifyingError(f"{element.keyword} of an image repeats {repeated}; it cannot be exported")


def _repeated(element: DataElement, known: Iterable[Identifier]) -> str:
    """The attribute of the original that an element repeats; empty if it repeats none."""
    if element.VR not in _TEXT_VR:
        return ""
    texts, is_code = _texts(element), element.VR == "CS"
    found = (i.keyword for i in known if any(_shows(text, i, is_code=is_code) for text in texts))
    return next(found, "")


def check_bytes(known: Iterable[Identifier], written: bytes) -> None:
    """Search bytes for identifiers that are too long to occur by chance.

    Raises
    ------
    IdentifyingError
        If one is found.
    """
    for identifier in known:
        for form in {identifier.text.encode(code, "ignore") for code in ("utf-8", "latin-1")}:
            long_enough = len(form) >= _SHORTEST_IN_BYTES and not identifier.is_word
            if long_enough and _stands_alone(form, written, joins="."):
                raise IdentifyingError(f"{identifier.keyword} is found in what would be written; it cannot be exported")


def _stands_alone(form: bytes, written: bytes, joins: str = "") -> bool:
    """Whether bytes occur on their own, not only in a longer number or word (``joins``: signs that belong to one)."""
    start = written.find(form)
    while start >= 0:
        around = written[start - 1 : start] + written[start + len(form) : start + len(form) + 1]
        if not any(chr(c).isalnum() or chr(c) in joins for c in around if c < 128):
            return True
        start = written.find(form, start + 1)
    return False


def _shows(text: str, identifier: Identifier, *, is_code: bool) -> bool:
    """Whether a text repeats an identifier.

    Codes (CS) are short words such as SE and MR, so short names do not count as a match there.
    """
    if identifier.is_word:
        shortest = _SHORTEST_IN_TEXT if is_code else 2
        return len(identifier.text) >= shortest and identifier.text in _WORD.findall(text.casefold())
    if len(identifier.text) < _SHORTEST_IN_TEXT:
        return False
    return _stands_alone(identifier.text.casefold().encode(), text.casefold().encode())


def _texts(element: DataElement) -> list[str]:
    value = element.value
    values = value if isinstance(value, MultiValue | list) else [value]
    return [text for v in values if v is not None and (text := str(v).strip(" \0"))]
