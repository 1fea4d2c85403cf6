"""What the training loop sees of what it trains: SpineOne on MRI slices or its 3-D variant on CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from trainer.training.ranks import Ranks
from trainer.training.recipe import Schedule

Batch = dict[str, Tensor]


class Objective(nn.Module):
    """A network with its losses: ``forward(batch, associate)`` gives the named loss terms, each a mean over the batch.

    The losses are inside so that one forward and one backward pass hold everything, which distributed training needs.
    """

    network: nn.Module


class Task(Protocol):
    """Data, network, losses and validation of one kind of detector."""

    samples_per_epoch: int

    @property
    def schedule(self) -> Schedule:
        """The recipe."""

    def config(self) -> dict[str, Any]:
        """Everything that decides the training, except data and seed."""

    def fingerprint(self) -> str:
        """SHA-256 of the training data: a resumed run must see the same."""

    def objective(self) -> Objective:
        """A fresh network with its losses; random numbers come from torch's global generator."""

    def samples(self, seed: int) -> Dataset[Batch]:
        """The training samples by their number in the whole run; randomness depends only on (seed, number)."""

    def validate(self, network: nn.Module, device: torch.device, ranks: Ranks) -> tuple[float, dict[str, Any]] | None:
        """The score (higher is better) and the figures on the validation exams; None if there are no such exams.

        All processes call it together, each takes its share of the exams, and all get the same answer.
        """

    def save(self, folder: Path, network: nn.Module, training: dict[str, Any], figures: dict[str, Any]) -> None:
        """Write the detector as a package."""
