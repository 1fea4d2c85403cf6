"""Bootstrap intervals of figures: patients are drawn with replacement, each with all of their exams."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from trainer.evaluation.outcomes import Outcome


class Interval(NamedTuple):
    """``low`` and ``high`` of a figure; ``dropped`` draws held none of a class that the whole set has, and do not count."""

    low: float
    high: float
    dropped: int = 0


def bootstrap_interval(
    outcomes: Sequence[Outcome],
    figure: Callable[[Sequence[Outcome]], float],
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    classes: Callable[[Sequence[Outcome]], int] = lambda drawn: 0,
) -> Interval:
    """The percentile interval of a figure.

    Parameters
    ----------
    classes
        How many classes the figure is a mean over. A draw with fewer than the whole set would be a mean of something else: it is
        dropped and counted.

    Raises
    ------
    ValueError
        If there is no exam, fewer than 10 samples are asked for, or the level is not between 0 and 1.
    """
    if not outcomes or samples < 10 or not 0 < level < 1:
        raise ValueError(f"{len(outcomes)} exams, {samples} samples, level {level}; allowed: 1, 10, between 0 and 1")
    by_patient: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_patient.setdefault(outcome.patient, []).append(outcome)
    groups, rng = list(by_patient.values()), np.random.default_rng(seed)
    values, wanted = [], classes(outcomes)
    for _ in range(samples):
        drawn = [outcome for index in rng.integers(len(groups), size=len(groups)) for outcome in groups[index]]
        if classes(drawn) >= wanted:
            values.append(figure(drawn))
    if not values:
        return Interval(math.nan, math.nan, samples)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), samples - len(values))
