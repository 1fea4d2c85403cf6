"""The loss terms of the steps of an epoch; a GPU is waited for now and then only, not at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.training.run_folder import TrainingError

# Steps after which the terms are read from a GPU. All processes of a training read after the same step, so that all end where
# the loss is not finite.
READ_EVERY = 16


class StepLosses:
    """Collects the terms of each step, and their means over the epoch.

    Terms on a GPU wait there until ``READ_EVERY`` of them, or `read`, bring them over in one go.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._waiting: list[Tensor] = []
        self._read: list[list[float]] = []

    @property
    def waiting(self) -> bool:
        """Whether terms wait to be read."""
        return bool(self._waiting)

    def add(self, terms: dict[str, Tensor]) -> bool:
        """Take in the terms of a step; whether it is time to read them."""
        self._names = tuple(terms)
        self._waiting.append(torch.stack(list(terms.values())))
        return self._waiting[-1].device.type == "cpu" or len(self._waiting) >= READ_EVERY

    def read(self, step: int) -> dict[str, float]:
        """Read what waits and return the terms of the last step, which was number ``step`` - 1.

        Raises
        ------
        TrainingError
            If a term is not finite; the message names the first such step.
        """
        if self._waiting:
            rows = torch.stack(self._waiting).tolist()
            self._waiting.clear()
            for n, row in enumerate(rows):
                if not np.isfinite(row).all():
                    broken = step - len(rows) + n
                    raise TrainingError(f"the loss is not finite at step {broken}; lower the learning rate")
            self._read += rows
        return dict(zip(self._names, self._read[-1], strict=True))

    def means(self) -> dict[str, float]:
        """The mean of each term over the steps that were read."""
        return {name: float(np.mean([row[n] for row in self._read])) for n, name in enumerate(self._names)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint within an epoch keeps of it; everything must have been read."""
        return {"names": list(self._names), "read": [list(row) for row in self._read]}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> StepLosses:
        """The epoch that a checkpoint was written in."""
        losses = cls()
        losses._names, losses._read = tuple(state["names"]), [list(row) for row in state["read"]]
        return losses
