"""Graded exams as training samples: crops at true points with jitter, and the targets of class, Pfirrmann grade and signs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import DISCS, READING_ORDER, UPPER_DISC, Grade, Structure
from spineone_core.arrays import FloatArray
from spineone_core.detection.crops import crop_frames, cut_crops, directions_along, pictures_around, rows_of
from spineone_core.detection.preprocessing import CLIP_PERCENTILES
from spineone_core.network.grading import DISC_SIGNS, PFIRRMANN_GRADES, SIGNS, GradingConfig
from trainer.datasets.exam import Exam
from trainer.datasets.gradings import DiscGrading, SpineGradings
from trainer.samples.appearance import AppearanceConfig, change_appearance


@dataclass(frozen=True, slots=True, kw_only=True)
class CropChanges(AppearanceConfig):
    """Random changes of crops: ``jitter_mm`` (sigma of the centre), ``rotation_deg`` (sigma), ``zoom`` (range); appearance."""

    jitter_mm: float = 0.0
    rotation_deg: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class GradeTargets:
    """What is to be learned of a structure's five levels; NaN where unknown.

    ``direct`` (5,) is 1 for degenerative, ``above`` (5, 4) is 1 where the Pfirrmann grade is over 1, 2, 3, 4 (no columns for
    vertebrae), ``signs`` (5, n) are in the order of ``spineone_core.network.grading.SIGNS``.
    """

    direct: FloatArray
    above: FloatArray
    signs: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class GradedExam:
    """The slices of an exam near the annotated one, 8-bit at ``spacing_mm``, with points (10, 2) in their pixels and gradings."""

    exam: Exam
    pictures: NDArray[np.uint8]
    spacing_mm: float
    points: FloatArray
    gradings: SpineGradings


def graded_exam(exam: Exam, gradings: SpineGradings, spacing_mm: float, reach_mm: float = 6.0) -> GradedExam:
    """The exam with the slices within ``reach_mm`` of the annotated one, where the spine lies at the same place."""
    distance = np.abs(exam.volume.positions - exam.volume.positions[exam.slice_index])
    near = [int(index) for index in np.flatnonzero(distance <= reach_mm)]
    pictures, grid = pictures_around(exam.volume, near, spacing_mm)
    low, high = np.percentile(pictures, CLIP_PERCENTILES)
    scaled = np.clip((pictures - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return GradedExam(exam, scaled.astype(np.uint8), spacing_mm, grid.to_grid(exam.point_array), gradings)


def targets_of(exam: Exam, gradings: SpineGradings, structure: Structure, soft_bulge: float = 1.0) -> GradeTargets:
    """The targets of a structure; a level without a point has none.

    ``soft_bulge`` is the target of a disc that counts as degenerative for bulging or herniation alone (grade 1 or 2).
    """
    rows, signs = rows_of(structure), SIGNS[structure]
    columns = PFIRRMANN_GRADES - 1 if structure is Structure.DISC else 0
    direct, above = np.full(len(rows), np.nan), np.full((len(rows), columns), np.nan)
    known = np.full((len(rows), len(signs)), np.nan)
    for place, row in enumerate(rows):
        level = READING_ORDER[row].level
        if level not in exam.points:
            continue
        if (grade := exam.grades.get(level)) is not None:
            direct[place] = float(grade is Grade.DEGENERATIVE)
        if structure is Structure.VERTEBRA:
            known[place] = _vertebra_signs(place, gradings)
        elif level in gradings:
            found = gradings[level]
            known[place] = [_sign(found, name) for name in DISC_SIGNS]
            if found.pfirrmann is not None:
                above[place] = [float(found.pfirrmann > k) for k in range(1, PFIRRMANN_GRADES)]
                if direct[place] == 1 and found.pfirrmann <= 2:
                    direct[place] = soft_bulge
    return GradeTargets(direct, above, known)


def _sign(grading: DiscGrading | None, name: str) -> float:
    if grading is None or name not in grading.signs:
        return float("nan")
    return float(grading.signs[name] > 0)


def _vertebra_signs(place: int, gradings: SpineGradings) -> list[float]:
    """At the discs above and below a vertebra, in the order of ``VERTEBRA_SIGNS``.

    The lower endplate of the disc above is the upper endplate of the vertebra.
    """
    discs = (UPPER_DISC, *DISCS)
    upper, lower = gradings.get(discs[place]), gradings.get(discs[place + 1])
    return [
        _sign(upper, "modic"),
        _sign(upper, "lower_endplate"),
        _sign(lower, "modic"),
        _sign(lower, "upper_endplate"),
    ]


def random_crops(
    graded: GradedExam, config: GradingConfig, changes: CropChanges, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(5, P, P) standardised crops of one slice at the true points, each moved, turned and zoomed by itself.

    The grey values of all five change together. A level without a point is shown at the nearest one that has a point; it has
    no target.
    """
    points = _filled(graded.points)
    rows = rows_of(config.structure)
    centres = points[rows] + rng.normal(0, changes.jitter_mm / graded.spacing_mm, (len(rows), 2))
    directions = _turned(directions_along(points)[rows], np.radians(rng.normal(0, changes.rotation_deg, len(rows))))
    zoom = np.exp(rng.uniform(math.log(changes.zoom[0]), math.log(changes.zoom[1]), len(rows)))
    frames = crop_frames(centres, directions, config, zoom=zoom)
    picture = graded.pictures[int(rng.integers(len(graded.pictures)))].astype(np.float32) / 255
    crops = cut_crops(picture, frames, config.crop_px)
    middle = np.full((1, 2), (config.crop_px - 1) / 2)
    return change_appearance(crops, middle, config.crop_mm / config.crop_px, changes, rng)


def _filled(points: FloatArray) -> FloatArray:
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    nearest = [int(known[np.abs(known - row).argmin()]) for row in range(len(points))]
    return points[nearest]


def _turned(directions: FloatArray, angles: FloatArray) -> FloatArray:
    cosine, sine = np.cos(angles), np.sin(angles)
    x, y = directions.T
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)
