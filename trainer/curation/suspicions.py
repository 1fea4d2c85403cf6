"""What looks wrong in an exam of any data set: distances, the image, the place of the slice. Nothing is changed here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from spineone_core.anatomy import DISCS, UPPER_DISC
from spineone_core.arrays import FloatArray
from trainer.datasets.exam import Exam
from trainer.datasets.sdid_points import LEVELS

# Annotated exams have neighbouring discs 36.6 mm apart with a standard deviation of 2.5; this allows four of those.
DISC_STEP_MM = (26.6, 46.6)
# In real annotations neighbouring steps differ by a factor of .58 to 1.76.
STEP_RATIO = 2.0
BORDER_MM = 3.0
OFF_MIDDLE_MM = 15.0


def suspicions(exam: Exam) -> list[str]:
    """A sentence for each thing that a person should look at."""
    points = {level: _millimetres(exam, level) for level in LEVELS if level in exam.points}
    found = [*_image(exam), *_border(exam)]
    if exam.centroids:
        found += [*_disc_steps(points), *_step_ratios(points)]
    if all(exam.grades.get(level) is None for level in exam.points) and exam.centroids:
        found.append("no class is known")
    return found


def image_digest(exam: Exam) -> str:
    """SHA-256 of the annotated slice's values; exams with the same digest show the same picture."""
    return hashlib.sha256(np.ascontiguousarray(exam.volume.voxels[exam.slice_index]).tobytes()).hexdigest()


def _millimetres(exam: Exam, level: str) -> FloatArray:
    between_rows, between_columns = exam.volume.pixel_spacing
    return np.array(exam.points[level]) * [between_columns, between_rows]


def _disc_steps(points: dict[str, FloatArray]) -> Iterator[str]:
    discs = [UPPER_DISC, *DISCS]
    for above, below in pairwise(discs):
        if above in points and below in points:
            step = float(np.linalg.norm(points[below] - points[above]))
            if not DISC_STEP_MM[0] <= step <= DISC_STEP_MM[1]:
                yield f"{above} and {below} are {step:.1f} mm apart; usual are {DISC_STEP_MM[0]} to {DISC_STEP_MM[1]}"


def _step_ratios(points: dict[str, FloatArray]) -> Iterator[str]:
    for first, second, third in zip(LEVELS, LEVELS[1:], LEVELS[2:], strict=False):
        if {first, second, third} <= set(points):
            above, below = (float(np.linalg.norm(points[b] - points[a])) for a, b in ((first, second), (second, third)))
            if max(above, below) > STEP_RATIO * max(min(above, below), 1e-6):
                yield f"the steps {first} to {second} and on to {third} are {above:.1f} and {below:.1f} mm"


def _image(exam: Exam) -> Iterator[str]:
    volume = exam.volume
    low, high = np.percentile(volume.voxels[exam.slice_index], (0.5, 99.5))
    if high <= low:
        yield "the annotated slice is blank"
    away = abs(volume.positions[exam.slice_index] - volume.positions[volume.middle_index])
    if away > OFF_MIDDLE_MM:
        yield f"the annotated slice lies {away:.0f} mm from the middle of the series"
    if abs(volume.normal[0]) < 0.8:
        yield "the slices are not sagittal"


def _border(exam: Exam) -> Iterator[str]:
    rows, columns = exam.volume.voxels.shape[1:]
    between_rows, between_columns = exam.volume.pixel_spacing
    near = []
    for level, (x, y) in exam.points.items():
        edge = min(min(x, columns - 1 - x) * between_columns, min(y, rows - 1 - y) * between_rows)
        if edge < BORDER_MM:
            near.append(level)
    if near:
        yield f"within {BORDER_MM:g} mm of the image's border: {', '.join(near)}"
