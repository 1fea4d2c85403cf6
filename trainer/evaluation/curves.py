"""What probabilities and confidences are worth: reliability bins, and risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import Structure
from spineone_core.arrays import FloatArray
from trainer.evaluation.metrics import HIT_MM, annotated_rows, errors_mm
from trainer.evaluation.outcomes import Outcome


class Bin(NamedTuple):
    """A bin of predicted probabilities: their mean, the observed share of degenerative, and the number of keypoints."""

    predicted: float
    observed: float
    keypoints: int


def reliability(probabilities: FloatArray, labels: FloatArray, bins: int = 10) -> list[Bin]:
    """The bins of equal width that are not empty, from low to high."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        Bin(float(probabilities[index == b].mean()), float(labels[index == b].mean()), int((index == b).sum()))
        for b in range(bins)
        if (index == b).any()
    ]


class RiskCoverage(NamedTuple):
    """``risk[i]`` is the share of misses among the ``coverage[i]`` most confident; ``area`` lies under the curve, 0 at best."""

    coverage: FloatArray
    risk: FloatArray
    area: float


def risk_coverage(confidences: FloatArray, missed: NDArray[np.bool_]) -> RiskCoverage:
    """The risk if only the more confident predictions are kept (Geifman and El-Yaniv, 2017); equal confidences stay together.

    Parameters
    ----------
    confidences, missed
        (N,), one for each prediction; a refusal has confidence 0 and is a miss.
    """
    if not len(confidences):
        return RiskCoverage(np.zeros(0), np.zeros(0), float("nan"))
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences = confidences[order]
    misses = np.cumsum(missed[order])
    count = np.arange(1, len(order) + 1)
    last_of_tie = np.append(np.diff(sorted_confidences) != 0, True)
    coverage, risk = (count / len(order))[last_of_tie], (misses / count)[last_of_tie]
    widths = np.diff(np.append(0.0, coverage))
    return RiskCoverage(coverage, risk, float((risk * widths).sum()))


def confidences_and_misses(
    outcomes: Sequence[Outcome], structure: Structure | None = None, distance_mm: float = HIT_MM
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """For every annotated keypoint its confidence, and whether it was missed by more than the distance at its level."""
    confidences = []
    for outcome in outcomes:
        rows = annotated_rows(outcome, structure)
        known = outcome.confidences
        confidences.append(np.zeros(len(rows)) if outcome.predicted is None or known is None else known[rows])
    joined = np.concatenate(confidences) if confidences else np.zeros(0)
    return joined, errors_mm(outcomes, structure) > distance_mm


def ordering(confidences: FloatArray, missed: NDArray[np.bool_]) -> float:
    """The chance that a hit is more confident than a miss (area under the ROC curve); NaN without hits or without misses."""
    hits, misses = confidences[~missed], confidences[missed]
    if not len(hits) or not len(misses):
        return float("nan")
    greater = (hits[:, None] > misses[None]).mean()
    return float(greater + 0.5 * (hits[:, None] == misses[None]).mean())
