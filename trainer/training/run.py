"""The training loop: a run has one folder, can be resumed at any moment, and uses one or several processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from spineone_core.detection.devices import choose_device
from spineone_core.detection.views import PRECISIONS
from spineone_core.network.build import count_parameters
from trainer.training.pretrained import load_backbone
from trainer.training.ranks import Ranks, local_device
from trainer.training.recipe import Schedule
from trainer.training.run_folder import RunFolder, TrainingError
from trainer.training.task import Batch, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run uses the machine; the recipe says what it learns.

    ``precision`` is fp32 or bf16 (autocast; losses stay in fp32). A batch is split into ``micro_batches`` parts that are
    computed one after the other, and their gradients are averaged. This saves memory; batch normalisation sees one part at
    a time, as it does with several processes. ``workers`` processes prepare samples during the training. ``backbone`` is a
    file of torchvision's weights.
    """

    device: str = "auto"
    precision: str = "fp32"
    micro_batches: int = 1
    workers: int = 0
    backbone: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        if self.micro_batches < 1 or self.workers < 0:
            raise ValueError(f"micro_batches {self.micro_batches}, workers {self.workers}; allowed: from 1, from 0 on")


class Run:
    """A training run in a folder (`trainer.training.run_folder`).

    Parameters
    ----------
    task
        What to train, on what.
    folder
        It is created if it is missing.
    seed
        Decides weights, order and augmentation. Randomness depends only on (seed, number of the sample), so that a resumed run,
        or one with several processes, sees what an unbroken run would.
    options
        How the run uses the machine.

    Raises
    ------
    TrainingError
        If the batch cannot be shared evenly, or if the backbone's weights do not fit.
    """

    def __init__(self, task: Task, folder: Path, *, seed: int, options: RunOptions | None = None) -> None:
        self.task, self.schedule, self.seed = task, task.schedule, seed
        self.options = options or RunOptions()
        self.device = local_device(choose_device(self.options.device))
        self.ranks = Ranks.join(self.device)
        self.folder = RunFolder(folder, writes=self.ranks.first)
        torch.manual_seed(seed)
        objective = task.objective()
        if self.options.backbone:
            load_backbone(objective.network, self.options.backbone)
        objective.to(self.device).to(memory_format=_memory_format(objective))  # type: ignore[call-overload]
        self.network = objective.network
        self.model = self.ranks.wrap(objective)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.schedule.learning_rate, weight_decay=self.schedule.weight_decay
        )
        self.average = self._make_average()
        self.step, self.best, self.trained_s = 0, -1.0, 0.0
        self.steps_per_epoch = max(1, task.samples_per_epoch // self.schedule.batch)
        self.steps = self.schedule.epochs * self.steps_per_epoch
        self.fingerprint = task.fingerprint()

    def _make_average(self) -> AveragedModel | None:
        decay = self.schedule.average_decay
        if not decay:
            return None
        return AveragedModel(self.network, avg_fn=warmed_average(decay), use_buffers=True)

    def begin_with(self, network: nn.Module) -> None:
        """Take over the weights of a trained network; this has no effect on a run that is resumed afterwards.

        Raises
        ------
        TrainingError
            If its architecture is not that of the recipe.
        """
        if network.config != self.network.config:
            raise TrainingError(f"the package to begin with has another network than recipe {self.schedule.name}")
        self.network.load_state_dict(network.state_dict())
        self.average = self._make_average()

    # ------------------------------------------------------------ the loop

    def fit(self, *, validate_every: int = 10, resume: bool = False) -> None:
        """Train to the end. Validates every ``validate_every`` epochs and keeps the best package, or the last without validation.

        Raises
        ------
        TrainingError
            If the folder holds a run and ``resume`` is False, the data or the recipe changed, the loss is not finite, or a
            checkpoint cannot be written.
        """
        self.open_folder(resume=resume)
        batches = self.batches()
        with self._progress() as advance:
            while self.step < self.steps:
                self.train_epoch(batches)
                if self.epoch % validate_every == 0 or self.step == self.steps:
                    self._validate()
                self.save()
                advance(self.epoch)
        self.ranks.wait()

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.step // self.steps_per_epoch

    def batches(self) -> Iterator[Batch]:
        """The micro-batches of this process from the present step to the end."""
        workers = self.options.workers
        loader = DataLoader(
            self.task.samples(self.seed),
            batch_sampler=MicroBatches(self, self.step),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def train_epoch(self, batches: Iterator[Batch]) -> None:
        """Train to the end of the present epoch and log its mean losses.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        started = time.monotonic()
        losses = [self.train_step(batches) for _ in range(self.steps_per_epoch - self.step % self.steps_per_epoch)]
        self.trained_s += time.monotonic() - started
        self._log_epoch(losses)

    def train_step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Take one step of the optimiser and return the loss terms, averaged over micro-batches and processes.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.schedule, self.step, self.steps_per_epoch)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        parts = [
            self._backward(next(batches), last=n == self.options.micro_batches - 1)
            for n in range(self.options.micro_batches)
        ]
        values = self.ranks.mean(torch.stack([torch.stack(list(part.values())) for part in parts]).mean(dim=0))
        if not torch.isfinite(values).all():
            raise TrainingError(f"the loss is not finite at step {self.step}; lower the learning rate")
        if self.schedule.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.gradient_clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        return dict(zip(parts[0], values.tolist(), strict=True))

    def _backward(self, batch: Batch, *, last: bool) -> dict[str, Tensor]:
        """Add a micro-batch's share to the gradients; with the last one the processes exchange them."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        associate = self.step >= self.schedule.association_from * self.steps
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

    # ------------------------------------------------------------ validation, files

    def evaluated_network(self) -> nn.Module:
        """The network ready to be evaluated, with the averaged weights if averaging is on."""
        network: nn.Module = self.network if self.average is None else self.average.module
        return network.eval()

    def _validate(self) -> None:
        """Keep the best package, or the last one if there are no validation exams."""
        if not self.ranks.first:
            return
        result = self.task.validate(self.evaluated_network(), self.device)
        if result is None:
            if self.step == self.steps:
                self._save_package({})
            return
        score, figures = result
        self._log({"validation": figures})
        if score > self.best:
            self.best = score
            self._save_package({"validation": figures})

    def _save_package(self, figures: dict[str, Any]) -> None:
        training = {
            "recipe": self.schedule.name,
            "seed": self.seed,
            "step": self.step,
            "epochs": self.epoch,
            "data_sha256": self.fingerprint,
        }
        try:
            self.task.save(self.folder.best, self.evaluated_network(), training, figures)
        except OSError as error:
            raise TrainingError(f"package {self.folder.best} cannot be written ({error})") from error

    def open_folder(self, *, resume: bool = False) -> None:
        """Describe the run in its folder, or take up the run that the folder holds at its last checkpoint.

        Raises
        ------
        TrainingError
            If the folder holds a run and ``resume`` is False, or that run had other data or another recipe.
        """
        if self.folder.checkpoint.exists():
            if not resume:
                raise TrainingError(f"{self.folder.path} already holds a run; give --resume or another folder")
            self._take_state(self.folder.load(self.device))
            return
        options = {"precision": self.options.precision, "micro_batches": self.options.micro_batches}
        machine = {**options, "processes": self.ranks.world, "backbone": self.options.backbone}
        self.folder.begin(
            {"recipe": self.task.config(), "seed": self.seed, "data_sha256": self.fingerprint, "machine": machine}
        )
        self._log({"parameters": count_parameters(self.network), "steps": self.steps, "device": str(self.device)})

    def save(self) -> None:
        """Write the checkpoint that a resumed run goes on from.

        Raises
        ------
        TrainingError
            If it cannot be written; the checkpoint before stays.
        """
        self.folder.save(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "steps": self.steps,
            "best": self.best,
            "trained_s": self.trained_s,
            "data_sha256": self.fingerprint,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def _take_state(self, state: dict[str, Any]) -> None:
        place = self.folder.checkpoint
        if state["data_sha256"] != self.fingerprint:
            raise TrainingError(f"{place}: the run was begun on other data; resume it with the data it began with")
        if state["steps"] != self.steps:
            raise TrainingError(f"{place}: the run was begun for {state['steps']} steps, not {self.steps}")
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise TrainingError(f"{place}: the run was begun with another network") from error
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step, self.best, self.trained_s = state["step"], state["best"], state["trained_s"]

    def _log_epoch(self, losses: Sequence[dict[str, float]]) -> None:
        means = {name: float(np.mean([step[name] for step in losses])) for name in losses[0]}
        remaining = self.trained_s / self.step * (self.steps - self.step)
        rate = learning_rate(self.schedule, self.step - 1, self.steps_per_epoch)
        per_second = self.step * self.schedule.batch / max(self.trained_s, 1e-9)
        timing = {"minutes_left": round(remaining / 60, 1), "exams_per_s": round(per_second, 2)}
        self._log({"loss": sum(means.values()), **means, "lr": rate, **timing})

    def _log(self, entry: dict[str, Any]) -> None:
        line = self.folder.log({"epoch": self.epoch, "step": self.step, **entry})
        if self.ranks.first and not sys.stdout.isatty():
            print(line, flush=True)

    def _progress(self) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar with the time left, on a terminal only."""
        if not self.ranks.first or not sys.stdout.isatty():
            return nullcontext(lambda epoch: None)
        return _Bar(self.schedule.name, self.epoch, self.schedule.epochs)


class _Bar:
    """A progress bar: epochs done and time left."""

    def __init__(self, name: str, done: int, total: int) -> None:
        columns = (
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs, left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns)
        self._task = self._progress.add_task(name, completed=done, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        return lambda epoch: self._progress.update(self._task, completed=epoch)

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


class MicroBatches:
    """The numbers of the samples in each micro-batch of one process, from a step to the end of its run.

    A batch has (processes x micro_batches) equal parts, and a process takes neighbouring ones.

    Raises
    ------
    TrainingError
        If the batch cannot be shared evenly.
    """

    def __init__(self, run: Run, first_step: int) -> None:
        self.run, self.first_step = run, first_step
        parts = run.ranks.world * run.options.micro_batches
        if run.schedule.batch % parts:
            raise TrainingError(
                f"a batch of {run.schedule.batch} cannot be shared by {run.ranks.world} processes"
                f" with {run.options.micro_batches} micro-batches each"
            )
        self.size = run.schedule.batch // parts

    def __len__(self) -> int:
        return (self.run.steps - self.first_step) * self.run.options.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        count = self.run.options.micro_batches
        for step in range(self.first_step, self.run.steps):
            for n in range(count):
                start = step * self.run.schedule.batch + (self.run.ranks.rank * count + n) * self.size
                yield list(range(start, start + self.size))


def _memory_format(module: nn.Module) -> torch.memory_format:
    """Channels last, which is faster for 2-D convolutions; the weights of 3-D ones have too many axes for that."""
    flat = not any(isinstance(part, nn.Conv3d) for part in module.modules())
    return torch.channels_last if flat else torch.contiguous_format


def warmed_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average whose decay grows up to ``decay``, so that the random start is soon forgotten.

    With a fixed decay of .998, a third of the average would still be the untrained network after 500 steps, and it finds
    nothing.
    """

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        share = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged * share + current * (1 - share) if averaged.is_floating_point() else current

    return average


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then lr (1 - i/T)^power of T epochs; i is the epoch or its fraction (Section IV-C)."""
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    epoch = step // steps_per_epoch if schedule.decay_by == "epoch" else step / steps_per_epoch
    return schedule.learning_rate * warmup * float((1 - epoch / schedule.epochs) ** schedule.decay_power)
