"""DICOM files -> headers -> series -> `SagittalVolume`: geometry, slice order, pixel decoding.

Classic single-frame images and enhanced multi-frame images become the same thing here: a list of `FrameHeader`, one for
each frame. Geometry follows PS3.3 C.7.6.2.1.1 (Image Plane) and C.7.6.16 (Multi-frame Functional Groups).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from spineone_core.findings import Reason
from spineone_core.imaging.isolation import DecoderError, decode_isolated

MAX_PIXELS_PER_FRAME = 4096 * 4096
MAX_FRAMES = 20_000
# All frames of a file together: 1 GiB as float32.
MAX_PIXELS_PER_FILE = 2**28
# Two slices closer than this (mm along the normal) are the same position.
SAME_POSITION_MM = 0.05
# Directions whose cosine differs by less are one orientation (about 2.5 degrees).
SAME_ORIENTATION_COSINE = 0.999

FloatArray = NDArray[np.float64]


class SeriesError(Exception):
    """A series cannot be used. ``reason`` is coded; the message names the value and the rule."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no usable DICOM image, and why."""

    path: Path
    why: str


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

    @property
    def normal(self) -> FloatArray | None:
        """Unit normal of the image plane (row direction x column direction), or None."""
        if self.orientation is None:
            return None
        row, column = np.asarray(self.orientation[:3]), np.asarray(self.orientation[3:])
        return np.cross(row, column)


