"""Training of the grading networks on crops of graded exams."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spineone_core.anatomy import Structure
from spineone_core.network.grading import GradingConfig, GradingLogits, GradingNetwork
from trainer.samples.graded import CropChanges, GradedExam, GradeTargets, random_crops, targets_of
from trainer.training.averaging import WarmedAverage
from trainer.training.run_folder import TrainingError

# What the networks of discs and vertebrae may have in common: everything below the outputs.
SHARED = ("stem.", "stages.", "mix.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingRecipe:
    """Everything that decides the training of a grading network, except data and seed.

    A batch holds ``batch`` exams, five crops each. The learning rate rises over a tenth of the steps and falls to 0 as a
    cosine; weights are averaged with ``average_decay``. ``grade_weight`` and ``sign_weight`` weigh the losses of the Pfirrmann
    grade and of the signs beside the class. ``soft_bulge`` as in `trainer.samples.graded.targets_of`. ``begin_with`` names the
    structure whose network of the same fold gives the weights below the outputs to begin with. ``error_rate`` is that of the
    undecided band, which is made afterwards.
    """

    name: str
    network: GradingConfig
    changes: CropChanges = field(default_factory=CropChanges)
    epochs: int = 40
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    average_decay: float = 0.98
    grade_weight: float = 1.0
    sign_weight: float = 1.0
    soft_bulge: float = 1.0
    begin_with: Structure | None = None
    error_rate: float = 0.1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        first = None if self.begin_with is None else self.begin_with.value
        return {**asdict(self), "network": self.network.to_json(), "begin_with": first}


def fit_grading(
    exams: Sequence[GradedExam],
    recipe: GradingRecipe,
    *,
    seed: int,
    begin: GradingNetwork | None = None,
    every: int = 0,
    look: Callable[[int, GradingNetwork], None] = lambda epoch, network: None,
    log: Callable[[str], None] = print,
) -> GradingNetwork:
    """Train one network on the CPU and return its averaged weights.

    ``begin`` gives the weights below the outputs to begin with. ``look`` sees the averaged network after every ``every`` epochs
    (0: never). Randomness depends on the seed alone.

    Raises
    ------
    TrainingError
        If there are no exams or the loss is not finite.
    """
    if not exams:
        raise TrainingError("no graded exam to train on")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = GradingNetwork(recipe.network).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if begin is not None:
        shared = {name: t for name, t in begin.state_dict().items() if name.startswith(SHARED)}
        network.load_state_dict({**network.state_dict(), **shared})
    average = WarmedAverage(network, recipe.average_decay)
    averaged = cast(GradingNetwork, average.module)
    steps = -(-len(exams) // recipe.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps * recipe.epochs, pct_start=0.1
    )
    structure = recipe.network.structure
    targets = [targets_of(e.exam, e.gradings, structure, recipe.soft_bulge) for e in exams]
    started = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        order, losses = rng.permutation(len(exams)), []
        for chosen in np.array_split(order, steps):
            crops = np.stack([random_crops(exams[i], recipe.network, recipe.changes, rng) for i in chosen])
            terms = loss_terms(network(torch.from_numpy(crops)), _stacked([targets[i] for i in chosen]), recipe)
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss is not finite in epoch {epoch}; lower the learning rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(network)
            losses.append({name: float(value.detach()) for name, value in terms.items()})
        if every and (epoch % every == 0 or epoch == recipe.epochs):
            log(f"epoch {epoch} of {recipe.epochs}, {_means(losses)}, {time.monotonic() - started:.0f} s")
            look(epoch, averaged.eval())
            averaged.train()
    return averaged.eval()


def _means(losses: Sequence[dict[str, float]]) -> str:
    return ", ".join(f"{name} {np.mean([loss[name] for loss in losses]):.3f}" for name in losses[0])


def _stacked(targets: Sequence[GradeTargets]) -> GradingLogits:
    """The targets of a batch, in the shape of the network's output."""
    parts = ([t.direct for t in targets], [t.above for t in targets], [t.signs for t in targets])
    return GradingLogits(*(torch.from_numpy(np.stack(part)).float() for part in parts))


def loss_terms(logits: GradingLogits, targets: GradingLogits, recipe: GradingRecipe) -> dict[str, Tensor]:
    """Binary cross entropy of class, thresholds of the grade and signs, each the mean over what is known."""
    return {
        "class": _known_loss(logits.direct, targets.direct),
        "grade": recipe.grade_weight * _known_loss(logits.above, targets.above),
        "signs": recipe.sign_weight * _known_loss(logits.signs, targets.signs),
    }


def _known_loss(logits: Tensor, targets: Tensor) -> Tensor:
    known = torch.isfinite(targets)
    if not known.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[known], targets[known])
