"""Figures of graded levels: against obvious loops and known values; no fold calibrates itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.evaluation.calibration import CalibrationError, conformal_band, decided_band
from trainer.evaluation.grades import (
    Judged,
    applied,
    auc,
    calibration_from,
    class_figures,
    cross_calibrated,
    cross_calibrated_outputs,
    figures_of,
    intervals,
    macro_f1,
    pfirrmann_calibration,
    pfirrmann_figures,
    quadratic_kappa,
)


def over(grades: np.ndarray) -> np.ndarray:
    """(n, 4) whether each Pfirrmann grade is over 1, 2, 3, 4; NaN where it is unknown."""
    return np.where(np.isnan(grades)[:, None], np.nan, grades[:, None] > np.arange(1, 5))


def judged(count: int = 300, seed: int = 0, overconfidence: float = 2.0) -> Judged:
    """Levels of ``count`` / 5 patients in three folds, graded by a network that is too sure of itself."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(float)
    patients = np.repeat(np.arange(count // 5), 5)
    raw = 1 / (1 + np.exp(-overconfidence * logits))
    truth = np.clip(np.round(3 + logits), 1, 5)
    said = np.clip(truth + rng.integers(-1, 2, count), 1, 5)
    return Judged(
        patients=patients,
        folds=patients % 3,
        labels=labels,
        found=np.ones(count, dtype=bool),
        raw=raw,
        probabilities=raw,
        decided=np.ones(count, dtype=bool),
        above=over(truth),
        said_above=0.1 + 0.8 * over(said),
        signs=np.zeros((count, 0)),
        said_signs=np.zeros((count, 0)),
    )


def test_auc__is_the_chance_that_pairs_are_in_order() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 6, 40).astype(float), (rng.random(40) < 0.4).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels > 0] for b in scores[labels <= 0]]
    assert auc(scores, labels) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(scores, np.ones(40)))


def test_kappa__of_known_tables() -> None:
    truth = np.array([1.0, 2, 3, 4, 5])
    assert quadratic_kappa(truth, truth) == 1
    assert quadratic_kappa(truth, truth[::-1]) == pytest.approx(-1)
    assert quadratic_kappa(truth, np.full(5, 3.0)) == pytest.approx(0)
    # Squared differences: 2 of 6 observed; 40 / 6 + 50 / 6 - 2 x 14 / 6 x 16 / 6 = 23 / 9 expected.
    a, b = np.array([1.0, 1, 2, 3, 3, 4]), np.array([1.0, 2, 2, 3, 4, 4])
    assert quadratic_kappa(a, b) == pytest.approx(1 - (2 / 6) / (23 / 9))


def test_macro_f1__counts_missed_levels_against_recall_only() -> None:
    levels = judged(10)
    said = np.array([0.1, 0.9] * 5)
    perfect = replace(levels, labels=np.array([0.0, 1] * 5), raw=said, probabilities=said)
    assert macro_f1(perfect) == 1
    missed = replace(perfect, found=np.array([False] * 2 + [True] * 8))
    assert macro_f1(missed) == pytest.approx(2 * 4 / (4 + 5))
    assert figures_of(missed)["missed"] == 2
    assert figures_of(missed)["auc"] == figures_of(perfect)["auc"]


def test_pfirrmann__figures() -> None:
    levels = judged(10)
    truth = np.array([1.0, 2, 3, 4, 5, np.nan, 3, 3, 3, 3])
    said = np.array([1.0, 2, 3, 4, 3, 1, 3, 3, 2, 5])
    found = pfirrmann_figures(replace(levels, above=over(truth), said_above=over(said)))
    assert found["pfirrmann_exact"] == pytest.approx(6 / 9)
    assert found["pfirrmann_within_one"] == pytest.approx(7 / 9)


def test_cross_calibration__takes_nothing_from_the_fold_itself() -> None:
    levels = judged()
    before = cross_calibrated(levels, error_rate=0.1, band="class")
    inside = levels.folds == 1
    turned = replace(levels, labels=np.where(inside, 1 - levels.labels, levels.labels))
    after = cross_calibrated(turned, error_rate=0.1, band="class")
    assert np.array_equal(before.probabilities[inside], after.probabilities[inside])
    assert np.array_equal(before.decided[inside], after.decided[inside])
    assert not np.array_equal(before.probabilities[~inside], after.probabilities[~inside])


