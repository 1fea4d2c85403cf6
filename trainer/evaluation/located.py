"""Exams graded where the detector finds their levels, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from spineone_core.arrays import FloatArray
from spineone_core.detection.crops import crops_of, rows_of
from spineone_core.detection.keypoints import Refusal, find_keypoints
from spineone_core.detection.model_package import ModelPackage
from spineone_core.network.grading import GradingConfig, GradingLogits, class_logits
from trainer.datasets.exam import Exam
from trainer.datasets.gradings import SpineGradings
from trainer.evaluation.grades import Judged
from trainer.evaluation.metrics import HIT_MM
from trainer.evaluation.outcomes import in_plane_mm
from trainer.samples.graded import targets_of

# Logits of one spine by output, as lists: `spineone_core.network.grading.GradingLogits` without the batch.
Grades = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class LocatedExam:
    """An exam to be graded where the detector found its levels.

    ``points`` (10, 2) are column and row in source pixels of slice ``slice_index``, None where the detector refused.
    """

    exam: Exam
    gradings: SpineGradings
    points: FloatArray | None
    slice_index: int

    @property
    def found(self) -> NDArray[np.bool_]:
        """(10,) whether the point lies within 6 mm of the true one."""
        if self.points is None:
            return np.zeros(10, dtype=bool)
        volume = self.exam.volume
        away = in_plane_mm(volume, self.points) - in_plane_mm(volume, self.exam.point_array)
        near: NDArray[np.bool_] = np.linalg.norm(away, axis=1) <= HIT_MM
        return near

    def crops(self, config: GradingConfig) -> Tensor:
        """What the network of a structure sees, as at work."""
        assert self.points is not None
        return crops_of(self.exam.volume, self.slice_index, self.points, config)


def locate_exam(exam: Exam, gradings: SpineGradings, package: ModelPackage) -> LocatedExam:
    """The exam with the points that the package's detector finds in it, as it would at work."""
    (found,) = find_keypoints(
        [exam.volume], package.network, package.manifest, torch.device("cpu"), domain=package.domain
    )
    if isinstance(found, Refusal):
        return LocatedExam(exam, gradings, None, exam.volume.middle_index)
    return LocatedExam(
        exam,
        gradings,
        np.array([(keypoint.x, keypoint.y) for keypoint in found.keypoints]),
        found.prepared.slice_index,
    )


@torch.inference_mode()
def grade(network: nn.Module, crops: Tensor) -> Grades:
    """The logits for one spine: the mean over its slices (n, 5, P, P)."""
    logits: GradingLogits = network(crops)
    return {name: part.mean(dim=0).tolist() for name, part in logits._asdict().items()}


def judged_of(
    located: Sequence[LocatedExam],
    grades: Mapping[str, Grades],
    config: GradingConfig,
    folds: Mapping[str, int],
    discs: Mapping[str, Grades] | None = None,
) -> Judged:
    """The levels of the exams, exam by exam and top to bottom, not calibrated yet.

    Parameters
    ----------
    grades
        Logits by exam; exams that the detector refused have none and count as missed.
    folds
        Patient -> fold; 0 for a patient who is in none.
    discs
        Logits of the discs by exam, for vertebrae whose class is joined with these.
    """
    parts = []
    for one in located:
        exam_id = one.exam.exam_id
        parts.append(_judged(one, grades.get(exam_id), config, folds, None if discs is None else discs.get(exam_id)))
    return _stacked(parts)


def _judged(
    one: LocatedExam,
    grades: Grades | None,
    config: GradingConfig,
    folds: Mapping[str, int],
    discs: Grades | None,
) -> Judged:
    targets, rows = targets_of(one.exam, one.gradings, config.structure), rows_of(config.structure)
    blank = GradingLogits(torch.zeros(5), torch.zeros(targets.above.shape), torch.zeros(targets.signs.shape))
    if grades is None:
        logits, raw = blank, np.full(5, 0.5)
    else:
        logits, beside = _tensors(grades), None if discs is None else _tensors(discs)
        raw = torch.sigmoid(class_logits(logits, config, beside)).double().numpy()
    return Judged(
        patients=np.full(5, one.exam.patient),
        folds=np.full(5, folds.get(one.exam.patient, 0)),
        found=one.found[rows] & np.full(5, grades is not None),
        labels=targets.direct,
        raw=raw,
        probabilities=raw,
        decided=np.zeros(5, dtype=bool),
        above=targets.above,
        said_above=expit(logits.above.double().numpy()),
        signs=targets.signs,
        said_signs=expit(logits.signs.double().numpy()),
    )


def _tensors(grades: Grades) -> GradingLogits:
    return GradingLogits(*(torch.tensor(grades[name]) for name in GradingLogits._fields))


def _stacked(parts: Sequence[Judged]) -> Judged:
    return Judged(*(np.concatenate([getattr(part, name) for part in parts]) for name in Judged.__dataclass_fields__))
