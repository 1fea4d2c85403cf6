"""Exams and phantoms as training pictures, oriented and at a fine spacing, which are kept in memory as 8-bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import UPPER_DISC
from spineone_core.detection.preprocessing import (
    CLIP_PERCENTILES,
    PreprocessingConfig,
    make_grid,
    orientation_of,
    resample,
    stack_indices,
)
from trainer.datasets.exam import Exam
from trainer.samples.augmentation import Picture


def pictures_of(exam: Exam, preprocessing: PreprocessingConfig, reach_mm: float) -> list[Picture]:
    """One picture for each slice within ``reach_mm`` of the annotated one, the annotated slice first.

    The keypoints are annotated on one slice; a few millimetres beside it, the spine lies at the same place.
    """
    volume = exam.volume
    spacing = _cache_spacing(preprocessing.spacing_mm)
    grid, orientation = make_grid(volume, spacing), orientation_of(volume)
    points = grid.to_grid(exam.point_array)
    distance = np.abs(volume.positions - volume.positions[exam.slice_index])
    centres = [int(i) for i in np.argsort(distance, kind="stable") if distance[i] <= reach_mm]
    stacks = [stack_indices(volume, c, preprocessing.slices, preprocessing.slice_step_mm) for c in centres]
    needed = sorted({index for stack in stacks for index in stack})
    planes = dict(zip(needed, _to_bytes([resample(volume.voxels[i], orientation, grid) for i in needed]), strict=True))
    above = grid.to_grid(np.array([exam.points[UPPER_DISC]] if UPPER_DISC in exam.points else np.zeros((0, 2))))
    return [Picture(np.stack([planes[i] for i in stack]), spacing, points, exam.grade_row, above) for stack in stacks]


def _cache_spacing(spacing_mm: float) -> float:
    """A little finer than the network's pixels, so that zoom and rotation lose nothing that it could see."""
    return spacing_mm * 0.7


def _to_bytes(planes: Sequence[NDArray[np.float32]]) -> list[NDArray[np.uint8]]:
    low, high = np.percentile(np.stack(planes), CLIP_PERCENTILES)
    return [(np.clip((p - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8) for p in planes]
