"""A decoded stack of parallel slices, and where its pixels lie in the patient (PS3.3 C.7.6.2.1.1, Image Plane)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spineone_core.arrays import FloatArray
from spineone_core.findings import NotAnalysable, Reason


@dataclass(frozen=True, slots=True)
class SliceSource:
    """Where a slice of a volume comes from. ``frame_number`` counts from 1; None for single-frame images.

    ``series_uid`` is empty where it is that of the volume.
    """

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    frame_number: int | None
    series_uid: str = ""


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
        Centre and width of the display window that the series itself has, or None.

    Raises
    ------
    NotAnalysable
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
            raise NotAnalysable(Reason.INVALID_GEOMETRY, f"voxels {self.voxels.shape} are not (slices, rows, columns)")
        if self.origins.shape != (len(self.voxels), 3) or len(self.sources) != len(self.voxels):
            raise NotAnalysable(Reason.INVALID_GEOMETRY, "slices, origins and sources differ in number")
        _check_spacing(self.pixel_spacing)
        _check_directions(self.row_direction, self.column_direction)
        if not np.isfinite(self.origins).all():
            raise NotAnalysable(Reason.INVALID_GEOMETRY, "ImagePositionPatient is not finite")

    @property
    def series_uids(self) -> tuple[str, ...]:
        """The Series Instance UIDs of all slices, each once."""
        return tuple(dict.fromkeys(source.series_uid or self.series_uid for source in self.sources))

    def series_uid_of(self, slice_index: int) -> str:
        """The Series Instance UID of one slice."""
        return self.sources[slice_index].series_uid or self.series_uid

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
        """Median distance between neighbouring slices in mm; 0 for a single slice."""
        return float(np.median(np.diff(self.positions))) if len(self.voxels) > 1 else 0.0

    @property
    def middle_index(self) -> int:
        """Index of the slice nearest to the middle of the stack by position (reading 21); the first where two are as near."""
        return middle_of(self.positions)

    def to_patient(self, slice_index: int, x: float, y: float) -> FloatArray:
        """Patient coordinates (LPS, mm) of column ``x``, row ``y`` on a slice; pixel centres at integers."""
        between_rows, between_columns = self.pixel_spacing
        along_row = x * between_columns * self.row_direction
        along_column = y * between_rows * self.column_direction
        return self.origins[slice_index] + along_row + along_column

    def from_patient(self, xyz_mm: Sequence[float] | FloatArray, slice_index: int) -> tuple[float, float]:
        """Column and row of a patient point that is projected onto a slice at right angles."""
        between_rows, between_columns = self.pixel_spacing
        offset = np.asarray(xyz_mm, dtype=float) - self.origins[slice_index]
        x = offset @ self.row_direction / between_columns
        y = offset @ self.column_direction / between_rows
        return float(x), float(y)


def middle_of(positions: FloatArray) -> int:
    """Index of the position (mm) nearest to the middle of the first and the last; of those equal to the micrometre, the first."""
    middle = (positions[0] + positions[-1]) / 2
    return int(np.argmin(np.round(np.abs(positions - middle), 3)))


def _check_spacing(spacing: tuple[float, float]) -> None:
    if not all(math.isfinite(v) and 0.05 <= v <= 10 for v in spacing):
        raise NotAnalysable(Reason.INVALID_GEOMETRY, f"PixelSpacing {spacing} is outside 0.05 to 10 mm")
    if max(spacing) / min(spacing) > 4:
        raise NotAnalysable(Reason.INVALID_GEOMETRY, f"PixelSpacing {spacing} is too anisotropic (ratio over 4)")


def _check_directions(row: FloatArray, column: FloatArray) -> None:
    lengths = np.linalg.norm([row, column], axis=1)
    if not np.allclose(lengths, 1, atol=1e-3) or abs(float(row @ column)) > 1e-3:
        raise NotAnalysable(Reason.INVALID_GEOMETRY, "ImageOrientationPatient is not two perpendicular unit vectors")
