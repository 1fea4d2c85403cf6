"""One annotated exam: what every data set's reader yields."""

from __future__ import annotations

from dataclasses import dataclass

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.dicom_series import SagittalVolume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """A volume with its ten keypoints.

    Parameters
    ----------
    exam_id
        Unique in the data set.
    patient
        Splits go by this.
    points
        Level name -> (column, row) in source pixels of slice ``slice_index``; the ten of ``READING_ORDER``, and ``T12-L1``
        where annotated.
    grades
        Level name -> class, None where unknown.

    Raises
    ------
    ValueError
        If a level is missing or a slice index impossible.
    """

    exam_id: str
    patient: str
    subset: str
    volume: SagittalVolume
    slice_index: int
    points: dict[str, tuple[float, float]]
    grades: dict[str, Grade | None]

    def __post_init__(self) -> None:
        missing = [landmark.level for landmark in READING_ORDER if landmark.level not in self.points]
        if missing:
            raise ValueError(f"exam {self.exam_id}: no point for {', '.join(missing)}")
        if not 0 <= self.slice_index < len(self.volume.voxels):
            raise ValueError(f"exam {self.exam_id}: slice {self.slice_index} of {len(self.volume.voxels)}")

    def of(self, structure: Structure) -> list[tuple[str, tuple[float, float], Grade | None]]:
        """The five (level, point, grade) of a structure, top to bottom."""
        levels = [landmark.level for landmark in READING_ORDER if landmark.structure is structure]
        return [(level, self.points[level], self.grades.get(level)) for level in levels]
