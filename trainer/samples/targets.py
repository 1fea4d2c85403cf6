"""Ground-truth maps: the OCPC heatmap (Eq. 1), the conventional ones (Section III-C) and the short-range offsets (Eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import Grade
from spineone_core.arrays import FloatArray
from spineone_core.network.config import CLASS_HEATMAPS, HEATMAPS, LEVELS

GRADES: tuple[Grade, ...] = (Grade.NORMAL, Grade.DEGENERATIVE)
# Two keypoints of one structure are about 36 mm apart and R is 2.6 mm in the paper, so 7 R end half way to the next.
KNOWN_RADII = 7.0


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Maps of one structure.

    ``heatmap`` (C, H, W) is 0 or 1. For OCPC, C = 2: normal and degenerative; for the conventional heatmap, C = 7: five levels
    from top to bottom and two classes; for levels, C = 5. ``offsets`` (2 L, H, W) are those of the first L channels in units of
    R, in the layout (channel, xy). ``weight`` (H, W) or (C, H, W) is 0 where the loss must not look.
    """

    heatmap: NDArray[np.float32]
    offsets: NDArray[np.float32]
    weight: NDArray[np.float32]


def draw_targets(
    points: FloatArray,
    grades: Sequence[Grade | None],
    size: tuple[int, int],
    radius: float,
    *,
    heatmap: str = "ocpc",
    ignored: FloatArray | None = None,
    categories: tuple[Sequence[int | None], int] | None = None,
) -> Targets:
    """Draw discs of radius R around the keypoints of one structure.

    A pixel belongs to its nearest keypoint, so discs never overlap. The disc of a keypoint whose class is unknown is in no
    class channel, and its weight there is 0 (reading 20); its level channel is known.

    Parameters
    ----------
    points
        (K, 2) column and row, pixel centres at integers; they may lie outside the image. For levels there
        are five, from top to bottom. NaN marks a level that is not annotated: then only the surroundings of the other
        keypoints are known, and the weight is 0 farther than ``KNOWN_RADII`` R from them.
    grades
        K classes, None where unknown.
    size
        (H, W).
    radius
        R in pixels (6 in the paper).
    heatmap
        ``ocpc``, ``conventional``, ``levels`` or ``categories`` (see ``HEATMAPS`` in `spineone_core.network.config`).
    ignored
        (J, 2) keypoints that are neither target nor background, so that their weight is 0: T12-L1 with ``ignore`` (reading 18).
    categories
        For the heatmap ``categories``: K channels, None where unknown, and how many channels there are.

    Raises
    ------
    ValueError
        If there are not as many classes as points, a point is infinite, R is not positive, the heatmap is unknown, or it is
        ``categories`` and there are none.
    """
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    left_out = np.zeros((0, 2)) if ignored is None else np.asarray(ignored, dtype=float).reshape(-1, 2)
    _check(points, grades, radius, heatmap, left_out)
    if (heatmap == "categories") != (categories is not None):
        raise ValueError(f"heatmap {heatmap!r} and categories {categories}; one needs the other")
    owner, dx, dy = _nearest(np.concatenate([points, left_out]), size, radius)
    channels, located = HEATMAPS[heatmap]
    classes: Sequence[int | None] = [None if grade is None else GRADES.index(grade) for grade in grades]
    if categories is not None:
        classes, channels, located = categories[0], categories[1], categories[1]
    heat = np.zeros((channels, *size), np.float32)
    offsets = np.zeros((2 * located, *size), np.float32)
    weight = np.ones((channels, *size), np.float32)
    first_class = {"levels": channels, "conventional": LEVELS}.get(heatmap, 0)
    weight[:, owner >= len(points)] = 0.0
    if np.isnan(points).any():
        weight[:, _nearest(points, size, KNOWN_RADII * radius)[0] < 0] = 0.0
    for k, class_channel in enumerate(classes):
        mine = owner == k
        drawn = _channels(k, class_channel, heatmap)
        for channel in drawn:
            heat[channel][mine] = 1.0
        if drawn and drawn[0] < located:
            offsets[2 * drawn[0]][mine] = dx[mine] / radius
            offsets[2 * drawn[0] + 1][mine] = dy[mine] / radius
        if class_channel is None:
            weight[first_class:, mine] = 0.0
    return Targets(heat, offsets, weight if heatmap == "conventional" else weight[0])


def _channels(k: int, class_channel: int | None, heatmap: str) -> list[int]:
    """The channels into which keypoint ``k`` is drawn; the one with its offset comes first."""
    if heatmap in CLASS_HEATMAPS:
        return [] if class_channel is None else [class_channel]
    if heatmap == "levels" or class_channel is None:
        return [k]
    return [k, LEVELS + class_channel]


def _check(
    points: FloatArray, grades: Sequence[Grade | None], radius: float, heatmap: str, ignored: FloatArray
) -> None:
    if len(points) != len(grades):
        raise ValueError(f"{len(points)} points but {len(grades)} grades")
    if np.isinf(points).any() or not np.isfinite(ignored).all() or not radius > 0:
        raise ValueError(f"points must be finite (NaN: not annotated) and the radius positive, not {radius}")
    if heatmap not in HEATMAPS:
        raise ValueError(f"heatmap {heatmap!r}; allowed: {', '.join(HEATMAPS)}")
    if heatmap not in CLASS_HEATMAPS and len(points) != LEVELS:
        raise ValueError(f"{len(points)} points; the {heatmap} heatmap needs five, top to bottom")


def _nearest(
    points: FloatArray, size: tuple[int, int], radius: float
) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:
    """For each pixel (H, W) the nearest keypoint within R (-1 for none), and the way to it in pixels (Eq. 2)."""
    height, width = size
    owner = np.full(size, -1, dtype=np.intp)
    nearest = np.full(size, np.inf)
    way_x, way_y = np.zeros(size), np.zeros(size)
    for k, (x, y) in enumerate(points):
        if np.isnan(x) or np.isnan(y):
            continue
        rows = slice(max(0, int(np.ceil(y - radius))), max(0, min(height, int(np.floor(y + radius)) + 1)))
        columns = slice(max(0, int(np.ceil(x - radius))), max(0, min(width, int(np.floor(x + radius)) + 1)))
        dx = x - np.arange(columns.start, columns.stop)[None, :]
        dy = y - np.arange(rows.start, rows.stop)[:, None]
        distance = np.hypot(dx, dy)
        mine = (distance <= radius) & (distance < nearest[rows, columns])
        nearest[rows, columns][mine] = distance[mine]
        owner[rows, columns][mine] = k
        way_x[rows, columns][mine] = np.broadcast_to(dx, distance.shape)[mine]
        way_y[rows, columns][mine] = np.broadcast_to(dy, distance.shape)[mine]
    return owner, way_x, way_y
