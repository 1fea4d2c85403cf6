"""Figures of graded structures: class, Pfirrmann grade and signs, with calibration that no fold makes for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

from spineone_core.anatomy import Grade
from spineone_core.arrays import FloatArray
from spineone_core.detection.calibration import Calibration, calibrate
from trainer.evaluation.calibration import (
    calibration_error_by_chance,
    conformal_band,
    decided_band,
    expected_calibration_error,
    fit_platt,
    logits_and_targets,
    mean_log_loss,
)

# Values of levels, or a mask of levels.
Column = NDArray[Any]
# A figure that cannot be computed, as where a class is missing.
NONE = float("nan")
BANDS: dict[str, Callable[[FloatArray, FloatArray, float], tuple[float, float]]] = {
    "class": conformal_band,
    "decided": decided_band,
}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Truth and grading of one structure's levels, of any number of exams; every array has a row for each level.

    ``patients`` and ``folds`` say whose level it is. ``found`` says whether the detector's point lies within 6 mm of the true
    one; without it nothing that is said counts. ``labels`` are 1 for degenerative. ``raw`` are the network's probabilities of
    degeneration before calibration, ``probabilities`` after it, and ``decided`` where a class is called. ``above`` and
    ``said_above`` (n, 4; no columns for vertebrae) are truth and probability that the Pfirrmann grade is over 1, 2, 3, 4;
    ``signs`` and ``said_signs`` (n, signs) those of each sign. Truth is NaN where unknown.
    """

    patients: Column
    folds: Column
    found: Column
    labels: Column
    raw: Column
    probabilities: Column
    decided: Column
    above: Column
    said_above: Column
    signs: Column
    said_signs: Column

    def at(self, index: Column) -> Judged:
        """The levels at the given places or where the mask is true."""
        return Judged(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @property
    def known(self) -> Column:
        """Where a class is known and the level was found."""
        return np.isfinite(self.labels) & self.found.astype(bool)

    @property
    def pfirrmann(self) -> Column:
        """The true grades 1 to 5, NaN where unknown and for vertebrae."""
        return 1 + self.above.sum(axis=1) if self.above.shape[1] else np.full(len(self.labels), np.nan)

    @property
    def said_pfirrmann(self) -> Column:
        """The grades that were said: one more than the thresholds that are likelier passed than not."""
        return 1.0 + (self.said_above > 0.5).sum(axis=1)


def cross_calibrated(judged: Judged, *, error_rate: float, band: str) -> Judged:
    """The levels with calibrated classes and decisions; each fold's scaling and band come from the other folds."""
    probabilities, decided = judged.raw.copy(), np.zeros(len(judged.raw), dtype=bool)
    for fold in np.unique(judged.folds):
        inside, others = judged.folds == fold, judged.at(judged.folds != fold)
        scaling = calibration_from(others, error_rate=error_rate, band=band)
        probabilities[inside], decided[inside] = applied(judged.raw[inside], scaling)
    return replace(judged, probabilities=probabilities, decided=decided)


def cross_calibrated_outputs(judged: Judged) -> Judged:
    """The levels with calibrated Pfirrmann grades and signs; each fold's scaling comes from the other folds."""
    above, signs = judged.said_above.copy(), judged.said_signs.copy()
    for fold in np.unique(judged.folds):
        inside, others = judged.folds == fold, judged.at(judged.folds != fold)
        for column, scaling in enumerate(pfirrmann_calibration(others)):
            above[inside, column], _ = applied(above[inside, column], scaling)
        for place in range(signs.shape[1]):
            signs[inside, place], _ = applied(signs[inside, place], sign_calibration(others, place))
    return replace(judged, said_above=np.minimum.accumulate(above, axis=1), said_signs=signs)


def pfirrmann_calibration(judged: Judged) -> list[Calibration]:
    """The scaling of each threshold of the grade: one slope for all and an intercept for each; none for vertebrae.

    The thresholds that a network learns in few steps lie too near to each other, so each needs an intercept of its own. With
    one slope their order is the same for every level.

    Raises
    ------
    CalibrationError
        If a threshold has fewer than ten levels or only one class.
    """
    rows = judged.found.astype(bool) & np.isfinite(judged.above).all(axis=1)
    columns = [
        logits_and_targets(judged.said_above[rows, k], judged.above[rows, k]) for k in range(judged.above.shape[1])
    ]
    if not columns:
        return []

    def loss(parameters: FloatArray) -> float:
        slope, intercepts = parameters[0], parameters[1:]
        each = [mean_log_loss(slope * x + b, y) for (x, y), b in zip(columns, intercepts, strict=True)]
        return sum(each) + 1e-3 * float(((parameters - start) ** 2).sum())

    start = np.array([1.0] + [0.0] * len(columns))
    found = minimize(loss, start, method="BFGS").x
    slope = round(float(found[0]), 4)
    return [Calibration(slope=slope, intercept=round(float(b), 4)) for b in found[1:]]


def sign_calibration(judged: Judged, place: int) -> Calibration:
    """The scaling of a sign; ``CalibrationError`` if there are too few levels."""
    known = judged.found.astype(bool) & np.isfinite(judged.signs[:, place])
    return fit_platt(judged.said_signs[known, place], judged.signs[known, place])


def calibration_from(judged: Judged, *, error_rate: float, band: str) -> Calibration:
    """Platt scaling and undecided band from raw probabilities; ``CalibrationError`` if there are too few levels."""
    known = judged.at(judged.known)
    scaling = fit_platt(known.raw, known.labels)
    scaled, _ = applied(known.raw, scaling)
    return replace(scaling, undecided=BANDS[band](scaled, known.labels, error_rate), error_rate=error_rate, band=band)


def applied(raw: Column, calibration: Calibration) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Calibrated probabilities, and whether each is decided."""
    scaled = np.vectorize(lambda p: calibrate(p, calibration), otypes=[float])(raw)
    low, high = calibration.undecided or (0.5, 0.5)
    return scaled, (scaled < low) | (scaled > high)


def figures_of(judged: Judged) -> dict[str, float]:
    """The figures of the class, and the calibration error that perfect probabilities would show on so few levels."""
    chance, upper = calibration_error_by_chance(judged.probabilities[judged.known])
    return class_figures(judged) | {"ece_by_chance": chance, "ece_by_chance_95": upper}


def class_figures(judged: Judged) -> dict[str, float]:
    """The figures of the class; a level that the detector missed counts against recall, and in nothing else."""
    known = judged.at(judged.known)
    labels, probabilities = known.labels, known.probabilities
    said = probabilities >= 0.5
    right, decided = said == (labels > 0), known.decided.astype(bool)
    result = {
        "levels": float(np.isfinite(judged.labels).sum()),
        "missed": float((np.isfinite(judged.labels) & ~judged.found.astype(bool)).sum()),
        "macro_f1": macro_f1(judged),
        "auc": auc(known.raw, labels),
        "log_loss": log_loss(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
        "undecided": 1 - _mean(decided),
        "decided_wrong": _mean(~right[decided]),
    }
    for grade in Grade:
        of_class = (labels > 0) == (grade is Grade.DEGENERATIVE)
        result[f"{grade}_decided_wrong"] = _mean(~right[decided & of_class])
        result[f"{grade}_called_other"] = _mean((~right & decided)[of_class])
    return result


def pfirrmann_figures(judged: Judged) -> dict[str, float]:
    """Agreement of grades where the true one is known and the level was found, and the strict class (grade 4 or 5)."""
    known = judged.at(np.isfinite(judged.pfirrmann) & judged.found.astype(bool))
    strict = (known.pfirrmann >= 4).astype(float)
    return {
        "pfirrmann_kappa": quadratic_kappa(known.pfirrmann, known.said_pfirrmann),
        "pfirrmann_within_one": _mean(np.abs(known.pfirrmann - known.said_pfirrmann) <= 1),
        "pfirrmann_exact": _mean(known.pfirrmann == known.said_pfirrmann),
        "strict_auc": auc(known.said_above[:, 2], strict),
        "strict_macro_f1": _macro_f1(known.said_above[:, 2] >= 0.5, strict, strict),
    }


def macro_f1(judged: Judged) -> float:
    """The mean of both classes' F1: precision over found levels, recall over all true ones."""
    known = judged.at(judged.known)
    return _macro_f1(known.probabilities >= 0.5, known.labels, judged.labels[np.isfinite(judged.labels)])


def _macro_f1(said: Column, labels: Column, all_labels: Column) -> float:
    values = []
    for value in (0, 1):
        if not (all_labels == value).any():
            continue  # nothing can be right about a class that does not occur
        right = float(((said == value) & (labels == value)).sum())
        total = float((said == value).sum() + (all_labels == value).sum())
        values.append(2 * right / total)
    return float(np.mean(values)) if values else NONE


def auc(scores: FloatArray, labels: FloatArray) -> float:
    """The chance that a degenerative level has a higher score than a normal one; ties count half."""
    positive = labels > 0
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return NONE
    return float((rankdata(scores)[positive].sum() - count * (count + 1) / 2) / (count * others))


def log_loss(probabilities: FloatArray, labels: FloatArray) -> float:
    """The mean of -log of the probability given to the true class."""
    given = np.where(labels > 0, probabilities, 1 - probabilities)
    return _mean(-np.log(np.clip(given, 1e-6, 1)))


def quadratic_kappa(truth: FloatArray, said: FloatArray) -> float:
    """Cohen's kappa with quadratic weights (Cohen, 1968): 1 - observed / expected squared difference."""
    if not len(truth):
        return NONE
    observed = float(np.mean((truth - said) ** 2))
    expected = float(np.mean((truth[:, None] - said[None]) ** 2))
    return 1 - observed / expected if expected else NONE


def intervals(
    judged: Judged, measure: Callable[[Judged], dict[str, float]], *, samples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of all figures; patients are drawn with replacement, each with all levels.

    A draw that lacks a class that occurs is dropped: its figures would be of something else.
    """
    groups = [np.flatnonzero(judged.patients == patient) for patient in np.unique(judged.patients)]
    rng, values = np.random.default_rng(seed), list[dict[str, float]]()
    classes = set(judged.labels[np.isfinite(judged.labels)])
    for _ in range(samples):
        drawn = judged.at(np.concatenate([groups[n] for n in rng.integers(len(groups), size=len(groups))]))
        if set(drawn.labels[np.isfinite(drawn.labels)]) == classes:
            values.append(measure(drawn))
    result = {}
    for name in values[0]:
        low, high = np.nanquantile([value[name] for value in values], [0.025, 0.975])
        result[name] = (float(low), float(high))
    return result


def _mean(values: Column) -> float:
    return float(np.mean(values)) if len(values) else NONE