@dataclass(frozen=True, slots=True)
class Series:
    """Frames of one series that share matrix, orientation, spacing and echo."""

    frames: tuple[FrameHeader, ...]

    @property
    def first(self) -> FrameHeader:
        return self.frames[0]

    @property
    def uid(self) -> str:
        return self.first.series_uid

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True)
class SliceSource:
    """Where a slice of a volume comes from. ``frame_number`` counts from 1; None for single-frame images."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    frame_number: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SagittalVolume:
    """A stack of parallel slices with exact geometry.

    Parameters
    ----------
    voxels
        (slices, rows, columns) float32, modality values, ordered by position along the normal.
    origins
        (slices, 3) patient coordinates (LPS, mm) of the centre of each slice's first pixel (ImagePositionPatient).
    row_direction, column_direction
        Unit vectors of increasing column index and of increasing row index (ImageOrientationPatient).
    pixel_spacing
        mm between rows, mm between columns (DICOM's order).
    sources
        One for each slice.
    window
        Centre and width of the series' own display window, where it has one.

    Raises
    ------
    SeriesError
        ``invalid_geometry`` if shapes, spacing or directions are impossible.
    """

    voxels: NDArray[np.float32]
    origins: FloatArray
    row_direction: FloatArray
    column_direction: FloatArray
    pixel_spacing: tuple[float, float]
    sources: tuple[SliceSource, ...]
    study_uid: str
    series_uid: str
    window: tuple[float, float] | None = None
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or 0 in self.voxels.shape:
            raise SeriesError(Reason.INVALID_GEOMETRY, f"voxels {self.voxels.shape} are not (slices, rows, columns)")
        if self.origins.shape != (len(self.voxels), 3) or len(self.sources) != len(self.voxels):
            raise SeriesError(Reason.INVALID_GEOMETRY, "slices, origins and sources differ in number")
        _check_spacing(self.pixel_spacing)
        _check_directions(self.row_direction, self.column_direction)
        if not np.isfinite(self.origins).all():
            raise SeriesError(Reason.INVALID_GEOMETRY, "ImagePositionPatient is not finite")

    @property
    def normal(self) -> FloatArray:
        """Unit normal: row direction x column direction."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def positions(self) -> FloatArray:
        """(slices,) mm along the normal."""
        return self.origins @ self.normal

    @property
    def slice_step(self) -> float:
        """Median distance of neighbouring slices in mm; 0 for a single slice."""
        return float(np.median(np.diff(self.positions))) if len(self.voxels) > 1 else 0.0

    @property
    def middle_index(self) -> int:
        """Index of the slice nearest to the middle of the stack by position (reading 21); of two as near, the first."""
        return middle_of(self.positions)

    def to_patient(self, slice_index: int, x: float, y: float) -> FloatArray:
        """Patient coordinates (LPS, mm) of column ``x``, row ``y`` on a slice; pixel centres at integers."""
        between_rows, between_columns = self.pixel_spacing
        along_row = x * between_columns * self.row_direction
        along_column = y * between_rows * self.column_direction
        return self.origins[slice_index] + along_row + along_column

    def from_patient(self, xyz_mm: Sequence[float] | FloatArray, slice_index: int) -> tuple[float, float]:
        """Column and row on a slice of the orthogonal projection of a patient point."""
        between_rows, between_columns = self.pixel_spacing
        offset = np.asarray(xyz_mm, dtype=float) - self.origins[slice_index]
        x = offset @ self.row_direction / between_columns
        y = offset @ self.column_direction / between_rows
        return float(x), float(y)


def middle_of(positions: FloatArray) -> int:
    """Index of the position (mm) nearest to the middle of the first and last; ties, to the micrometre, go to the first."""
    middle = (positions[0] + positions[-1]) / 2
    return int(np.argmin(np.round(np.abs(positions - middle), 3)))


def _check_spacing(spacing: tuple[float, float]) -> None:
    if not all(math.isfinite(v) and 0.05 <= v <= 10 for v in spacing):
        raise SeriesError(Reason.INVALID_GEOMETRY, f"PixelSpacing {spacing} is outside 0.05 to 10 mm")
    if max(spacing) / min(spacing) > 4:
        raise SeriesError(Reason.INVALID_GEOMETRY, f"PixelSpacing {spacing} is too anisotropic (ratio over 4)")


def _check_directions(row: FloatArray, column: FloatArray) -> None:
    lengths = np.linalg.norm([row, column], axis=1)
    if not np.allclose(lengths, 1, atol=1e-3) or abs(float(row @ column)) > 1e-3:
        raise SeriesError(Reason.INVALID_GEOMETRY, "ImageOrientationPatient is not two perpendicular unit vectors")


# ---------------------------------------------------------------- headers


def find_files(paths: Iterable[Path]) -> list[Path]:
    """All regular files in ``paths`` and below their folders, sorted."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file())
        else:
            found.append(path)
    return found


def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Read one file; a missing preamble or file meta group is tolerated.

    Raises
    ------
    ValueError
        If the file is not DICOM.
    """
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
        has_uid = "SOPInstanceUID" in dataset
    except Exception as error:  # pydicom raises many types on hostile bytes
        raise ValueError(f"not readable as DICOM: {type(error).__name__}") from error
    if not has_uid:
        raise ValueError("not a DICOM image: no SOPInstanceUID")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _syntax_found(dataset)
    return dataset


def _syntax_found(dataset: Dataset) -> UID:
    """The transfer syntax of a file that does not say, as pydicom found it to be."""
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian


def read_headers(paths: Iterable[Path]) -> tuple[list[FrameHeader], list[Unreadable]]:
    """Headers of all frames of all image files; what is no image is returned with its reason, never raised."""
    headers: list[FrameHeader] = []
    unreadable: list[Unreadable] = []
    for path in find_files(paths):
        try:
            headers += frame_headers(read_dataset(path, pixels=False), path)
        except Exception as error:  # hostile headers fail in many ways; each is one unreadable file
            unreadable.append(Unreadable(path, str(error) or type(error).__name__))
    return headers, unreadable


def files_by_study(paths: Iterable[Path]) -> tuple[dict[str, list[Path]], list[Unreadable]]:
    """DICOM files below ``paths`` by StudyInstanceUID, and what is no DICOM file.

    Objects without pixels belong to their study too: reading it says what they are.
    """
    studies: dict[str, list[Path]] = {}
    unreadable: list[Unreadable] = []
    for path in find_files(paths):
        try:
            study_uid = str(read_dataset(path, pixels=False).get("StudyInstanceUID") or "")
        except (OSError, ValueError) as error:
            unreadable.append(Unreadable(path, str(error)))
            continue
        studies.setdefault(study_uid, []).append(path)
    return studies, unreadable


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

    centre, width = _first_number(find("WindowCenter")), _first_number(find("WindowWidth"))
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
        slice_thickness=_first_number(find("SliceThickness")),
        echo_time=_first_number(find("EffectiveEchoTime", "EchoTime")),
        repetition_time=_first_number(find("RepetitionTime")),
        inversion_time=_first_number(find("InversionTime")),
        series_description=str(dataset.get("SeriesDescription", "") or ""),
        protocol_name=str(dataset.get("ProtocolName", "") or ""),
        sequence_name=str(find("SequenceName", "PulseSequenceName") or ""),
        scan_options=_joined(dataset.get("ScanOptions")),
        acquisition_contrast=str(find("AcquisitionContrast") or ""),
        image_type=tuple(str(v) for v in _as_list(dataset.get("ImageType"))),
        body_part=str(dataset.get("BodyPartExamined", "") or ""),
        series_number=_integer(dataset.get("SeriesNumber")),
        manufacturer=str(dataset.get("Manufacturer", "") or ""),
        window=(centre, width) if centre is not None and width is not None and width > 0 else None,
    )


