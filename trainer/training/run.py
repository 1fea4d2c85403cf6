"""The training loop: a run has one folder, can be resumed at any moment, and uses one or several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from spineone_core.detection.devices import choose_device
from spineone_core.network.build import count_parameters
from trainer.training.averaging import warmed_average
from trainer.training.boards import Boards
from trainer.training.learning_rate import learning_rate, warmup_steps
from trainer.training.micro_batches import MicroBatches
from trainer.training.options import RunOptions
from trainer.training.out_of_memory import advice, is_out_of_memory
from trainer.training.pretrained import load_backbone
from trainer.training.progress import Pace, Shown
from trainer.training.ranks import Ranks, local_device
from trainer.training.run_folder import RunFolder, TrainingError
from trainer.training.run_settings import changed_settings, deciding, machine
from trainer.training.task import Batch, Task


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
        self.files: Mapping[str, str] = {}
        torch.manual_seed(seed)
        objective = task.objective()
        if self.options.backbone:
            load_backbone(objective.network, self.options.backbone)
        objective.to(self.device).to(memory_format=_memory_format(objective))  # type: ignore[call-overload]
        self.model = self.ranks.wrap(objective, sync_bn=self.options.sync_bn)
        self.network = objective.network
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.schedule.learning_rate, weight_decay=self.schedule.weight_decay
        )
        self.average = self._make_average()
        self.origin: list[dict[str, Any]] = []
        self.boards = Boards()
        self.step, self.best, self.trained_s = 0, float("-inf"), 0.0
        self.stale, self.stopped = 0, False
        self.steps_per_epoch = max(1, task.samples_per_epoch // self.schedule.batch)
        self.steps = self.schedule.epochs * self.steps_per_epoch
        self.fingerprint = task.fingerprint()
        self.pace = Pace(self.schedule.batch, self.device)
        self.shown = Shown(self.schedule.name, 0, self.steps, quiet=not self.ranks.first)

    def _make_average(self) -> AveragedModel | None:
        decay = self.schedule.average_decay
        if not decay:
            return None
        return AveragedModel(self.network, avg_fn=warmed_average(decay), use_buffers=True)

    def begin_with(self, network: nn.Module, origin: Sequence[dict[str, Any]]) -> None:
        """Take over the weights of a trained network; in a run that is resumed afterwards only its ``origin`` counts.

        ``origin`` is `trainer.training.provenance.origin_of` its package.

        Raises
        ------
        TrainingError
            If its architecture is not that of the recipe.
        """
        if network.config != self.network.config:
            raise TrainingError(f"the package to begin with has another network than recipe {self.schedule.name}")
        self.network.load_state_dict(network.state_dict())
        self.average = self._make_average()
        self.origin = list(origin)

    # ------------------------------------------------------------ the loop

    def fit(self, *, validate_every: int = 10, resume: bool = False, extend: bool = False) -> None:
        """Train to the end. Validates every ``validate_every`` epochs and keeps the best package, or the last without validation.

        Raises
        ------
        TrainingError
            If the folder holds a run and neither ``resume`` nor ``extend`` is True, the data or a setting changed, the loss
            is not finite, memory does not suffice, or a checkpoint cannot be written.
        """
        self.open_folder(resume=resume, extend=extend)
        try:
            if self.step == self.steps or self.stopped:
                why = "by --patience " if self.stopped else ""
                self.shown.line(f"the run ended {why}after {self.epoch} epochs; --extend with more --epochs goes on")
            else:
                self._fit(validate_every)
        except Exception as error:
            if is_out_of_memory(error):
                said = advice(self.schedule.batch, self.ranks.world, self.options, self.device)
                raise TrainingError(f"step {self.step}: {said}") from error
            raise
        finally:
            self.boards.close()

    def _fit(self, validate_every: int) -> None:
        batches = self.batches()
        with self.shown:
            while self.step < self.steps and not self.stopped:
                self.train_epoch(batches)
                if self.epoch % validate_every == 0 or self.step == self.steps:
                    self._validate()
                    self.stopped = self.ranks.any(self._is_to_stop(), self.device)
                self.save()
        if self.stopped:
            self.shown.line(f"no better validation {self.stale} times in a row: ended after {self.epoch} epochs")
        self.ranks.wait()

    def _is_to_stop(self) -> bool:
        return bool(self.options.patience) and self.stale >= self.options.patience

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.step // self.steps_per_epoch

    def micro_batches(self) -> MicroBatches:
        """The samples of this process from the present step to the end."""
        return MicroBatches(
            batch=self.schedule.batch,
            count=self.options.micro_batches,
            rank=self.ranks.rank,
            world=self.ranks.world,
            first_step=self.step,
            steps=self.steps,
        )

    def batches(self) -> Iterator[Batch]:
        """The micro-batches of this process from the present step to the end."""
        workers = self.options.workers
        loader = DataLoader(
            self.task.samples(self.seed),
            batch_sampler=self.micro_batches(),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def train_epoch(self, batches: Iterator[Batch]) -> None:
        """Train to the end of the present epoch, show each step, and log the mean losses.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        losses = []
        for _ in range(self.steps_per_epoch - self.step % self.steps_per_epoch):
            started = time.monotonic()
            losses.append(self.train_step(batches))
            seconds = time.monotonic() - started
            self.trained_s += seconds
            self.pace.add(seconds)
            self.shown.step(self.step, sum(losses[-1].values()), self.pace.figures(self.steps - self.step))
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
        self.stale += 1
        if score > self.best:
            self.best, self.stale = score, 0
            self._save_package({"validation": figures})

    def _save_package(self, figures: dict[str, Any]) -> None:
        training = {
            "recipe": self.schedule.name,
            "seed": self.seed,
            "step": self.step,
            "epochs": self.epoch,
            "data_sha256": self.fingerprint,
            **({"begun_with": self.origin} if self.origin else {}),
        }
        try:
            self.task.save(self.folder.best, self.evaluated_network(), training, figures)
        except OSError as error:
            raise TrainingError(f"package {self.folder.best} cannot be written ({error})") from error

    def settings(self) -> dict[str, Any]:
        """What ``config.json`` says of the run."""
        return {
            "recipe": self.task.config(),
            "seed": self.seed,
            "data_sha256": self.fingerprint,
            "begun_with": self.origin,
            "machine": machine(self.options, self.ranks.world),
        }

    def open_folder(self, *, resume: bool = False, extend: bool = False) -> None:
        """Describe the run in its folder, or take up the run that the folder holds at its last checkpoint.

        Nothing in the folder changes before it is certain that the run can go on.

        Raises
        ------
        TrainingError
            If the folder holds a run and neither ``resume`` nor ``extend`` is True, or that run had other data or settings,
            which the message names; ``extend`` allows more epochs.
        """
        if self.folder.checkpoint.exists():
            if not (resume or extend):
                raise TrainingError(f"{self.folder.path} already holds a run; give --resume or another folder")
            self._take_up(extend)
            self._open_boards()
            return
        if extend:
            raise TrainingError(f"{self.folder.path} holds no run to extend")
        self.folder.begin(self.settings(), self.files)
        self._open_boards()
        entry = {"parameters": count_parameters(self.network), "steps": self.steps, "device": str(self.device)}
        rising = warmup_steps(self.schedule, self.steps_per_epoch)
        if rising < self.schedule.warmup_steps:
            entry["note"] = f"warm-up of {self.schedule.warmup_steps} steps cut to {rising}, a tenth of the run"
        self._log(entry)

    def _take_up(self, extend: bool) -> None:
        state, begun, given = self.folder.load(self.device), self.folder.config(), self.settings()
        changed = changed_settings(begun, given)
        before = int(begun["recipe"]["epochs"])
        if extend and self.schedule.epochs >= before:
            changed = [line for line in changed if not line.startswith("recipe.epochs:")]
        if changed:
            raise TrainingError(
                f"{self.folder.checkpoint}: the run was begun with other settings: {'; '.join(changed)}. Give those, or"
                " another folder; --extend allows more epochs"
            )
        self._take_state(state)
        if self.schedule.epochs > before:
            self.stale, self.stopped = 0, False
            step = {"from_epochs": before, "at_step": self.step, "code": begun.get("code")}
            self.folder.describe({**given, "extended": [*begun.get("extended", []), step]}, self.files)
        self.folder.trim_log(self.step)

    def _open_boards(self) -> None:
        """Show the log's figures on TensorBoard, if it is installed, and on MLflow, if it is asked for."""
        if self.ranks.first:
            self.boards.open(self.folder.path, self.step, self.options.mlflow, deciding(self.settings()))
            self.folder.show = self.boards.show

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
            "stale": self.stale,
            "stopped": self.stopped,
            "trained_s": self.trained_s,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def _take_state(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise TrainingError(f"{self.folder.checkpoint}: the run was begun with another network") from error
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step, self.best, self.trained_s = state["step"], state["best"], state["trained_s"]
        self.stale, self.stopped = state.get("stale", 0), state.get("stopped", False)

    def _log_epoch(self, losses: Sequence[dict[str, float]]) -> None:
        means = {name: float(np.mean([step[name] for step in losses])) for name in losses[0]}
        rate = learning_rate(self.schedule, self.step - 1, self.steps_per_epoch)
        figures = self.pace.figures(self.steps - self.step)
        self._log({"loss": sum(means.values()), **means, "lr": rate, **figures})

    def _log(self, entry: dict[str, Any]) -> None:
        self.shown.line(self.folder.log({"epoch": self.epoch, "step": self.step, **entry}))


def _memory_format(module: nn.Module) -> torch.memory_format:
    """Channels last, which is faster for 2-D convolutions; the weights of 3-D ones have too many axes for that."""
    flat = not any(isinstance(part, nn.Conv3d) for part in module.modules())
    return torch.channels_last if flat else torch.contiguous_format
