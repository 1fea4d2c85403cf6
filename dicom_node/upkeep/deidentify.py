"""De-identifying MR images: Basic Application Level Confidentiality Profile (PS3.15 E.2), by a list of what may stay.

Everything that is not on the list is removed, in every sequence, including private attributes and dates. Coded
attributes keep known terms only (`closed_values`). Keyed hashes (HMAC-SHA-256) replace UIDs and the patient's identity:
they are the same for every image and every export of a site, and without the key nobody can compute them from a guess.
Pixels are decoded and written again, so that nothing is carried along in unused bits, in comments of codestreams or
after the image. The output is then searched for everything that identified the original (`traces`); a single hit
refuses the image.
"""

from __future__ import annotations

import hmac
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOFTWARE_VERSION
from dicom_node.results.envelope import REQUIRED, to_bytes
from dicom_node.upkeep.closed_values import CLOSED, closed
from dicom_node.upkeep.traces import (
    STANDARD_ROOT,
    IdentifyingError,
    Traces,
    check_bytes,
    identifiers_of,
    readable,
    texts_of,
)
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import MR_IMAGES
from spineone_core.imaging.pixels import stored_values

KEY_BYTES = 32


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Scanner, sequence, geometry and pixels: what training, its splits and its figures by scanner need.
KEPT = _words(
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
_KEPT_TAGS = frozenset(tag for keyword in KEPT if (tag := tag_for_keyword(keyword)) is not None)
# Type 2 like `REQUIRED`, but only in the classes that have them: they stay present, but empty.
_EMPTIED_WHERE_PRESENT = ("ScanOptions", "PositionReferenceIndicator")
# Free text among the attributes that stay. It is emptied if it repeats something about the patient, who may be called
# Siemens.
_FREE_TEXT = ("Manufacturer", "ManufacturerModelName")


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
        if original.startswith(STANDARD_ROOT):
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
    _check_values(Traces(known), image)
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


def _check_values(traces: Traces, image: Dataset) -> None:
    """Empty the free texts that repeat what identified the original.

    Raises
    ------
    IdentifyingError
        If another attribute does.
    """
    for keyword in _FREE_TEXT:
        if keyword in image and traces.repeated_by(image[keyword]):
            image[keyword].value = ""
    for element in image.iterall():
        if repeated := traces.repeated_by(element):
            raise IdentifyingError(f"{element.keyword} of an image repeats {repeated}; it cannot be exported")


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
    for element in readable(dataset):
        if element.tag not in _KEPT_TAGS:
            continue
        if element.VR == "SQ":
            kept.add_new(element.tag, "SQ", Sequence([_kept(item, pseudonyms) for item in element.value]))
        elif element.VR == "UI":
            kept.add_new(element.tag, "UI", _mapped(element.value, pseudonyms))
        elif element.keyword in CLOSED:
            kept.add_new(element.tag, element.VR, closed(element.keyword, texts_of(element)))
        else:
            kept.add_new(element.tag, element.VR, element.value)
    return kept


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
