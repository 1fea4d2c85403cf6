"""Platt scaling of class probabilities on exams kept for it, and how good it is (expected calibration error)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.metrics import HIT_MM, Outcome
from spineone_core.model_package import Calibration


def labelled_probabilities(
    outcomes: Sequence[Outcome], structure: Structure
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(probability, 1 for degenerative) of every keypoint of known class that was found within 6 mm at its level."""
    probabilities, labels = [], []
    for outcome in outcomes:
        if outcome.predicted is None or outcome.probabilities is None:
            continue
        for row, landmark in enumerate(READING_ORDER):
            grade = outcome.grades[row]
            found = np.linalg.norm(outcome.predicted[row] - outcome.truth[row]) <= HIT_MM
            if landmark.structure is structure and grade is not None and found:
                probabilities.append(outcome.probabilities[row])
                labels.append(float(grade is Grade.DEGENERATIVE))
    return np.array(probabilities), np.array(labels)


def fit_platt(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> Calibration:
    """Slope and intercept of least log loss, with Platt's smoothed targets and a weak pull to the identity.

    Raises
    ------
    ValueError
        If there are fewer than ten keypoints or only one class.
    """
    if len(labels) < 10 or len(set(labels.tolist())) < 2:
        raise ValueError(f"{len(labels)} keypoints of {len(set(labels.tolist()))} classes are too few to calibrate on")
    clipped = np.clip(probabilities, 1e-4, 1 - 1e-4)
    logits = np.log(clipped / (1 - clipped))
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: NDArray[np.float64]) -> float:
        z = parameters[0] * logits + parameters[1]
        fit = np.mean(np.logaddexp(0, z) - targets * z)
        return float(fit + 1e-3 * ((parameters[0] - 1) ** 2 + parameters[1] ** 2))

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return Calibration(slope=round(float(slope), 4), intercept=round(float(intercept), 4))


def expected_calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.float64], bins: int = 10
) -> float:
    """Mean gap of confidence and frequency over equal-width bins, weighted by their counts."""
    if not len(labels):
        return float("nan")
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [
        abs(probabilities[index == b].mean() - labels[index == b].mean()) * (index == b).sum()
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps) / len(labels))
