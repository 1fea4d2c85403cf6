"""PCK, precision / recall / F1 and level-strict figures (Section IV-B, Eq. 8; readings 4 and 19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.dicom_series import FloatArray

HIT_MM = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Truth and prediction of one exam.

    ``truth`` and ``predicted`` (10, 2) column and row in mm, reading order; ``predicted`` None where the detector refused.
    ``grades`` None where unknown; ``probabilities`` (10,) of degenerative.
    """

    exam_id: str
    patient: str
    truth: FloatArray
    grades: tuple[Grade | None, ...]
    predicted: FloatArray | None
    probabilities: FloatArray | None


def _rows(structure: Structure | None) -> list[int]:
    return [i for i, landmark in enumerate(READING_ORDER) if structure is None or landmark.structure is structure]


def errors_mm(outcomes: Sequence[Outcome], structure: Structure | None = None) -> FloatArray:
    """Level-strict distance of every keypoint in mm; infinite where the exam was refused."""
    rows = _rows(structure)
    parts = [
        np.full(len(rows), np.inf) if o.predicted is None else np.linalg.norm(o.predicted[rows] - o.truth[rows], axis=1)
        for o in outcomes
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def pck(outcomes: Sequence[Outcome], distance_mm: float = HIT_MM, structure: Structure | None = None) -> float:
    """Share of keypoints with a prediction of their structure within the distance, matched one to one, level-free (Eq. 8)."""
    hits = total = 0
    for outcome in outcomes:
        for s in Structure if structure is None else (structure,):
            total += len(_rows(s))
            hits += len(_matches(outcome, s, distance_mm))
    return hits / total if total else 0.0


def _matches(outcome: Outcome, structure: Structure, distance_mm: float) -> list[tuple[int, int]]:
    """(truth row, predicted row) pairs within the distance, one to one, least total distance (reading 19)."""
    if outcome.predicted is None:
        return []
    rows = _rows(structure)
    distances = np.linalg.norm(outcome.truth[rows][:, None] - outcome.predicted[rows][None], axis=2)
    cost = np.where(distances <= distance_mm, distances, 1e6)
    pairs = zip(*linear_sum_assignment(cost), strict=True)
    return [(rows[a], rows[b]) for a, b in pairs if distances[a, b] <= distance_mm]


def all_levels_right(outcomes: Sequence[Outcome], distance_mm: float = HIT_MM) -> float:
    """Share of exams with all ten keypoints, each at its own level, within the distance."""
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
    """The paper's counts: hit with the right class TP, with the wrong class FP of the predicted class, missed FN (reading 4)."""
    counts = {grade: [0, 0, 0] for grade in Grade}
    for outcome in outcomes:
        matched = dict(_matches(outcome, structure, HIT_MM))
        for row in _rows(structure):
            true = outcome.grades[row]
            if true is None:
                continue
            if row not in matched:
                counts[true][2] += 1
                continue
            assert outcome.probabilities is not None
            said = Grade.DEGENERATIVE if outcome.probabilities[matched[row]] >= 0.5 else Grade.NORMAL
            counts[said][0 if said is true else 1] += 1
    return {grade: _figures(*c) for grade, c in counts.items()}


def recall_by_class(outcomes: Sequence[Outcome], structure: Structure) -> dict[Grade, float]:
    """TP of a class over all its true keypoints: the usual recall, where the paper counts misses only (reading 4)."""
    figures = class_figures(outcomes, structure)
    rows = _rows(structure)
    totals = {g: sum(o.grades[r] is g for o in outcomes for r in rows) for g in Grade}
    return {g: figures[g].tp / totals[g] if totals[g] else 0.0 for g in Grade}


def _figures(tp: int, fp: int, fn: int) -> ClassFigures:
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return ClassFigures(precision, recall, f1, tp, fp, fn)


def macro_f1(outcomes: Sequence[Outcome], structure: Structure) -> float:
    """Mean over both classes of the F1 from each class's usual precision and recall (every true keypoint counts)."""
    figures, recalls = class_figures(outcomes, structure), recall_by_class(outcomes, structure)
    values = []
    for grade in Grade:
        p, r = figures[grade].precision, recalls[grade]
        values.append(2 * p * r / (p + r) if p + r else 0.0)
    return float(np.mean(values))


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
        "mean_error_mm": float(finite.mean()) if len(finite) else float("nan"),
        "median_error_mm": float(np.median(finite)) if len(finite) else float("nan"),
    }
    for structure in Structure:
        paper = class_figures(outcomes, structure)
        result[f"{structure}_macro_f1"] = macro_f1(outcomes, structure)
        result[f"{structure}_macro_f1_paper"] = float(np.mean([f.f1 for f in paper.values()]))
        result[f"{structure}_macro_precision"] = float(np.mean([f.precision for f in paper.values()]))
        result[f"{structure}_macro_recall_paper"] = float(np.mean([f.recall for f in paper.values()]))
    return result
