"""An annotated exam: what the reader of every data set yields."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.arrays import FloatArray
from spineone_core.imaging.volume import SagittalVolume


@dataclass(frozen=True, slots=True)
class Skipped:
    """An exam that cannot be used, and why."""

    exam_id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """A volume with its keypoints.

    Parameters
    ----------
    exam_id
        Unique in the data set.
    patient
        Exams are split by this.
    points
        Level name -> (column, row) in source pixels of slice ``slice_index``, for every annotated level of
        ``READING_ORDER`` and for ``T12-L1`` where it is annotated. A level without a point counts neither in losses nor in
        metrics.
    grades
        Level name -> class, None where unknown.
    centroids
        False where the points mark the level only, not the centroid of its structure. Such exams measure levels; nothing is
        trained or calibrated on them.
    manufacturer, field_strength_t
        Manufacturer and field strength (tesla) of the scanner; empty and None where unknown.
    raw
        Level name -> what the data set itself says about it, for people.
    notes
        What the reader found odd. It changed nothing because of that, unless the note says so.
    part
        The part of a split that the data set itself puts it in; empty where it has none.

    Raises
    ------
    ValueError
        If no level has a point, a point lies outside the image, or the slice index is impossible.
    """

    exam_id: str
    patient: str
    subset: str
    volume: SagittalVolume
    slice_index: int
    points: dict[str, tuple[float, float]]
    grades: dict[str, Grade | None]
    centroids: bool = True
    manufacturer: str = ""
    field_strength_t: float | None = None
    raw: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    part: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.slice_index < len(self.volume.voxels):
            raise ValueError(f"exam {self.exam_id}: slice {self.slice_index} of {len(self.volume.voxels)}")
        if len(self.missing) == len(READING_ORDER):
            raise ValueError(f"exam {self.exam_id}: none of the ten levels has a point")
        rows, columns = self.volume.voxels.shape[1:]
        for level, (x, y) in self.points.items():
            # Annotators place points on a pixel's corner as well as on its centre.
            if not (-0.5 <= x <= columns and -0.5 <= y <= rows):
                raise ValueError(
                    f"exam {self.exam_id}: {level} at ({x:g}, {y:g}) lies outside the image of {columns} x {rows} pixels"
                )

    @property
    def missing(self) -> tuple[str, ...]:
        """The levels of ``READING_ORDER`` without a point."""
        return tuple(landmark.level for landmark in READING_ORDER if landmark.level not in self.points)

    @property
    def point_array(self) -> FloatArray:
        """(10, 2) column and row in reading order, NaN where a level has no point."""
        return np.array([self.points.get(landmark.level, (np.nan, np.nan)) for landmark in READING_ORDER])

    @property
    def grade_row(self) -> tuple[Grade | None, ...]:
        """The ten classes in reading order; None where the class is unknown or the level has no point."""
        return tuple(
            self.grades.get(landmark.level) if landmark.level in self.points else None for landmark in READING_ORDER
        )

    def of(self, structure: Structure) -> list[tuple[str, tuple[float, float], Grade | None]]:
        """The annotated (level, point, grade) of a structure, top to bottom."""
        levels = [landmark.level for landmark in READING_ORDER if landmark.structure is structure]
        return [(level, self.points[level], self.grades.get(level)) for level in levels if level in self.points]
