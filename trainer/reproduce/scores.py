"""The paper's figures for a test set, with bootstrap intervals by patient; each exam is counted only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import Grade, Structure
from trainer.evaluation import metrics
from trainer.evaluation.categories import category_counts
from trainer.evaluation.outcomes import Outcome
from trainer.volumes.evaluation import VolumeOutcome

SAMPLES, LEVEL = 2000, 0.95
Counts = NDArray[np.float64]
STRUCTURES = (Structure.DISC, Structure.VERTEBRA)


@dataclass(frozen=True, slots=True)
class Score:
    """A figure and its 95 % bootstrap interval by patient; ``dropped`` draws held none of a class and do not count in it."""

    value: float
    low: float
    high: float
    dropped: int = 0


def six_scores(outcomes: Sequence[Outcome]) -> list[Score]:
    """Macro recall, precision and F1 of discs and of vertebrae as Section IV-B counts them (Tables I, III, IV).

    Means are over the classes that occur, NaN where none does; a bootstrap draw without one of these classes is dropped.
    """
    scores = []
    for structure in STRUCTURES:
        present = metrics.occurring(outcomes, structure)
        counts = np.array([_class_counts(outcome, structure, present) for outcome in outcomes], dtype=float)
        counts = counts.reshape(len(outcomes), len(present), 4)  # (exams, class, TP FP FN true)
        for figure in (_recall, _precision, _f1):
            scores.append(score(outcomes, counts, figure))
    return scores


def micro_precision(outcomes: Sequence[Outcome]) -> Score:
    """The score of Table II: TP over all outputs, where those beyond 6 mm count as false (reading 3)."""
    counts = np.array([_micro_counts(outcome) for outcome in outcomes])  # (exams, right, outputs)
    return score(outcomes, counts, lambda c: _ratio(c[..., 0], c[..., 1]))


def category_precision(outcomes: Sequence[Outcome]) -> Score:
    """The same over the seven categories of the competition."""
    counts = np.array([category_counts(outcome) for outcome in outcomes], dtype=float)
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
        A function of counts (samples, ...) -> (samples,); NaN where a draw has not all that it is a figure of.
    """
    patients = sorted({outcome.patient for outcome in outcomes})
    place = np.array([patients.index(outcome.patient) for outcome in outcomes])
    by_patient = np.zeros((len(patients), *counts.shape[1:]))
    np.add.at(by_patient, place, counts)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=SAMPLES)
    drawn = figure(np.tensordot(weights.astype(float), by_patient, axes=1))
    kept = drawn[np.isfinite(drawn)]
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(kept) else (np.nan, np.nan)
    value = float(figure(by_patient.sum(axis=0)[None])[0])
    return Score(value, float(low), float(high), SAMPLES - len(kept))


def remarks(outcomes: Sequence[Outcome]) -> str:
    """What a row's means leave out, in words: classes that do not occur with their false calls; empty if both classes occur."""
    found = []
    for structure in STRUCTURES:
        for grade, calls in metrics.false_calls(outcomes, structure).items():
            found.append(f"no {structure} is truly {grade}: not in the means; called so {calls} times")
    return "; ".join(found)


def dropped_draws(scores: Sequence[Score]) -> str:
    """How many bootstrap draws lacked a class, in words; empty if none did."""
    most = max(score.dropped for score in scores)
    return f"{most} of {SAMPLES} draws lack a class and are left out" if most else ""


def _class_counts(outcome: Outcome, structure: Structure, present: Sequence[Grade]) -> list[tuple[int, int, int, int]]:
    figures, true = metrics.class_figures([outcome], structure), metrics.true_counts([outcome], structure)
    return [(figures[grade].tp, figures[grade].fp, figures[grade].fn, true[grade]) for grade in present]


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
    """(samples, class, TP FP FN true) -> (samples,), the mean over classes."""
    return _class_mean(_ratio(counts[..., 0], counts[..., 0] + counts[..., 1]), counts)


def _recall(counts: Counts) -> Counts:
    return _class_mean(_ratio(counts[..., 0], counts[..., 0] + counts[..., 2]), counts)


def _f1(counts: Counts) -> Counts:
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    return _class_mean(_ratio(2 * tp, 2 * tp + fp + fn), counts)


def _class_mean(values: Counts, counts: Counts) -> Counts:
    """The mean over classes; NaN where there is no class, or a draw has no keypoint of one."""
    if not values.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    return np.where((counts[..., 3] > 0).all(axis=-1), values.mean(axis=-1), np.nan)
