"""PCK, every definition of precision, recall and F1, level-strict figures (Section IV-B, Eq. 8; readings 2-4, 19)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.arrays import FloatArray
from trainer.evaluation.outcomes import Outcome

HIT_MM = 6.0


def _rows(structure: Structure | None) -> list[int]:
    return [i for i, landmark in enumerate(READING_ORDER) if structure is None or landmark.structure is structure]


def annotated_rows(outcome: Outcome, structure: Structure | None = None) -> list[int]:
    """Rows in reading order that have a true point."""
    return [row for row in _rows(structure) if np.isfinite(outcome.truth[row]).all()]


def offered_rows(outcome: Outcome, structure: Structure | None = None) -> list[int]:
    """Rows in reading order that have a predicted point: none of a refused exam, not those that were not found."""
    found = outcome.predicted
    return [] if found is None else [row for row in _rows(structure) if np.isfinite(found[row]).all()]


def errors_mm(outcomes: Sequence[Outcome], structure: Structure | None = None) -> FloatArray:
    """The level-strict distance of every annotated keypoint in mm; infinite where it was not found or the exam was refused."""
    parts = []
    for outcome in outcomes:
        rows = annotated_rows(outcome, structure)
        found = outcome.predicted
        if found is None:
            parts.append(np.full(len(rows), np.inf))
        else:
            distances = np.linalg.norm(found[rows] - outcome.truth[rows], axis=1)
            parts.append(np.where(np.isnan(distances), np.inf, distances))
    return np.concatenate(parts) if parts else np.zeros(0)


def errors_by_level(outcome: Outcome) -> dict[str, float]:
    """Level -> level-strict distance in mm, for the annotated levels; infinite if the exam was refused."""
    levels = [READING_ORDER[row].level for row in annotated_rows(outcome)]
    return dict(zip(levels, errors_mm([outcome]).tolist(), strict=True))


def levels_by_nearest(outcomes: Sequence[Outcome], structure: Structure | None = None) -> float:
    """The share of annotated points whose nearest prediction of the same structure has the same level; refused exams have none.

    It needs no exact centroids: points beside the disc (in RSNA 2024, in the canal) still say which level is which.
    """
    right = total = 0
    for outcome in outcomes:
        for s in Structure if structure is None else (structure,):
            rows = annotated_rows(outcome, s)
            offered = offered_rows(outcome, s)
            total += len(rows)
            if outcome.predicted is None or not rows or not offered:
                continue
            distances = np.linalg.norm(outcome.truth[rows][:, None] - outcome.predicted[offered][None], axis=2)
            right += sum(offered[n] == row for n, row in zip(distances.argmin(axis=1), rows, strict=True))
    return right / total if total else 0.0


def pck(outcomes: Sequence[Outcome], distance_mm: float = HIT_MM, structure: Structure | None = None) -> float:
    """The share of keypoints with a prediction of their structure within the distance, one to one, whatever its level (Eq. 8)."""
    hits = total = 0
    for outcome in outcomes:
        for s in Structure if structure is None else (structure,):
            total += len(annotated_rows(outcome, s))
            hits += len(matches(outcome, s, distance_mm))
    return hits / total if total else 0.0


@lru_cache(maxsize=1 << 16)
def matches(outcome: Outcome, structure: Structure, distance_mm: float) -> list[tuple[int, int]]:
    """Pairs (truth row, predicted row) within the distance, one to one, with the least total distance (reading 19)."""
    if outcome.predicted is None:
        return []
    rows, offered = annotated_rows(outcome, structure), offered_rows(outcome, structure)
    if not rows or not offered:
        return []
    distances = np.linalg.norm(outcome.truth[rows][:, None] - outcome.predicted[offered][None], axis=2)
    cost = np.where(distances <= distance_mm, distances, 1e6)
    pairs = zip(*linear_sum_assignment(cost), strict=True)
    return [(rows[a], offered[b]) for a, b in pairs if distances[a, b] <= distance_mm]


def pck_curve(
    outcomes: Sequence[Outcome], distances_mm: Sequence[float] = tuple(range(1, 11)), structure: Structure | None = None
) -> dict[float, float]:
    """PCK at each distance (Fig. 8: 1 to 10 mm)."""
    return {distance: pck(outcomes, distance, structure) for distance in distances_mm}


def all_levels_right(outcomes: Sequence[Outcome], distance_mm: float = HIT_MM) -> float:
    """The share of exams whose annotated keypoints all lie within the distance of the prediction at their level."""
    good = [o.predicted is not None and bool((errors_mm([o]) <= distance_mm).all()) for o in outcomes]
    return float(np.mean(good)) if good else 0.0


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Precision, recall and F1 of one class; TP, FP and FN as the paper counts them."""

    precision: float
    recall: float
    f1: float
    tp: int
    fp: int
    fn: int


