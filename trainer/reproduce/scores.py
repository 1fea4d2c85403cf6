"""The paper's figures for a test set, with bootstrap intervals by patient; each exam is counted only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import Grade, Structure
from trainer.evaluation import metrics
from trainer.evaluation.outcomes import Outcome
from trainer.volumes.evaluation import VolumeOutcome

SAMPLES, LEVEL = 2000, 0.95
Counts = NDArray[np.float64]
STRUCTURES = (Structure.DISC, Structure.VERTEBRA)


@dataclass(frozen=True, slots=True)
class Score:
    """A figure and its 95 % bootstrap interval by patient."""

    value: float
    low: float
    high: float


def six_scores(outcomes: Sequence[Outcome]) -> list[Score]:
    """Macro recall, precision and F1 of discs and of vertebrae as Section IV-B counts them (Tables I, III, IV)."""
    scores = []
    for structure in STRUCTURES:
        counts = np.array([_class_counts(outcome, structure) for outcome in outcomes])  # (exams, class, TP FP FN)
        for figure in (_recall, _precision, _f1):
            scores.append(score(outcomes, counts, figure))
    return scores


def micro_precision(outcomes: Sequence[Outcome]) -> Score:
    """The score of Table II: TP over all outputs, where those beyond 6 mm count as false (reading 3)."""
    counts = np.array([_micro_counts(outcome) for outcome in outcomes])  # (exams, right, outputs)
    return score(outcomes, counts, lambda c: _ratio(c[..., 0], c[..., 1]))


def pck_scores(outcomes: Sequence[Outcome], distances_mm: Sequence[int]) -> list[Score]:
    """PCK of all ten keypoints at each distance (Fig. 8; Eq. 8)."""
    totals = np.array([len(metrics.annotated_rows(outcome)) for outcome in outcomes], dtype=float)
    scores = []
    for distance in distances_mm:
        hits = np.array([metrics.pck([outcome], distance) for outcome in outcomes]) * totals
        scores.append(score(outcomes, np.column_stack([hits, totals]), lambda c: _ratio(c[..., 0], c[..., 1])))
    return scores


def detection_score(outcomes: Sequence[VolumeOutcome], distance_mm: float) -> Score:
    """Detection rate over all vertebrae (Table V)."""
    counts = np.array([(outcome.hits(distance_mm), len(outcome.truth)) for outcome in outcomes])
    return score(outcomes, counts, lambda c: _ratio(c[..., 0], c[..., 1]))


def score(
    outcomes: Sequence[Outcome] | Sequence[VolumeOutcome],
    counts: Counts,
    figure: Callable[[Counts], Counts],
    seed: int = 0,
) -> Score:
    """A figure of summed counts; for its interval, patients are drawn with replacement, each with all of their exams.

    Parameters
    ----------
    counts
        (exams, ...).
    figure
        A function of counts (samples, ...) -> (samples,).
    """
    patients = sorted({outcome.patient for outcome in outcomes})
    place = np.array([patients.index(outcome.patient) for outcome in outcomes])
    by_patient = np.zeros((len(patients), *counts.shape[1:]))
    np.add.at(by_patient, place, counts)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=SAMPLES)
    drawn = figure(np.tensordot(weights.astype(float), by_patient, axes=1))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Score(float(figure(by_patient.sum(axis=0)[None])[0]), float(low), float(high))


def _class_counts(outcome: Outcome, structure: Structure) -> list[tuple[int, int, int]]:
    figures = metrics.class_figures([outcome], structure)
    return [(figures[grade].tp, figures[grade].fp, figures[grade].fn) for grade in Grade]


def _micro_counts(outcome: Outcome) -> tuple[int, int]:
    right = outputs = 0
    for structure in STRUCTURES:
        figures = metrics.class_figures([outcome], structure).values()
        right += sum(f.tp for f in figures)
        outputs += sum(f.tp + f.fp for f in figures) + sum(metrics.stray_outputs([outcome], structure).values())
    return right, outputs


def _ratio(a: Counts, b: Counts) -> Counts:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _precision(counts: Counts) -> Counts:
    """(samples, class, TP FP FN) -> (samples,), the mean over classes."""
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 1]).mean(axis=-1)


def _recall(counts: Counts) -> Counts:
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 2]).mean(axis=-1)


def _f1(counts: Counts) -> Counts:
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    return _ratio(2 * tp, 2 * tp + fp + fn).mean(axis=-1)
