"""One annotated CT volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.arrays import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeExam:
    """A CT volume with the centroids of its vertebrae (Table V), for ``trainer.volumes.network``.

    Parameters
    ----------
    part
        ``train`` or ``test``, as the data set comes.
    voxels
        (z, y, x) float32 with the values of the file (Hounsfield units); x, y and z go towards patient left, posterior and
        head.
    spacing_mm
        (x, y, z).
    points
        (K, 3) x, y, z in voxels, centres at integers.
    names
        The names of the K vertebrae in the annotation.

    Raises
    ------
    ValueError
        If there is no point, or if one lies outside the volume.
    """

    exam_id: str
    patient: str
    part: str
    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    points: FloatArray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.points) == 0 or self.points.shape != (len(self.names), 3):
            raise ValueError(f"exam {self.exam_id}: {len(self.names)} vertebrae with points {self.points.shape}")
        for name, point in zip(self.names, self.points, strict=True):
            if not inside_volume(point, self.voxels.shape):
                raise ValueError(f"exam {self.exam_id}: {name} lies outside the volume")


def inside_volume(point: FloatArray, shape: tuple[int, ...]) -> bool:
    """Whether x, y, z lies in a volume of (Z, Y, X) voxels."""
    return bool((point >= -0.5).all() and (point <= np.array(shape[::-1]) - 0.5).all())