def _as_list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _joined(value: Any) -> str:
    return " ".join(str(v) for v in _as_list(value))


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(v) for v in _as_list(value))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _first_number(value: Any) -> float | None:
    values = _as_list(value)
    numbers = _numbers(values[:1], 1)
    return numbers[0] if numbers else None


def _integer(value: Any) -> int | None:
    number = _first_number(value)
    return None if number is None else int(number)


def _spacing(value: Any) -> tuple[float, float] | None:
    numbers = _numbers(value, 2)
    return (numbers[0], numbers[1]) if numbers else None


# ---------------------------------------------------------------- series


def group_series(headers: Iterable[FrameHeader]) -> list[Series]:
    """Split frames into series of one matrix, spacing, orientation and echo each; largest first within one UID.

    Files of a study often mix a scout and the diagnostic slices, or two echoes, under one UID.
    """
    groups: dict[tuple[Any, ...], list[FrameHeader]] = defaultdict(list)
    orientations: list[FloatArray] = []
    for header in headers:
        spacing = tuple(round(v, 4) for v in header.pixel_spacing) if header.pixel_spacing else None
        echo = None if header.echo_time is None else round(header.echo_time)
        orientation = _orientation_index(header, orientations)
        groups[header.series_uid, header.rows, header.columns, spacing, echo, orientation].append(header)
    series = [Series(tuple(frames)) for frames in groups.values()]
    return sorted(series, key=lambda s: (s.first.series_number or 0, s.uid, -len(s)))


def _orientation_index(header: FrameHeader, known: list[FloatArray]) -> int | None:
    if header.orientation is None:
        return None
    cosines = np.asarray(header.orientation)
    for index, other in enumerate(known):
        if min(cosines[:3] @ other[:3], cosines[3:] @ other[3:]) > SAME_ORIENTATION_COSINE:
            return index
    known.append(cosines)
    return len(known) - 1


def order_frames(series: Series) -> tuple[list[FrameHeader], list[str]]:
    """Frames by position along the normal, never by InstanceNumber; of duplicates at one position the first stays.

    Raises
    ------
    SeriesError
        ``invalid_geometry`` if a frame has no orientation, position or spacing.
    """
    for name in ("orientation", "position", "pixel_spacing"):
        if any(getattr(frame, name) is None for frame in series.frames):
            raise SeriesError(Reason.INVALID_GEOMETRY, f"{name.replace('_', ' ')} is missing or not a number")
    normal = series.first.normal
    assert normal is not None
    placed = sorted(series.frames, key=lambda f: (float(np.dot(f.position, normal)), f.sop_instance_uid))  # type: ignore[arg-type]
    kept: list[FrameHeader] = []
    for frame in placed:
        if kept and float(np.dot(np.subtract(frame.position, kept[-1].position), normal)) < SAME_POSITION_MM:  # type: ignore[arg-type]
            continue
        kept.append(frame)
    warnings = [] if len(kept) == len(placed) else [f"{len(placed) - len(kept)} slices at duplicate positions left out"]
    return kept, warnings + _step_warnings(kept, normal)


