"""The training loop: a run has one folder, can be resumed at any moment, and uses one or several processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spineone_core.detection.devices import choose_device
from spineone_core.network.build import count_parameters
from trainer.training.boards import Boards
from trainer.training.learner import Learner, load_batches
from trainer.training.learning_rate import learning_rate, warmup_steps
from trainer.training.micro_batches import MicroBatches
from trainer.training.options import RunOptions
from trainer.training.out_of_memory import advice, is_out_of_memory
from trainer.training.pretrained import load_backbone
from trainer.training.progress import Pace, Shown
from trainer.training.ranks import Ranks, local_device
from trainer.training.run_folder import RunFolder, TrainingError
from trainer.training.run_settings import changed_settings, deciding, machine
from trainer.training.step_losses import StepLosses
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
        self.steps_per_epoch = max(1, task.samples_per_epoch // self.schedule.batch)
        self.steps = self.schedule.epochs * self.steps_per_epoch
        self.learner = Learner(
            objective,
            self.schedule,
            self.options,
            self.device,
            self.ranks,
            steps_per_epoch=self.steps_per_epoch,
            steps=self.steps,
        )
        self.network = self.learner.network
        self.origin: list[dict[str, Any]] = []
        self.boards = Boards()
        self.step, self.best, self.trained_s = 0, float("-inf"), 0.0
        self.stale, self.stopped = 0, False
        self.losses, self.saved_at = StepLosses(), float("inf")
        self.fingerprint = task.fingerprint()
        self.pace = Pace(self.schedule.batch, self.device)
        self.shown = Shown(self.schedule.name, 0, self.steps, quiet=not self.ranks.first)

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
        self.learner.begin_average()
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
                elif self._checkpoint_is_due():
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
        return load_batches(self.task.samples(self.seed), self.micro_batches(), self.options, self.device)

    def train_epoch(self, batches: Iterator[Batch]) -> None:
        """Train to the end of the present epoch, show each step, and log the mean losses.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        for _ in range(self.steps_per_epoch - self.step % self.steps_per_epoch):
            started = time.monotonic()
            self.train_step(batches)
            seconds = time.monotonic() - started
            self.trained_s += seconds
            self.pace.add(seconds)
        if self.losses.waiting:
            self._look()
        self._log_epoch()

    def _look(self) -> None:
        """Read the losses, which waits for a GPU; show them, and write the checkpoint if one is due."""
        terms = self.losses.read(self.step)
        self.shown.step(self.step, sum(terms.values()), self.pace.figures(self.steps - self.step))
        if self.step % self.steps_per_epoch and self._checkpoint_is_due():
            self.save()

    def train_step(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """Take one step of the optimiser and return the loss terms, averaged over micro-batches and processes, on the device.

        Raises
        ------
        TrainingError
            If the loss is not finite; with a GPU, up to 15 steps later (`StepLosses`).
        """
        terms = self.learner.step(batches, self.step)
        self.step += 1
        if self.losses.add(terms):
            self._look()
        return terms

    # ------------------------------------------------------------ validation, files

    def evaluated_network(self) -> nn.Module:
        """The network ready to be evaluated, with the averaged weights if averaging is on."""
        return self.learner.evaluated_network()

    def _validate(self) -> None:
        """Keep the best package, or the last one if there are no validation exams."""
        network = self.evaluated_network()
        self.ranks.align(network)
        result = self.task.validate(network, self.device, self.ranks)
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
        self.saved_at = float("-inf")
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
        self.saved_at = time.monotonic()

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self.saved_at >= self.options.checkpoint_every_s

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "steps": self.steps,
            "best": self.best,
            "stale": self.stale,
            "stopped": self.stopped,
            "trained_s": self.trained_s,
            "losses": self.losses.state(),
            **self.learner.state(),
        }

    def _take_state(self, state: dict[str, Any]) -> None:
        try:
            self.learner.take_state(state)
        except RuntimeError as error:
            raise TrainingError(f"{self.folder.checkpoint}: the run was begun with another network") from error
        self.step, self.best, self.trained_s = state["step"], state["best"], state["trained_s"]
        self.stale, self.stopped = state.get("stale", 0), state.get("stopped", False)
        if "losses" in state:  # older versions wrote checkpoints between epochs only
            self.losses = StepLosses.of_state(state["losses"])

    def _log_epoch(self) -> None:
        means, self.losses = self.losses.means(), StepLosses()
        rate = learning_rate(self.schedule, self.step - 1, self.steps_per_epoch)
        figures = self.pace.figures(self.steps - self.step)
        self._log({"loss": sum(means.values()), **means, "lr": rate, **figures})

    def _log(self, entry: dict[str, Any]) -> None:
        self.shown.line(self.folder.log({"epoch": self.epoch, "step": self.step, **entry}))
