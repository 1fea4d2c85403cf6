"""What a result says is the same again: the decoded pixels and every attribute that it reads or copies.

How the pixels were encoded, and what nobody reads, is left out: the same image in another transfer syntax is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from spineone_core.findings import Reason
from spineone_core.imaging.volume import SagittalVolume

# What `results.envelope` copies into every object. Specific Character Set is left out: the decoded values count.
COPIED = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
)
# What `spineone_core.imaging.headers` reads, and what reports and presentation states say of an image. Every further
# keyword gives the next job of a study a new result, although nothing has changed in the hospital.
READ = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Manufacturer",
    "SeriesNumber",
    "InstanceNumber",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "BurnedInAnnotation",
    "SequenceName",
    "PulseSequenceName",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "AcquisitionContrast",
    "EchoPulseSequence",
    "InversionRecovery",
    "SpectrallySelectedSuppression",
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "EchoTrainLength",
    "RFEchoTrainLength",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "FrameAcquisitionDateTime",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "WindowCenter",
    "WindowWidth",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "BitsStored",
    "RescaleSlope",
    "RescaleIntercept",
)


def contents_of(volume: SagittalVolume, header_of: Callable[[str], Dataset | None]) -> tuple[tuple[str, str], ...]:
    """For each image of a volume, its SOP Instance UID and the SHA-256 of its content."""
    slices: dict[str, list[int]] = {}
    for index, source in enumerate(volume.sources):
        slices.setdefault(source.sop_instance_uid, []).append(index)
    return tuple((uid, _digest_of(volume, indices, header_of(uid) or Dataset())) for uid, indices in slices.items())


def contents_of_refusal(reason: Reason, header: Dataset) -> tuple[tuple[str, str], ...]:
    """As `contents_of`, for a study that is not analysable: the reason, and whose study it is."""
    return ((f"not_analysable:{reason.value}", _hash(_values([header], COPIED)).hexdigest()),)


def _digest_of(volume: SagittalVolume, indices: Sequence[int], header: Dataset) -> str:
    shared = [place for group in header.get("SharedFunctionalGroupsSequence") or [] for place in _macros(group)]
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    frames = []
    for index in indices:
        # The places in which an attribute of a frame may stand (PS3.3 C.7.6.16), the nearest first.
        number = volume.sources[index].frame_number
        own = _macros(groups[number - 1]) if number is not None and number <= len(groups) else []
        frames.append(_values([*own, *shared, header], READ))
    digest = _hash([_values([header], COPIED), frames, volume.voxels.shape[1:]])
    for index in indices:
        digest.update(np.ascontiguousarray(volume.voxels[index], dtype="<f4").tobytes())
    return digest.hexdigest()


def _macros(group: Dataset) -> list[Dataset]:
    """The first item of each functional group macro."""
    return [element.value[0] for element in group if element.VR == "SQ" and element.value]


def _hash(values: Any) -> Any:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode())


def _values(places: Sequence[Dataset], keywords: Sequence[str]) -> dict[str, Any]:
    """The values of the attributes that are not empty, each from the first place that has it."""
    found = {}
    for keyword in keywords:
        values = (_plain(place, keyword) for place in places)
        value = next((v for v in values if v not in ("", [])), None)
        if value is not None:
            found[keyword] = value
    return found


def _plain(place: Dataset, keyword: str) -> Any:
    try:
        return _as_plain(place.get(keyword))
    except Exception:  # pydicom raises many types on hostile values; such a value is not used either
        return ""


def _as_plain(value: Any) -> Any:
    """A value as JSON has it; numbers without regard to how they were written."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return float(value) + 0.0  # there is no minus zero
    if isinstance(value, list | tuple) or hasattr(value, "append"):
        return [_as_plain(v) for v in value]
    return str(value).strip(" \0")