def class_figures(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, ClassFigures]:
    """The paper's counts: a hit of the right class is TP, of the wrong class FP of the predicted one, a miss FN (reading 4)."""
    counts = {grade: [0, 0, 0] for grade in Grade}
    for outcome in outcomes:
        matched = dict(matches(outcome, structure, HIT_MM))
        for row in annotated_rows(outcome, structure):
            true = outcome.grades[row]
            if true is None:
                continue
            if row not in matched:
                counts[true][2] += 1
                continue
            said = said_class(outcome, matched[row])
            counts[said][0 if said is true else 1] += 1
    return {grade: _figures(*c) for grade, c in counts.items()}


def true_counts(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, int]:
    """How many annotated keypoints are truly of each class."""
    grades = [outcome.grades[row] for outcome in outcomes for row in annotated_rows(outcome, structure)]
    return {grade: grades.count(grade) for grade in Grade}


def occurring(outcomes: Sequence[Outcome], structure: Structure) -> list[Grade]:
    """The classes that have true keypoints: macro means are over these, as nothing can be right about the others."""
    return [grade for grade, count in true_counts(outcomes, structure).items() if count]


def false_calls(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, int]:
    """How often each class that does not occur was called, at a true keypoint or elsewhere."""
    present, hits = occurring(outcomes, structure), class_figures(outcomes, structure)
    stray = stray_outputs(outcomes, structure)
    return {grade: hits[grade].fp + stray[grade] for grade in Grade if grade not in present}


def class_log_loss(outcomes: Sequence[Outcome]) -> float:
    """The mean over keypoints of known class of -log of the probability given to the true class; NaN if there are none.

    A missed keypoint counts as one half: nothing was said about it.
    """
    given = []
    for outcome in outcomes:
        for structure in Structure:
            matched = dict(matches(outcome, structure, HIT_MM))
            for row in annotated_rows(outcome, structure):
                if outcome.grades[row] is not None:
                    given.append(_probability_of_truth(outcome, row, matched.get(row)))
    return float(-np.log(np.clip(given, 1e-6, 1)).mean()) if given else math.nan


def _probability_of_truth(outcome: Outcome, row: int, found: int | None) -> float:
    if found is None or outcome.probabilities is None:
        return 0.5
    probability = float(outcome.probabilities[found])
    return probability if outcome.grades[row] is Grade.DEGENERATIVE else 1 - probability


def said_class(outcome: Outcome, row: int) -> Grade:
    """The likelier class of a predicted keypoint."""
    assert outcome.probabilities is not None
    return Grade.DEGENERATIVE if outcome.probabilities[row] >= 0.5 else Grade.NORMAL


def confusion(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, dict[str, int]]:
    """True class -> how many were called ``normal`` or ``degenerative``, or ``missed`` (beyond 6 mm or refused); reading 2."""
    table = {grade: dict.fromkeys((*(g.value for g in Grade), "missed"), 0) for grade in Grade}
    for outcome in outcomes:
        matched = dict(matches(outcome, structure, HIT_MM))
        for row in annotated_rows(outcome, structure):
            true = outcome.grades[row]
            if true is not None:
                table[true][said_class(outcome, matched[row]).value if row in matched else "missed"] += 1
    return table


def stray_outputs(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, int]:
    """Outputs that hit no keypoint, by their class: the false positives of reading 3, which Section IV-B does not count."""
    counts = dict.fromkeys(Grade, 0)
    for outcome in outcomes:
        used = {predicted for _, predicted in matches(outcome, structure, HIT_MM)}
        offered = offered_rows(outcome, structure)
        # An output at a level that is not annotated may well be right.
        for row in annotated_rows(outcome, structure):
            if row in offered and row not in used:
                counts[said_class(outcome, row)] += 1
    return counts


