"""The training loop: one run folder, resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from spineone_core import metrics
from spineone_core.anatomy import Structure
from spineone_core.inference import choose_device
from spineone_core.losses import branch_loss
from spineone_core.model_package import Manifest, save_package
from spineone_core.network import STRUCTURES, SpineOne, count_parameters
from spineone_core.targets import GRADES
from spineone_core.two_stage import TwoStage, build_network, classification_loss
from trainer.augmentation import AugmentationConfig, Picture, Sample, augment
from trainer.datasets.exam import Exam
from trainer.evaluate import evaluate_network
from trainer.recipes import Recipe


class TrainingError(Exception):
    """A run cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """``real`` and ``phantoms``: for each exam its pictures; ``validation`` exams choose the best checkpoint."""

    real: Sequence[Sequence[Picture]]
    phantoms: Sequence[Sequence[Picture]]
    validation: Sequence[Exam]

    def fingerprint(self) -> str:
        """SHA-256 over all training pictures: a resumed run must see the same data."""
        digest = hashlib.sha256()
        for pictures in (*self.real, *self.phantoms):
            for picture in pictures:
                digest.update(picture.images.tobytes())
                digest.update(picture.points.tobytes())
        return digest.hexdigest()


class Run:
    """A training run in a folder: ``config.json``, ``log.jsonl``, ``last.pt``, ``best/`` (a model package).

    Parameters
    ----------
    recipe, data
        What to train, on what.
    folder
        Created where missing.
    seed
        Decides weights, order and augmentation. Randomness depends on (seed, step, place in batch) alone, so that a resumed
        run sees what an unbroken one would.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, folder: Path, *, seed: int, device: str = "auto") -> None:
        self.recipe, self.data, self.folder, self.seed = recipe, data, folder, seed
        self.device = choose_device(device)
        torch.manual_seed(seed)
        self.network = build_network(recipe.network).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.average = self._make_average()
        self.step, self.best, self.trained_s = 0, -1.0, 0.0
        self.samples_per_epoch = max(1, round(len(data.real) / max(1e-9, 1 - recipe.phantom_share)))
        if not data.real:
            self.samples_per_epoch = len(data.phantoms)
        self.steps_per_epoch = max(1, self.samples_per_epoch // recipe.batch)
        self.steps = recipe.epochs * self.steps_per_epoch
        self.fingerprint = data.fingerprint()

    def _make_average(self) -> AveragedModel | None:
        decay = self.recipe.average_decay
        if not decay:
            return None
        return AveragedModel(self.network, avg_fn=warmed_average(decay), use_buffers=True)

    def begin_with(self, network: SpineOne) -> None:
        """Take over the weights of a trained network; no effect on a run that is resumed afterwards.

        Raises
        ------
        TrainingError
            If its architecture is another than the recipe's.
        """
        if network.config != self.recipe.network:
            raise TrainingError(f"the package to begin with has another network than recipe {self.recipe.name}")
        self.network.load_state_dict(network.state_dict())
        self.average = self._make_average()

    # ------------------------------------------------------------ the loop

    def fit(self, *, validate_every: int = 10, resume: bool = False) -> None:
        """Train to the end; validates and keeps the best package every ``validate_every`` epochs.

        Raises
        ------
        TrainingError
            If the folder holds a run and ``resume`` is False, the data changed, or the loss is not finite.
        """
        self._open_folder(resume)
        while self.step < self.steps:
            started = time.monotonic()
            losses = [self._train_step() for _ in range(self._steps_to_epoch_end())]
            self.trained_s += time.monotonic() - started
            self._log_epoch(losses)
            if self.epoch % validate_every == 0 or self.step == self.steps:
                self._validate()
            self._save_checkpoint()

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.step // self.steps_per_epoch

    def _steps_to_epoch_end(self) -> int:
        return self.steps_per_epoch - self.step % self.steps_per_epoch

    def _train_step(self) -> dict[str, float]:
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, self.step, self.steps)
        samples = [self._sample(self.step * recipe.batch + i) for i in range(recipe.batch)]
        images = torch.from_numpy(np.stack([s.images for s in samples]))
        images = images.to(self.device, memory_format=torch.channels_last)
        self.network.train()
        outputs = self.network(images)
        associate = self.step >= recipe.association_from * self.steps
        terms: dict[str, Tensor] = {}
        for structure in STRUCTURES:
            heatmap, offsets, weight = self._stack(samples, structure)
            heat, offset = branch_loss(outputs[structure], heatmap, offsets, weight, recipe.loss, associate=associate)
            terms[f"{structure}_heatmap"], terms[f"{structure}_offset"] = heat, offset
        if isinstance(self.network, TwoStage):
            terms["crop_class"] = self._classifier_loss(self.network, images, samples)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is not finite at step {self.step}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.gradient_clip)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def _classifier_loss(self, network: TwoStage, images: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Second stage: crops around the annotated keypoints, moved about as a localiser would err.

        Both stages share no weight, so training them in one loop is training them one after the other.
        """
        spacing, rng = self.recipe.preprocessing.spacing_mm, np.random.default_rng([self.seed, 1_000_033, self.step])
        # A level that is not annotated has no class, so its crop is out of the loss wherever it lies.
        points = np.nan_to_num(np.stack([s.points for s in samples]))
        points = points + rng.normal(0, self.recipe.crop_jitter_mm / spacing, points.shape)
        labels = [[-1 if g is None else GRADES.index(g) for g in s.grades] for s in samples]
        logits = network.classify(images, torch.from_numpy(points).float().to(self.device), spacing)
        return classification_loss(logits, torch.tensor(labels))

    def _stack(self, samples: Sequence[Sample], structure: Structure) -> tuple[Tensor, Tensor, Tensor]:
        targets = [s.targets[structure] for s in samples]
        heatmap, offsets, weight = (
            torch.from_numpy(np.stack([getattr(t, name) for t in targets])).to(self.device)
            for name in ("heatmap", "offsets", "weight")
        )
        return heatmap, offsets, weight

    def _sample(self, index: int) -> Sample:
        """Training sample number ``index`` of the whole run."""
        epoch, place = divmod(index, self.samples_per_epoch)
        rng = np.random.default_rng([self.seed, index])
        pictures = self._choose(epoch, place, rng)
        # Half of the time the annotated slice, otherwise one beside it.
        chosen = pictures[0] if rng.random() < 0.5 else pictures[int(rng.integers(len(pictures)))]
        recipe = self.recipe
        return augment(
            chosen,
            recipe.preprocessing.spacing_mm,
            recipe.decoding.radius_px,
            self._crops_of(index // recipe.batch),
            rng,
            heatmap=recipe.network.heatmap,
            ignore_upper_disc=recipe.upper_disc == "ignore",
        )

    def _crops_of(self, batch: int) -> AugmentationConfig:
        """All crops of a batch are of one size."""
        config = self.recipe.augmentation
        tall = np.random.default_rng([self.seed, 1_000_037, batch]).random() < config.tall
        return replace(config, size=config.tall_size) if tall else config

    def _choose(self, epoch: int, place: int, rng: np.random.Generator) -> Sequence[Picture]:
        """Every real exam once an epoch in random order, phantoms at random in the places between."""
        order = np.random.default_rng([self.seed, 1_000_003, epoch]).permutation(self.samples_per_epoch)
        slot = int(order[place])
        if slot < len(self.data.real):
            return self.data.real[slot]
        return self.data.phantoms[int(rng.integers(len(self.data.phantoms)))]

    # ------------------------------------------------------------ validation, files

    def evaluated_network(self) -> SpineOne:
        """The averaged weights where averaging is on."""
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, SpineOne)
        return network.eval()

    def manifest(self, figures: dict[str, Any]) -> Manifest:
        return Manifest(
            name=f"spineone-{self.recipe.name}",
            version="0.1.0",
            network=self.recipe.network,
            preprocessing=self.recipe.preprocessing,
            decoding=self.recipe.decoding,
            training={
                "recipe": self.recipe.name,
                "seed": self.seed,
                "step": self.step,
                "epochs": self.epoch,
                "data_sha256": self.fingerprint,
                "real_exams": len(self.data.real),
                "phantoms": len(self.data.phantoms),
            },
            figures=figures,
        )

    def _validate(self) -> None:
        outcomes = evaluate_network(self.evaluated_network(), self.manifest({}), self.data.validation, self.device)
        figures = metrics.summary(outcomes)
        self._log({"validation": figures})
        score = validation_score(figures)
        if score > self.best:
            self.best = score
            save_package(self.folder / "best", self.evaluated_network(), self.manifest({"validation": figures}))

    def _open_folder(self, resume: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = self.folder / "last.pt"
        if checkpoint.exists():
            if not resume:
                raise TrainingError(f"{self.folder} holds a run already; give --resume or another folder")
            self._load_checkpoint(checkpoint)
            return
        config = {"recipe": self.recipe.to_json(), "seed": self.seed, "data_sha256": self.fingerprint}
        (self.folder / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
        self._log({"parameters": count_parameters(self.network), "steps": self.steps, "device": str(self.device)})

    def _save_checkpoint(self) -> None:
        state = {
            "step": self.step,
            "best": self.best,
            "trained_s": self.trained_s,
            "data_sha256": self.fingerprint,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }
        temporary = self.folder / "last.pt.part"
        torch.save(state, temporary)
        temporary.replace(self.folder / "last.pt")

    def _load_checkpoint(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["data_sha256"] != self.fingerprint:
            raise TrainingError(f"{path}: the run was begun on other data; resume it with the data it began with")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step, self.best, self.trained_s = state["step"], state["best"], state["trained_s"]

    def _log_epoch(self, losses: Sequence[dict[str, float]]) -> None:
        means = {name: float(np.mean([step[name] for step in losses])) for name in losses[0]}
        remaining = self.trained_s / self.step * (self.steps - self.step)
        rate = learning_rate(self.recipe, self.step - 1, self.steps)
        self._log({"loss": sum(means.values()), **means, "lr": rate, "minutes_left": round(remaining / 60, 1)})

    def _log(self, entry: dict[str, Any]) -> None:
        line = json.dumps({"epoch": self.epoch, "step": self.step, **entry})
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def warmed_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average whose decay grows to ``decay``: the random start is soon forgotten.

    With a fixed decay of .998 a third of the average would still be the untrained network after 500 steps, which finds nothing.
    """

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        share = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged * share + current * (1 - share) if averaged.is_floating_point() else current

    return average


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then lr (1 - step/steps)^power (Section IV-C)."""
    warmup = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    return recipe.learning_rate * warmup * float((1 - step / steps) ** recipe.decay_power)


def validation_score(figures: dict[str, float | int]) -> float:
    """What "best" means: levels first, then points, then classes."""
    classes = (figures["disc_macro_f1"] + figures["vertebra_macro_f1"]) / 2
    return float(figures["all_levels_right"] + figures["pck6_level_strict"] + classes)
