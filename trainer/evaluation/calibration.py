"""Calibration on exams kept for this: temperature or Platt scaling, and a split-conformal band in which no class is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.arrays import FloatArray
from spineone_core.detection.calibration import Calibration, calibrate
from trainer.evaluation.metrics import HIT_MM
from trainer.evaluation.outcomes import Outcome

METHODS = ("temperature", "platt")


class CalibrationError(ValueError):
    """There is too little to calibrate on; the message says what there is and what is needed."""


def labelled_probabilities(outcomes: Sequence[Outcome], structure: Structure) -> tuple[FloatArray, FloatArray]:
    """Probability, and 1 for degenerative, of every keypoint whose class is known and that was found within 6 mm at its level."""
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


def calibration_of(outcomes: Sequence[Outcome], structure: Structure, *, method: str, error_rate: float) -> Calibration:
    """The scaling and the undecided band of a structure, from raw probabilities.

    Raises
    ------
    CalibrationError
        If there are too few keypoints; the message names the structure.
    """
    probabilities, labels = labelled_probabilities(outcomes, structure)
    try:
        scaling = fit_platt(probabilities, labels) if method == "platt" else fit_temperature(probabilities, labels)
        scaled = np.array([calibrate(p, scaling) for p in probabilities.tolist()])
        return replace(scaling, undecided=conformal_band(scaled, labels, error_rate), error_rate=error_rate)
    except CalibrationError as error:
        raise CalibrationError(f"{structure.value}: {error}") from error


def fit_platt(probabilities: FloatArray, labels: FloatArray) -> Calibration:
    """Slope and intercept with the least log loss, with Platt's smoothed targets and a weak pull towards the identity.

    Raises
    ------
    CalibrationError
        If there are fewer than ten keypoints or only one class.
    """
    logits, targets = logits_and_targets(probabilities, labels)

    def loss(parameters: FloatArray) -> float:
        slope, intercept = parameters
        return mean_log_loss(slope * logits + intercept, targets) + 1e-3 * ((slope - 1) ** 2 + intercept**2)

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return Calibration(slope=round(float(slope), 4), intercept=round(float(intercept), 4))


def fit_temperature(probabilities: FloatArray, labels: FloatArray) -> Calibration:
    """Slope 1 / T with the least log loss (Guo et al., 2017) for T from .05 to 20; one half stays one half.

    Raises
    ------
    CalibrationError
        As `fit_platt` does.
    """
    logits, targets = logits_and_targets(probabilities, labels)
    found = minimize_scalar(
        lambda log_slope: mean_log_loss(np.exp(log_slope) * logits, targets),
        bounds=(-np.log(20), np.log(20)),
        method="bounded",
    )
    return Calibration(slope=round(float(np.exp(found.x)), 4))


def logits_and_targets(probabilities: FloatArray, labels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logits and Platt's smoothed targets; raises ``CalibrationError`` as `fit_platt` does."""
    classes = len(set(labels.tolist()))
    if len(labels) < 10 or classes < 2:
        raise CalibrationError(f"{len(labels)} keypoints of {classes} classes are too few to calibrate on")
    clipped = np.clip(probabilities, 1e-4, 1 - 1e-4)
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return np.log(clipped / (1 - clipped)), targets


