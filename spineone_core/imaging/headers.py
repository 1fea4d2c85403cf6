"""What selection and geometry need of a header: one `FrameHeader` for each frame.

Classic single-frame images and enhanced multi-frame images become the same thing here (PS3.3 C.7.6.16, Multi-frame
Functional Groups).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, MRImageStorage

from spineone_core.arrays import FloatArray
from spineone_core.imaging.files import Unreadable, find_files, read_dataset

# MR, Enhanced MR and Legacy Converted Enhanced MR Image Storage: these are analysed and exported.
MR_IMAGES = frozenset(map(str, (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)))
MAX_FRAMES = 20_000
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """What selection and geometry need of one frame. Lengths in mm, times in ms; None where absent or impossible."""

    path: Path
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    frame_number: int | None
    modality: str
    rows: int
    columns: int
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    slice_thickness: float | None
    echo_time: float | None
    repetition_time: float | None
    inversion_time: float | None
    series_description: str
    protocol_name: str
    sequence_name: str
    scan_options: str
    acquisition_contrast: str
    image_type: tuple[str, ...]
    body_part: str
    series_number: int | None
    manufacturer: str
    window: tuple[float, float] | None
    # What tells one acquisition, one echo or one kind of picture from another.
    complex_component: str = ""
    echo_number: int | None = None
    acquisition_number: int | None = None
    # As DICOM writes it, YYYYMMDDHHMMSS or HHMMSS, with fractions: it sorts as text.
    acquired_at: str = ""
    temporal_position: int | None = None
    b_value: float | None = None
    instance_number: int | None = None
    frame_of_reference_uid: str = ""
    spacing_between_slices: float | None = None
    # What the sequence was. ``echo_kind`` (SPIN, GRADIENT, BOTH), ``inversion_recovery`` and ``suppression`` (FAT, WATER ...)
    # are those of enhanced images (PS3.3 C.8.13.4, MR Pulse Sequence; C.8.13.5.9, MR Modifier).
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    flip_angle: float | None = None
    echo_train: int | None = None
    echo_kind: str = ""
    inversion_recovery: str = ""
    suppression: str = ""
    burned_in: str = ""

    @property
    def normal(self) -> FloatArray | None:
        """Unit normal of the image plane (row direction x column direction), or None."""
        if self.orientation is None:
            return None
        row, column = np.asarray(self.orientation[:3]), np.asarray(self.orientation[3:])
        return np.cross(row, column)


def read_headers(paths: Iterable[Path]) -> tuple[list[FrameHeader], list[Unreadable]]:
    """The headers of all frames of all image files; a file that is no image is returned with the reason, never raised."""
    headers: list[FrameHeader] = []
    unreadable: list[Unreadable] = []
    for path in find_files(paths):
        try:
            headers += frame_headers(read_dataset(path, pixels=False), path)
        except Exception as error:  # hostile headers fail in many ways; each makes one unreadable file
            unreadable.append(Unreadable(path, str(error) or type(error).__name__))
    return headers, unreadable


def frame_headers(dataset: Dataset, path: Path) -> list[FrameHeader]:
    """The header of each frame of one image.

    Raises
    ------
    ValueError
        If the object has no pixel matrix or an impossible number of frames.
    """
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows <= 0 or columns <= 0:
        raise ValueError("not an image: Rows or Columns missing")
    if "PerFrameFunctionalGroupsSequence" not in dataset and "SharedFunctionalGroupsSequence" not in dataset:
        return [_frame_header(dataset, [dataset], path, None)]
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not 0 < len(per_frame) <= MAX_FRAMES:
        raise ValueError(f"{len(per_frame)} frames; allowed 1 to {MAX_FRAMES}")
    # Some converters leave the shared groups out altogether.
    shared = [group for item in dataset.get("SharedFunctionalGroupsSequence") or [] for group in _group_items(item)]
    return [
        _frame_header(dataset, [*_group_items(item), *shared, dataset], path, number)
        for number, item in enumerate(per_frame, start=1)
    ]


def _group_items(groups: Dataset) -> list[Dataset]:
    """The first item of each functional group macro."""
    return [element.value[0] for element in groups if element.VR == "SQ" and element.value]


def _frame_header(dataset: Dataset, places: list[Dataset], path: Path, number: int | None) -> FrameHeader:
    def find(*keywords: str) -> Any:
        for keyword in keywords:
            for place in places:
                value = place.get(keyword)
                if value not in (None, ""):
                    return value
        return None

    centre, width = first_number(find("WindowCenter")), first_number(find("WindowWidth"))
    return FrameHeader(
        path=path,
        study_uid=str(dataset.get("StudyInstanceUID", "")),
        series_uid=str(dataset.get("SeriesInstanceUID", "")),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        frame_number=number,
        modality=str(dataset.get("Modality", "") or ""),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        orientation=_numbers(find("ImageOrientationPatient"), 6),
        position=_numbers(find("ImagePositionPatient"), 3),
        pixel_spacing=_spacing(find("PixelSpacing")),
        slice_thickness=first_number(find("SliceThickness")),
        echo_time=first_number(find("EffectiveEchoTime", "EchoTime")),
        repetition_time=first_number(find("RepetitionTime")),
        inversion_time=first_number(find("InversionTime")),
        series_description=str(dataset.get("SeriesDescription", "") or ""),
        protocol_name=str(dataset.get("ProtocolName", "") or ""),
        sequence_name=str(find("SequenceName", "PulseSequenceName") or ""),
        scan_options=_joined(dataset.get("ScanOptions")),
        acquisition_contrast=str(find("AcquisitionContrast") or ""),
        image_type=_texts(find("FrameType", "ImageType")),
        body_part=str(dataset.get("BodyPartExamined", "") or ""),
        series_number=_integer(dataset.get("SeriesNumber")),
        manufacturer=str(dataset.get("Manufacturer", "") or ""),
        window=(centre, width) if centre is not None and width is not None and width > 0 else None,
        complex_component=str(find("ComplexImageComponent") or ""),
        echo_number=_integer(find("EchoNumbers")),
        acquisition_number=_integer(find("FrameAcquisitionNumber", "AcquisitionNumber")),
        acquired_at=_acquired_at(find),
        temporal_position=_integer(find("TemporalPositionIdentifier", "TemporalPositionIndex")),
        b_value=first_number(find("DiffusionBValue")),
        instance_number=_integer(dataset.get("InstanceNumber")),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID", "") or ""),
        spacing_between_slices=first_number(find("SpacingBetweenSlices")),
        scanning_sequence=_texts(dataset.get("ScanningSequence")),
        sequence_variant=_texts(dataset.get("SequenceVariant")),
        flip_angle=first_number(find("FlipAngle")),
        echo_train=_integer(find("EchoTrainLength", "RFEchoTrainLength")),
        echo_kind=str(find("EchoPulseSequence") or ""),
        inversion_recovery=str(find("InversionRecovery") or ""),
        suppression=str(find("SpectrallySelectedSuppression") or ""),
        burned_in=str(dataset.get("BurnedInAnnotation", "") or ""),
    )


def _acquired_at(find: Callable[..., Any]) -> str:
    if moment := find("FrameAcquisitionDateTime", "AcquisitionDateTime"):
        return str(moment)
    return f"{find('AcquisitionDate') or ''}{find('AcquisitionTime') or ''}"


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in _as_list(value))


def _as_list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _joined(value: Any) -> str:
    return " ".join(str(v) for v in _as_list(value))


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(map(_number, _as_list(value)))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _number(value: Any) -> float:
    """A number; some devices write a decimal comma, which DICOM does not know (PS3.5 6.2)."""
    return float(value.replace(",", ".") if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value) else value)


def first_number(value: Any) -> float | None:
    """The first value of an element as a finite number, None where there is none."""
    values = _as_list(value)
    numbers = _numbers(values[:1], 1)
    return numbers[0] if numbers else None


def _integer(value: Any) -> int | None:
    number = first_number(value)
    return None if number is None else int(number)


def _spacing(value: Any) -> tuple[float, float] | None:
    numbers = _numbers(value, 2)
    return (numbers[0], numbers[1]) if numbers else None