def _step_warnings(frames: list[FrameHeader], normal: FloatArray) -> list[str]:
    if len(frames) < 3:
        return []
    steps = np.diff([float(np.dot(f.position, normal)) for f in frames])  # type: ignore[arg-type]
    return ["slices are missing or unevenly spaced"] if steps.max() > 1.5 * np.median(steps) else []


# ---------------------------------------------------------------- pixels


def load_volume(series: Series, *, isolate: bool = True) -> SagittalVolume:
    """Decode a series into a volume.

    Parameters
    ----------
    isolate
        Decode JPEG, JPEG-LS and JPEG 2000 in a child process (about half a second a series). Only for trusted files may
        it be off.

    Raises
    ------
    SeriesError
        ``invalid_geometry`` or ``unreadable_pixels``, with what was wrong.
    """
    frames, warnings = order_frames(series)
    voxels = _decode(frames, isolate)
    first = frames[0]
    assert first.orientation is not None
    assert first.pixel_spacing is not None
    return SagittalVolume(
        voxels=voxels,
        origins=np.array([f.position for f in frames], dtype=float),
        row_direction=np.array(first.orientation[:3]),
        column_direction=np.array(first.orientation[3:]),
        pixel_spacing=first.pixel_spacing,
        sources=tuple(SliceSource(f.path, f.sop_instance_uid, f.sop_class_uid, f.frame_number) for f in frames),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        window=first.window,
        warnings=tuple(warnings),
    )


def _decode(frames: list[FrameHeader], isolate: bool) -> NDArray[np.float32]:
    first = frames[0]
    decoded = _decode_files(list(dict.fromkeys(frame.path for frame in frames)), isolate)
    slices = []
    for frame in frames:
        stack, index = decoded[frame.path], (frame.frame_number or 1) - 1
        if index >= len(stack) or stack.shape[1:] != (first.rows, first.columns):
            raise SeriesError(Reason.UNREADABLE_PIXELS, f"pixel data hold {stack.shape}, the header says otherwise")
        slices.append(stack[index])
    return np.stack(slices)


def _decode_files(paths: list[Path], isolate: bool) -> dict[Path, NDArray[np.float32]]:
    """Compressed files in a child process, unless told otherwise; the others here."""
    apart = [path for path in paths if isolate and _needs_library(path)]
    try:
        decoded = dict(zip(apart, decode_isolated(apart), strict=True)) if apart else {}
    except DecoderError as error:
        raise SeriesError(Reason.UNREADABLE_PIXELS, str(error)) from error
    return decoded | {path: decode_file(path) for path in paths if path not in decoded}


def _needs_library(path: Path) -> bool:
    """Whether pixel data must go through a native decoder (pydicom itself decodes RLE, in Python)."""
    try:
        syntax = UID(read_dataset(path, pixels=False).file_meta.TransferSyntaxUID)
    except (OSError, ValueError):
        return False
    return syntax != RLELossless and (not syntax.is_transfer_syntax or syntax.is_encapsulated)


def decode_file(path: Path) -> NDArray[np.float32]:
    """All frames of a file as (frames, rows, columns) float32 modality values.

    Raises
    ------
    SeriesError
        ``unreadable_pixels`` if the data are truncated, corrupt, in colour or too large.
    """
    try:
        dataset = read_dataset(path, pixels=True)
    except ValueError as error:
        raise SeriesError(Reason.UNREADABLE_PIXELS, f"pixel data cannot be decoded: {error}") from error
    return _modality_values(stored_values(dataset), dataset)


