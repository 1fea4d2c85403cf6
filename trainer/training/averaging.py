"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def warmed_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average whose decay grows up to ``decay``, so that the random start is soon forgotten.

    With a fixed decay of .998, a third of the average would still be the untrained network after 500 steps, and it finds
    nothing.
    """

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        share = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged * share + current * (1 - share) if averaged.is_floating_point() else current

    return average