def mean_log_loss(logits: FloatArray, targets: FloatArray) -> float:
    """The mean binary cross entropy."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def conformal_band(probabilities: FloatArray, labels: FloatArray, error_rate: float) -> tuple[float, float]:
    """(low, high): normal is called below, degenerative above, and no class between (both ends included).

    This is split conformal prediction for each class by itself. Of keypoints like those given, at most a share
    ``error_rate`` of the truly degenerative lies below ``low``, and at most that share of the truly normal above ``high``,
    whatever the network. Only the order of the probabilities within a class counts, so scaling that is fitted on the same
    keypoints does no harm. One half always lies in the band, as the likelier class is the one that is named.

    Parameters
    ----------
    probabilities
        Of degenerative, scaled as they will be when the band is used.
    labels
        1 for degenerative.
    error_rate
        Between 0 and 1/2.

    Raises
    ------
    CalibrationError
        If a class has fewer than 1 / error_rate - 1 keypoints, which is too few for any promise.
    """
    if not 0 < error_rate < 0.5:
        raise CalibrationError(f"error rate {error_rate}; allowed: between 0 and 0.5")
    degenerative, normal = np.sort(probabilities[labels > 0]), np.sort(probabilities[labels <= 0])
    low, high = 0.5, 0.5
    for name, values in (("degenerative", degenerative), ("normal", normal)):
        # So many keypoints of the class may lie on the wrong side (the small number guards against rounding in 0.1 x 10).
        allowed = int(np.floor((len(values) + 1) * error_rate + 1e-9))
        if allowed < 1:
            raise CalibrationError(
                f"{len(values)} {name} keypoints are too few for an error rate of {error_rate:g}; "
                f"{int(np.ceil(1 / error_rate - 1 - 1e-9))} are needed"
            )
        if name == "degenerative":
            low = min(low, float(values[allowed - 1]))
        else:
            high = max(high, float(values[-allowed]))
    # Rounded to four digits so that the band gets wider, never narrower.
    return float(np.floor(low * 1e4) / 1e4), float(np.ceil(high * 1e4) / 1e4)


def decided_band(probabilities: FloatArray, labels: FloatArray, error_rate: float) -> tuple[float, float]:
    """(low, high), the band with the fewest undecided that keeps a share of errors *among the decided*.

    Of the decided keypoints of each true class, at most a share ``error_rate`` is called the other; so overall too. That asks
    more than `conformal_band`, which counts errors among all keypoints of a class. The shares are those seen on the given
    keypoints, with one more error added to each class, as in split conformal prediction; no guarantee for a finite sample
    follows, since both ends are chosen together. Of bands as narrow, the one with the lower ends is taken. Parameters and
    errors are those of `conformal_band`.
    """
    if not 0 < error_rate < 0.5:
        raise CalibrationError(f"error rate {error_rate}; allowed: between 0 and 0.5")
    order = np.argsort(probabilities, kind="stable")
    values, positive = probabilities[order], labels[order] > 0
    for name, count in (("degenerative", int(positive.sum())), ("normal", int((~positive).sum()))):
        if (count + 1) * error_rate < 1 - 1e-9:
            raise CalibrationError(
                f"{count} {name} keypoints are too few for an error rate of {error_rate:g}; "
                f"{int(np.ceil(1 / error_rate - 1 - 1e-9))} are needed"
            )
    lows = np.unique([*values[values < 0.5], 0.5])
    highs = np.unique([*values[values > 0.5], 0.5])
    # Below each low: keypoints of each class. Above each high: the same.
    below = np.searchsorted(values, lows, side="left")
    above = np.searchsorted(values, highs, side="right")
    degenerative = np.concatenate([[0], np.cumsum(positive)])
    missed, true_normal = degenerative[below], below - degenerative[below]
    caught = degenerative[-1] - degenerative[above]
    false = (len(values) - above) - caught
    holds = (missed[:, None] + 1 <= error_rate * (missed[:, None] + caught[None] + 1)) & (
        false[None] + 1 <= error_rate * (false[None] + true_normal[:, None] + 1)
    )
    if not holds.any():
        return 0.0, 1.0
    called = np.where(holds, below[:, None] + (len(values) - above)[None], -1)
    low, high = np.unravel_index(int(called.argmax()), called.shape)
    return float(np.floor(lows[low] * 1e4) / 1e4), float(np.ceil(highs[high] * 1e4) / 1e4)


def expected_calibration_error(probabilities: FloatArray, labels: FloatArray, bins: int = 10) -> float:
    """The mean gap between confidence and frequency over bins of equal width, weighted by their counts."""
    if not len(labels):
        return float("nan")
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [
        abs(probabilities[index == b].mean() - labels[index == b].mean()) * (index == b).sum()
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps) / len(labels))


def calibration_error_by_chance(probabilities: FloatArray, samples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean and 95th percentile of the error that these probabilities would show if they were perfectly calibrated.

    The labels are drawn from the probabilities themselves. With few keypoints in ten bins, no calibration error is 0.
    """
    if not len(probabilities):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = [
        expected_calibration_error(probabilities, (rng.random(len(probabilities)) < probabilities).astype(float))
        for _ in range(samples)
    ]
    return float(np.mean(drawn)), float(np.percentile(drawn, 95))
