"""Exams and phantoms as training pictures: oriented, at a fine spacing, normalised by the same function as at work.

They are kept in memory with 16 bits a pixel.
"""

from __future__ import annotations

import numpy as np

from spineone_core.anatomy import UPPER_DISC
from spineone_core.detection.preprocessing import (
    PreprocessingConfig,
    make_grid,
    normalise,
    orientation_of,
    resample,
    stack_indices,
    used_slices,
)
from trainer.datasets.categories import categories_of
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
    uses = {c: used_slices(volume, c, preprocessing)[1] for c in centres}
    needed = {index for used in uses.values() for index in used}
    planes = {index: resample(volume.voxels[index], orientation, grid) for index in needed}
    above = grid.to_grid(np.array([exam.points[UPPER_DISC]] if UPPER_DISC in exam.points else np.zeros((0, 2))))
    pictures = []
    for centre in centres:
        # At work, the grey values of all slices that are analysed together count.
        seen = dict(zip(uses[centre], normalise(np.stack([planes[i] for i in uses[centre]])), strict=True))
        stack = stack_indices(volume, centre, preprocessing.slices, preprocessing.slice_step_mm)
        images = np.stack([seen[i] for i in stack]).astype(np.float16)
        pictures.append(Picture(images, spacing, points, exam.grade_row, above, categories_of(exam)))
    return pictures


def _cache_spacing(spacing_mm: float) -> float:
    """A little finer than the network's pixels, so that zoom and rotation lose nothing that it could see."""
    return spacing_mm * 0.7