def micro_precision(outcomes: Sequence[Outcome], structure: Structure | None = None) -> float:
    """TP / (TP + FP) over all outputs, where those beyond 6 mm count as FP: the score of Table II (reading 3)."""
    right = wrong = 0
    for s in Structure if structure is None else (structure,):
        figures = class_figures(outcomes, s)
        right += sum(f.tp for f in figures.values())
        wrong += sum(f.fp for f in figures.values()) + sum(stray_outputs(outcomes, s).values())
    return right / (right + wrong) if right + wrong else 0.0


def definitions(outcomes: Sequence[Outcome], structure: Structure) -> dict[str, float]:
    """Precision, recall and F1 of a structure by every definition (readings 2 to 4).

    ``paper_``: only hits can be FP and only misses are FN (Section IV-B). ``usual_``: every output counts for precision,
    every true keypoint for recall. ``macro`` is the mean of the classes that occur, ``micro`` is taken from the summed counts.
    ``f1_of_means`` is the harmonic mean of macro precision and recall, ``f1`` the mean of the classes' F1.
    """
    paper, stray = class_figures(outcomes, structure), stray_outputs(outcomes, structure)
    table = confusion(outcomes, structure)
    usual = {g: _figures(f.tp, f.fp + stray[g], sum(table[g].values()) - f.tp) for g, f in paper.items()}
    result: dict[str, float] = {}
    for name, figures in (("paper", paper), ("usual", usual)):
        values = [figures[grade] for grade in occurring(outcomes, structure)]
        precision, recall = (_mean(getattr(f, key) for f in values) for key in ("precision", "recall"))
        micro = _figures(*(sum(getattr(f, key) for f in figures.values()) for key in ("tp", "fp", "fn")))
        result |= {
            f"{name}_macro_precision": precision,
            f"{name}_macro_recall": recall,
            f"{name}_macro_f1": _mean(f.f1 for f in values),
            f"{name}_macro_f1_of_means": _harmonic(precision, recall),
            f"{name}_micro_precision": micro.precision,
            f"{name}_micro_recall": micro.recall,
            f"{name}_micro_f1": micro.f1,
        }
    return result


def recall_by_class(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, float]:
    """TP of a class over all its true keypoints: the usual recall. The paper counts only misses against it (reading 4)."""
    figures = class_figures(outcomes, structure)
    totals = true_counts(outcomes, structure)
    return {g: figures[g].tp / totals[g] if totals[g] else 0.0 for g in Grade}


def _figures(tp: int, fp: int, fn: int) -> ClassFigures:
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    return ClassFigures(precision, recall, _harmonic(precision, recall), tp, fp, fn)


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def macro_f1(outcomes: Sequence[Outcome], structure: Structure) -> float:
    """The mean over the classes that occur of the F1 from the paper's precision and the usual recall; NaN where none is known.

    The usual recall counts every true keypoint.
    """
    figures, recalls = class_figures(outcomes, structure), recall_by_class(outcomes, structure)
    return _mean(_harmonic(figures[grade].precision, recalls[grade]) for grade in occurring(outcomes, structure))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan


def summary(outcomes: Sequence[Outcome]) -> dict[str, float | int]:
    """The figures that every evaluation prints."""
    strict = errors_mm(outcomes)
    finite = strict[np.isfinite(strict)]
    result: dict[str, float | int] = {
        "exams": len(outcomes),
        "refused": sum(o.predicted is None for o in outcomes),
        "pck6": pck(outcomes),
        "pck6_level_strict": float((strict <= HIT_MM).mean()) if len(strict) else 0.0,
        "all_levels_right": all_levels_right(outcomes),
        "micro_precision": micro_precision(outcomes),
        "class_log_loss": class_log_loss(outcomes),
        "mean_error_mm": float(finite.mean()) if len(finite) else float("nan"),
        "median_error_mm": float(np.median(finite)) if len(finite) else float("nan"),
    }
    for structure in Structure:
        paper = class_figures(outcomes, structure)
        present = [paper[grade] for grade in occurring(outcomes, structure)]
        result[f"{structure}_macro_f1"] = macro_f1(outcomes, structure)
        result[f"{structure}_macro_f1_paper"] = _mean(f.f1 for f in present)
        result[f"{structure}_macro_precision"] = _mean(f.precision for f in present)
        result[f"{structure}_macro_recall_paper"] = _mean(f.recall for f in present)
        for grade, count in false_calls(outcomes, structure).items():
            result[f"{structure}_{grade}_does_not_occur_false_calls"] = count
    return result
