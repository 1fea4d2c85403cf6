"""What learns in a run: the network with its losses, the optimiser and the average of the weights, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainer.training.averaging import WarmedAverage
from trainer.training.learning_rate import learning_rate
from trainer.training.micro_batches import MicroBatches
from trainer.training.options import RunOptions
from trainer.training.ranks import Ranks
from trainer.training.recipe import Schedule
from trainer.training.task import Batch, Objective


class Learner:
    """An objective on its device, and everything that a step changes.

    A step never waits for a GPU: the loss terms stay there until somebody reads them
    (`trainer.training.step_losses.StepLosses`).

    Parameters
    ----------
    steps_per_epoch, steps
        Of the whole run, which decide learning rate and objective association.
    """

    def __init__(
        self,
        objective: Objective,
        schedule: Schedule,
        options: RunOptions,
        device: torch.device,
        ranks: Ranks,
        *,
        steps_per_epoch: int,
        steps: int,
    ) -> None:
        self.schedule, self.options, self.device, self.ranks = schedule, options, device, ranks
        self.steps_per_epoch, self.steps = steps_per_epoch, steps
        objective.to(device).to(memory_format=_memory_format(objective))  # type: ignore[call-overload]
        self.model = ranks.wrap(objective, sync_bn=options.sync_bn)
        self.network = objective.network
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
        )
        self.average: WarmedAverage | None = None
        self.begin_average()

    def begin_average(self) -> None:
        """Begin the average of the weights, if the recipe asks for one, with those that the network has now."""
        decay = self.schedule.average_decay
        self.average = WarmedAverage(self.network, decay) if decay else None

    def evaluated_network(self) -> nn.Module:
        """The network ready to be evaluated, with the averaged weights if averaging is on."""
        network: nn.Module = self.network if self.average is None else self.average.module
        return network.eval()

    def step(self, batches: Iterator[Batch], number: int) -> dict[str, Tensor]:
        """Take step ``number`` of the optimiser.

        Returns the loss terms on the device, averaged over micro-batches and processes. They may be not finite; then so are
        the weights from here on.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.schedule, number, self.steps_per_epoch)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        count = self.options.micro_batches
        parts = [self._backward(next(batches), number, last=n == count - 1) for n in range(count)]
        values = self.ranks.mean(torch.stack([torch.stack(list(part.values())) for part in parts]).mean(dim=0))
        if self.schedule.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.gradient_clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return dict(zip(parts[0], values, strict=True))

    def _backward(self, batch: Batch, number: int, *, last: bool) -> dict[str, Tensor]:
        """Add a micro-batch's share to the gradients; with the last one the processes exchange them."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        associate = number >= self.schedule.association_from * self.steps
        half = self.options.precision == "bf16"
        with self._unsynchronised(last):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
                terms: dict[str, Tensor] = self.model(batch, associate)
            (torch.stack(list(terms.values())).sum() / self.options.micro_batches).backward()
        return {name: value.detach() for name, value in terms.items()}

    def _unsynchronised(self, last: bool) -> AbstractContextManager[None]:
        if last or self.ranks.world == 1:
            return nullcontext()
        return self.model.no_sync()  # type: ignore[operator]

    # ------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def take_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        RuntimeError
            If it is one of another network.
        """
        self.network.load_state_dict(state["network"])
        saved = state["optimiser"]
        # How the steps are computed is this program's matter; a checkpoint of an older version says otherwise.
        groups = [{**group, "fused": True, "foreach": None} for group in saved["param_groups"]]
        # load_state_dict looks at the present groups to see where the counts of steps belong.
        self.optimiser.load_state_dict({**saved, "param_groups": groups})
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def load_batches(
    samples: Dataset[Batch], micro_batches: MicroBatches, options: RunOptions, device: torch.device
) -> Iterator[Batch]:
    """The micro-batches of a process, prepared by ``options.workers`` processes beside it."""
    loader = DataLoader(
        samples,
        batch_sampler=micro_batches,
        num_workers=options.workers,
        prefetch_factor=4 if options.workers else None,
        pin_memory=device.type == "cuda",
    )
    return iter(loader)


def _memory_format(module: nn.Module) -> torch.memory_format:
    """Channels last, which is faster for 2-D convolutions; the weights of 3-D ones have too many axes for that."""
    flat = not any(isinstance(part, nn.Conv3d) for part in module.modules())
    return torch.channels_last if flat else torch.contiguous_format
