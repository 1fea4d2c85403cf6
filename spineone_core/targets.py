"""Ground-truth maps: the OCPC heatmap (Eq. 1) and the short-range offsets (Eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import Grade
from spineone_core.dicom_series import FloatArray

GRADES: tuple[Grade, ...] = (Grade.NORMAL, Grade.DEGENERATIVE)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Maps of one structure.

    ``heatmap`` (2, H, W) in {0, 1}; ``offsets`` (4, H, W) in units of R, layout (normal x, normal y, degenerative x,
    degenerative y); ``weight`` (H, W), 0 where the class is unknown and the loss must not look.
    """

    heatmap: NDArray[np.float32]
    offsets: NDArray[np.float32]
    weight: NDArray[np.float32]


def draw_targets(points: FloatArray, grades: list[Grade | None], size: tuple[int, int], radius: float) -> Targets:
    """Draw discs of radius R around the keypoints of one structure.

    A pixel belongs to its nearest keypoint, so close discs never overlap. A keypoint of unknown class is drawn into no channel
    and its disc gets weight 0 (reading 20).

    Parameters
    ----------
    points
        (K, 2) column and row, pixel centres at integers; they may lie outside the image.
    grades
        K classes, None where unknown.
    size
        (H, W).
    radius
        R in pixels (6 in the paper).

    Raises
    ------
    ValueError
        If the numbers differ, a point is not finite or R is not positive.
    """
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    if len(points) != len(grades):
        raise ValueError(f"{len(points)} points but {len(grades)} grades")
    if not np.isfinite(points).all() or not radius > 0:
        raise ValueError("points must be finite and the radius positive")
    height, width = size
    heatmap = np.zeros((2, height, width), np.float32)
    offsets = np.zeros((4, height, width), np.float32)
    weight = np.ones((height, width), np.float32)
    nearest = np.full((height, width), np.inf)
    for (x, y), grade in zip(points, grades, strict=True):
        rows = slice(max(0, int(np.ceil(y - radius))), max(0, min(height, int(np.floor(y + radius)) + 1)))
        columns = slice(max(0, int(np.ceil(x - radius))), max(0, min(width, int(np.floor(x + radius)) + 1)))
        dx = x - np.arange(columns.start, columns.stop)[None, :]
        dy = y - np.arange(rows.start, rows.stop)[:, None]
        distance = np.hypot(dx, dy)
        mine = (distance <= radius) & (distance < nearest[rows, columns])
        nearest[rows, columns][mine] = distance[mine]
        weight[rows, columns][mine] = 0.0 if grade is None else 1.0
        heatmap[:, rows, columns][:, mine] = 0.0
        offsets[:, rows, columns][:, mine] = 0.0
        if grade is not None:
            channel = GRADES.index(grade)
            heatmap[channel, rows, columns][mine] = 1.0
            offsets[2 * channel, rows, columns][mine] = np.broadcast_to(dx, distance.shape)[mine] / radius
            offsets[2 * channel + 1, rows, columns][mine] = np.broadcast_to(dy, distance.shape)[mine] / radius
    return Targets(heatmap, offsets, weight)
