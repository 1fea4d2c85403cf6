"""Crops around keypoints, turned along the spine: what the grading networks see, in training and at work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.arrays import FloatArray
from spineone_core.detection.preprocessing import (
    Grid,
    make_grid,
    normalise,
    orientation_of,
    resample,
    stack_indices,
)
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.grading import GradingConfig


def rows_of(structure: Structure) -> list[int]:
    """Places of a structure's five levels in the reading order, top to bottom."""
    return [row for row, landmark in enumerate(READING_ORDER) if landmark.structure is structure]


def slices_around(volume: SagittalVolume, middle: int, config: GradingConfig) -> list[int]:
    """The slices whose crops are graded, each once; a stack with fewer slices has fewer."""
    return sorted(set(stack_indices(volume, middle, config.slices, config.slice_step_mm)))


def pictures_around(
    volume: SagittalVolume, indices: Sequence[int], spacing_mm: float
) -> tuple[NDArray[np.float32], Grid]:
    """(n, H, W) slices as the network sees them, posterior right and inferior down, and the way back to source pixels."""
    grid, orientation = make_grid(volume, spacing_mm), orientation_of(volume)
    planes = {index: resample(volume.voxels[index], orientation, grid) for index in set(indices)}
    return np.stack([planes[index] for index in indices]), grid


def directions_along(points: FloatArray) -> FloatArray:
    """(10, 2) unit vectors down the spine at each keypoint: from its upper neighbour to its lower one.

    A keypoint without a place (NaN) is passed over; the direction is straight down where fewer than two have one.
    """
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    result = np.tile([0.0, 1.0], (len(points), 1))
    for row in range(len(points)):
        above, below = known[known < row], known[known > row]
        start = above[-1] if len(above) else (row if row in known else None)
        end = below[0] if len(below) else (row if row in known else None)
        if start is not None and end is not None and start != end:
            step = points[end] - points[start]
            result[row] = step / max(float(np.linalg.norm(step)), 1e-6)
    return result


def crop_frames(
    points: FloatArray, directions: FloatArray, config: GradingConfig, *, zoom: FloatArray | float = 1.0
) -> FloatArray:
    """(n, 2, 3) maps from crop (column, row) to picture (column, row), pixel centres at integers.

    Parameters
    ----------
    points, directions
        (n, 2) centres, and unit vectors that point down in the crop, in pixels of ``config.spacing_mm``.
    zoom
        Over 1 shows structures larger; one number or (n,).
    """
    side = config.crop_mm / config.crop_px / config.spacing_mm / np.broadcast_to(zoom, len(points))
    across = np.stack([directions[:, 1], -directions[:, 0]], axis=1)
    linear = np.stack([across, directions], axis=2) * side[:, None, None]
    middle = np.full(2, (config.crop_px - 1) / 2)
    return np.concatenate([linear, (points - linear @ middle)[:, :, None]], axis=2)


def cut_crops(picture: NDArray[np.float32], frames: FloatArray, size: int) -> NDArray[np.float32]:
    """(n, size, size) crops of a picture (H, W), bilinear; outside of it they repeat its border."""
    rows, columns = picture.shape
    u, v = np.meshgrid(np.arange(size), np.arange(size))
    flat = np.stack([u.ravel(), v.ravel(), np.ones(size * size)])
    places = (frames @ flat).transpose(0, 2, 1).reshape(len(frames), size, size, 2)
    grid = torch.from_numpy(((places + 0.5) * 2 / [columns, rows] - 1).astype(np.float32))
    source = torch.from_numpy(picture)[None, None].expand(len(frames), -1, -1, -1)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0].numpy()


def crops_of(volume: SagittalVolume, middle: int, points: FloatArray, config: GradingConfig) -> Tensor:
    """(n, 5, P, P) crops of a structure's levels on up to ``config.slices`` slices around ``middle``.

    They are clipped and z-scored together, so that differences of brightness between levels keep their meaning, however large
    and however dark at its borders the picture is.

    Parameters
    ----------
    points
        (10, 2) column and row in source pixels, in reading order.
    """
    pictures, grid = pictures_around(volume, slices_around(volume, middle, config), config.spacing_mm)
    places = grid.to_grid(points)
    rows = rows_of(config.structure)
    frames = crop_frames(places[rows], directions_along(places)[rows], config)
    return torch.from_numpy(normalise(np.stack([cut_crops(p, frames, config.crop_px) for p in pictures])))