def test_cross_calibration__mends_overconfidence() -> None:
    levels = judged(900)
    mended = cross_calibrated(levels, error_rate=0.1, band="class")
    assert figures_of(mended)["ece"] < 0.05 < figures_of(levels)["ece"]
    assert figures_of(mended)["log_loss"] < figures_of(levels)["log_loss"]
    assert figures_of(mended)["auc"] == figures_of(levels)["auc"]


def test_pfirrmann__thresholds_that_lie_too_near_are_set_apart() -> None:
    rng = np.random.default_rng(0)
    severity = rng.normal(0, 3, 600)
    truth = 1 + (severity[:, None] + rng.logistic(0, 1, (600, 1)) > np.array([-4.0, -1.5, 1.5, 4.0])).sum(axis=1)
    near = 1 / (1 + np.exp(-(severity[:, None] - np.array([-0.3, -0.1, 0.1, 0.3]))))
    levels = replace(judged(600), above=over(truth.astype(float)), said_above=near)
    mended = cross_calibrated_outputs(levels)
    assert (np.diff(mended.said_above, axis=1) <= 0).all()
    before, after = pfirrmann_figures(levels), pfirrmann_figures(mended)
    assert before["pfirrmann_within_one"] < 0.9 < after["pfirrmann_within_one"]
    assert after["pfirrmann_kappa"] > before["pfirrmann_kappa"]
    found = pfirrmann_calibration(levels)
    assert [c.slope for c in found] == [pytest.approx(1, abs=0.2)] * 4
    assert [c.intercept for c in found] == pytest.approx([3.7, 1.4, -1.4, -3.7], abs=0.7)


@pytest.mark.parametrize("seed", range(5))
def test_decided_band__keeps_the_share_among_the_decided_of_each_class(seed: int) -> None:
    levels = judged(400, seed)
    for name, band in (("decided", decided_band), ("class", conformal_band)):
        calibration = calibration_from(levels, error_rate=0.1, band=name)
        scaled, decided = applied(levels.raw, calibration)
        assert calibration.undecided == band(scaled, levels.labels, 0.1)
        found = class_figures(replace(levels, probabilities=scaled, decided=decided))
        if name == "decided":
            assert found["normal_decided_wrong"] <= 0.1
            assert found["degenerative_decided_wrong"] <= 0.1
            assert found["decided_wrong"] <= 0.1
        else:
            assert max(found["normal_called_other"], found["degenerative_called_other"]) <= 0.1


def test_decided_band__is_the_narrowest_by_the_obvious_loop() -> None:
    levels = judged(60, 3)
    p, y = levels.raw, levels.labels
    best = -1
    for low in [*p[p < 0.5], 0.5]:
        for high in [*p[p > 0.5], 0.5]:
            kept = []
            for wrong, right in (
                (((p < low) & (y > 0)).sum(), ((p > high) & (y > 0)).sum()),
                (((p > high) & (y <= 0)).sum(), ((p < low) & (y <= 0)).sum()),
            ):
                kept.append(wrong + 1 <= 0.2 * (wrong + right + 1))
            if all(kept):
                best = max(best, int((p < low).sum() + (p > high).sum()))
    low, high = decided_band(p, y, 0.2)
    assert best > 0
    # Rounding to four digits may leave a keypoint out.
    assert best - 2 <= int((p < low).sum() + (p > high).sum()) <= best


def test_decided_band__decides_nothing_where_nothing_can_be_promised() -> None:
    rng = np.random.default_rng(0)
    assert decided_band(rng.random(400), (rng.random(400) < 0.5).astype(float), 0.01) == (0.0, 1.0)
    with pytest.raises(CalibrationError, match="5 degenerative keypoints are too few"):
        decided_band(np.linspace(0, 1, 50), np.array([0.0] * 45 + [1.0] * 5), 0.1)


def test_interval__holds_the_figure_and_narrows_with_patients() -> None:
    few, many = judged(100), judged(1000)
    widths = []
    for levels in (few, many):
        low, high = intervals(levels, lambda j: {"f1": macro_f1(j)}, samples=100)["f1"]
        assert low <= macro_f1(levels) <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_macro_f1__leaves_out_a_class_that_does_not_occur() -> None:
    levels = judged(10)
    said = np.array([0.9] * 8 + [0.1] * 2)
    alone = replace(levels, labels=np.ones(10), raw=said, probabilities=said)
    assert macro_f1(alone) == pytest.approx(2 * 8 / 18)
    assert intervals(alone, lambda j: {"f1": macro_f1(j)}, samples=50)["f1"][1] <= 1
