"""Keypoints from the labels of a slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from scipy import ndimage

# A piece of a structure below this area (mm^2 on the slice) is only its edge, whose centroid says nothing.
MINIMUM_MM2 = 60.0


def keypoints_of(
    labels: NDArray[Any], spacing: tuple[float, float], level_of_label: Mapping[int, str]
) -> dict[str, tuple[float, float]]:
    """Level -> (column, row) of the centroid of the structure's largest piece on a slice.

    On a middle slice, the body of a vertebra and its spinous process are two pieces with one label; the body is the larger.

    Parameters
    ----------
    labels
        (rows, columns), of one slice.
    spacing
        mm between rows and between columns.
    """
    points = {}
    for label, level in level_of_label.items():
        pieces, count = ndimage.label(labels == label)
        if not count:
            continue
        sizes = ndimage.sum_labels(pieces > 0, pieces, range(1, count + 1))
        if sizes.max() * spacing[0] * spacing[1] >= MINIMUM_MM2:
            row, column = ndimage.center_of_mass(pieces == sizes.argmax() + 1)
            points[level] = (float(column), float(row))
    return points
