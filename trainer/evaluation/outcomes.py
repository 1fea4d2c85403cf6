"""What the detector makes of annotated exams, beside the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from spineone_core.anatomy import READING_ORDER, Grade
from spineone_core.arrays import FloatArray
from spineone_core.detection.grading import Grading
from spineone_core.detection.keypoints import FoundKeypoints, Refusal, find_keypoints
from spineone_core.detection.model_package import Manifest
from spineone_core.detection.views import InferenceOptions
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.domain import DomainNetwork
from spineone_core.network.spineone import SpineOne
from trainer.datasets.categories import Categories, categories_of
from trainer.datasets.exam import Exam


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Truth and prediction of one exam.

    ``truth`` and ``predicted`` (10, 2) are column and row in mm, in reading order. ``truth`` is NaN at a level that is not
    annotated, which no figure counts. ``predicted`` is None where the detector refused, and NaN at a level that was not found
    where nothing is refused. ``grades`` are None where unknown.
    ``probabilities`` (10,) are those of degenerative, ``confidences`` (10,) those of localisation, None where not kept.
    ``refusal`` is the coded reason of a refusal. ``true_categories`` are as in `trainer.datasets.categories`, ``categories``
    (10,) the channels that were said, None where not kept.
    """

    exam_id: str
    patient: str
    truth: FloatArray
    grades: tuple[Grade | None, ...]
    predicted: FloatArray | None
    probabilities: FloatArray | None
    confidences: FloatArray | None = None
    refusal: str = ""
    true_categories: Categories = (None,) * len(READING_ORDER)
    categories: NDArray[np.intp] | None = None


def outcomes_of(
    network: SpineOne,
    manifest: Manifest,
    exams: Iterable[Exam],
    device: torch.device,
    domain: DomainNetwork | None = None,
    *,
    grading: Grading | None = None,
    batch: int = 1,
) -> list[Outcome]:
    """One outcome for each exam. Distances are within the plane of the slice, though the prediction may lie on another slice.

    ``grading`` as in `spineone_core.detection.keypoints.find_keypoints`. So many exams are read at a time as ``batch`` says.
    """
    found = []
    for together in _groups(exams, batch):
        volumes = [exam.volume for exam in together]
        keypoints = find_keypoints(volumes, network, manifest, device, domain=domain, grading=grading)
        found += [_outcome(exam, one) for exam, one in zip(together, keypoints, strict=True)]
    return found


def _groups(exams: Iterable[Exam], most: int) -> Iterator[list[Exam]]:
    waiting = iter(exams)
    while group := list(islice(waiting, most)):
        yield group


def outcome_of(
    network: SpineOne,
    manifest: Manifest,
    exam: Exam,
    device: torch.device,
    domain: DomainNetwork | None = None,
    *,
    grading: Grading | None = None,
    options: InferenceOptions | None = None,
) -> Outcome:
    """The outcome of one exam; a refusal counts as ten misses. ``options`` say how the network is run."""
    (found,) = find_keypoints([exam.volume], network, manifest, device, domain=domain, grading=grading, options=options)
    return _outcome(exam, found)


def _outcome(exam: Exam, found: FoundKeypoints | Refusal) -> Outcome:
    truth, grades, true = in_plane_mm(exam.volume, exam.point_array), exam.grade_row, categories_of(exam)
    if isinstance(found, Refusal):
        reason = found.error.reason.value
        return Outcome(exam.exam_id, exam.patient, truth, grades, None, None, refusal=reason, true_categories=true)
    return Outcome(
        exam.exam_id,
        exam.patient,
        truth,
        grades,
        in_plane_mm(exam.volume, np.array([(keypoint.x, keypoint.y) for keypoint in found.keypoints])),
        np.array([keypoint.probability for keypoint in found.keypoints]),
        np.array([keypoint.confidence for keypoint in found.keypoints]),
        true_categories=true,
        categories=np.array([candidate.category for candidate in found.chain.candidates]),
    )


def in_plane_mm(volume: SagittalVolume, points: FloatArray) -> FloatArray:
    """(..., 2) column and row in source pixels -> mm along the row and column directions."""
    between_rows, between_columns = volume.pixel_spacing
    return points * np.array([between_columns, between_rows])