def stored_values(dataset: Dataset) -> NDArray[Any]:
    """The stored values of an image as (frames, rows, columns), before any rescaling.

    Raises
    ------
    SeriesError
        ``unreadable_pixels``, as `decode_file`.
    """
    try:
        _check_pixel_module(dataset)
        if dataset.file_meta.TransferSyntaxUID == RLELossless:
            # Else pydicom falls back on a native decoder, which may abort on what its own refuses.
            dataset.pixel_array_options(decoding_plugin="pydicom")
        pixels = np.asarray(dataset.pixel_array)
    except SeriesError:
        raise
    except Exception as error:  # decoders raise many types on corrupt data
        raise SeriesError(Reason.UNREADABLE_PIXELS, f"pixel data cannot be decoded: {type(error).__name__}") from error
    return pixels[None] if pixels.ndim == 2 else pixels


def _check_pixel_module(dataset: Dataset) -> None:
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise SeriesError(Reason.UNREADABLE_PIXELS, "colour image (SamplesPerPixel is not 1)")
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        # Of a palette the stored values are no intensities.
        raise SeriesError(Reason.UNREADABLE_PIXELS, "not a greyscale image (PhotometricInterpretation)")
    _check_bits(dataset)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    pixels = int(dataset.Rows) * int(dataset.Columns)
    if pixels > MAX_PIXELS_PER_FRAME or frames > MAX_FRAMES or pixels * frames > MAX_PIXELS_PER_FILE:
        raise SeriesError(
            Reason.UNREADABLE_PIXELS, f"{frames} x {dataset.Rows} x {dataset.Columns} pixels exceed the limit"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    stored = len(dataset.get("PixelData", b"") or b"")
    expected = frames * pixels * int(dataset.BitsAllocated) // 8
    if not syntax.is_encapsulated and stored < expected:
        raise SeriesError(Reason.UNREADABLE_PIXELS, f"pixel data truncated: {stored} bytes of {expected}")


def _check_bits(dataset: Dataset) -> None:
    """PS3.5 8.1.1: the bits stored lie within the bits allocated. Decoders do not look at High Bit."""
    allocated, stored = int(dataset.get("BitsAllocated", 0) or 0), int(dataset.get("BitsStored", 0) or 0)
    high = int(dataset.get("HighBit", stored - 1))
    if not (0 < stored <= allocated and stored - 1 <= high < allocated):
        detail = f"impossible bits: {allocated} allocated, {stored} stored, high bit {high}"
        raise SeriesError(Reason.UNREADABLE_PIXELS, detail)


def _modality_values(frames: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    """Undo MONOCHROME1, then rescale each frame; intensities are normalised per series later."""
    values = frames.astype(np.float32)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        # About the middle of the stored range, the same for every image of a series.
        bits, signed = int(dataset.get("BitsStored", 16)), bool(dataset.get("PixelRepresentation", 0))
        values = np.float32(-1 if signed else 2**bits - 1) - values
    for index, value in enumerate(values):
        slope, intercept = rescale_of(dataset, index)
        if (slope, intercept) != (1.0, 0.0):
            value *= np.float32(slope)
            value += np.float32(intercept)
    return values


def rescale_of(dataset: Dataset, index: int) -> tuple[float, float]:
    """Slope and intercept of a frame (counted from 0); an impossible slope is left out of account."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = list(per_frame[index : index + 1]) + list(dataset.get("SharedFunctionalGroupsSequence") or [])
    items = [
        group.PixelValueTransformationSequence[0] for group in groups if group.get("PixelValueTransformationSequence")
    ]
    place = next(iter(items), dataset)
    slope, intercept = _first_number(place.get("RescaleSlope")), _first_number(place.get("RescaleIntercept"))
    return (slope, intercept or 0.0) if slope is not None and 1e-6 < abs(slope) < 1e6 else (1.0, 0.0)
