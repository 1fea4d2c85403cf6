"""Training SpineOne, the conventional and the two-stage detectors on MRI slices (Tables I to IV, Figs. 7 and 8)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from spineone_core.anatomy import Structure
from spineone_core.detection.model_package import Manifest, save_package
from spineone_core.network.build import build_network
from spineone_core.network.config import CATEGORIES, STRUCTURES
from spineone_core.network.spineone import SpineOne
from spineone_core.network.two_stage import TwoStage
from trainer.datasets.exam import Exam
from trainer.datasets.exam_hashes import ExamHashes
from trainer.evaluation import metrics
from trainer.evaluation.outcomes import outcomes_of
from trainer.samples.augmentation import AugmentationConfig, Picture, Sample, augment
from trainer.samples.targets import GRADES, TargetMaps, draw_batch
from trainer.training.losses import branch_loss, classification_loss
from trainer.training.provenance import SEEN
from trainer.training.ranks import Ranks
from trainer.training.recipe import Recipe
from trainer.training.task import Batch, Objective

# What a batch has for each structure, as `trainer.samples.targets.Marks`.
MARKS = ("points", "classes", "ignored")
# Validation exams that are read together.
VALIDATED = 8


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The pictures of each exam, ``real`` and ``phantoms``; the ``validation`` exams choose the best checkpoint.

    ``hashes`` are the fingerprints of the real exams, which the package keeps; None where nobody made them.
    """

    real: Sequence[Sequence[Picture]]
    phantoms: Sequence[Sequence[Picture]]
    validation: Sequence[Exam]
    hashes: ExamHashes | None = None

    def fingerprint(self) -> str:
        """SHA-256 over all training pictures."""
        digest = hashlib.sha256()
        for pictures in (*self.real, *self.phantoms):
            for picture in pictures:
                digest.update(picture.images.tobytes())
                digest.update(picture.points.tobytes())
        return digest.hexdigest()


class KeypointTask:
    """A recipe on its data; see `trainer.training.task.Task`."""

    def __init__(self, recipe: Recipe, data: TrainingData) -> None:
        self.recipe, self.data = recipe, data
        real = round(len(data.real) / max(1e-9, 1 - recipe.phantom_share))
        self.samples_per_epoch = max(1, real) if data.real else len(data.phantoms)

    @property
    def schedule(self) -> Recipe:
        """See `Task`."""
        return self.recipe

    def config(self) -> dict[str, Any]:
        """See `Task`."""
        return self.recipe.to_json()

    def fingerprint(self) -> str:
        """See `Task`."""
        return self.data.fingerprint()

    def objective(self) -> KeypointObjective:
        """See `Task`."""
        return KeypointObjective(self.recipe)

    def samples(self, seed: int) -> KeypointSamples:
        """See `Task`."""
        return KeypointSamples(self, seed)

    def validate(self, network: nn.Module, device: torch.device, ranks: Ranks) -> tuple[float, dict[str, Any]] | None:
        """See `Task`."""
        if not self.data.validation:
            return None
        assert isinstance(network, SpineOne)
        mine = outcomes_of(network, self.manifest({}, {}), ranks.share(self.data.validation), device, batch=VALIDATED)
        figures = metrics.summary(ranks.gather(mine))
        return validation_score(figures), dict(figures)

    def save(self, folder: Path, network: nn.Module, training: dict[str, Any], figures: dict[str, Any]) -> None:
        """See `Task`."""
        assert isinstance(network, SpineOne)
        counts: dict[str, Any] = {"real_exams": len(self.data.real), "phantoms": len(self.data.phantoms)}
        if self.data.hashes is not None:
            counts[SEEN] = self.data.hashes.to_json()
        save_package(folder, network, self.manifest({**training, **counts}, figures))

    def manifest(self, training: dict[str, Any], figures: dict[str, Any]) -> Manifest:
        """The manifest of a network of this recipe."""
        return Manifest(
            name=f"spineone-{self.recipe.name}",
            version="0.1.0",
            network=self.recipe.network,
            preprocessing=self.recipe.preprocessing,
            decoding=self.recipe.decoding,
            training=training,
            figures=figures,
        )


def validation_score(figures: dict[str, float | int]) -> float:
    """What "best" means: the shares of exams with right levels and of points found, and how well classes are told.

    The last is exp(-log loss), the geometric mean of the probability given to the true class. Unlike F1 it also falls where few
    validation exams are called right by a narrow margin, and needs no class to occur; without known classes it is left out.
    """
    loss = figures["class_log_loss"]
    told = 0.0 if math.isnan(loss) else math.exp(-loss)
    return float(figures["all_levels_right"] + figures["pck6_level_strict"] + told)


class KeypointObjective(Objective):
    """The four terms of Eq. 4 (with Eq. 6 where ``associate``), and the loss of the crop classifier for a two-stage detector.

    The two stages share no weights, so training them in one loop is the same as training them one after the other.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = build_network(recipe.network)

    def forward(self, batch: Batch, associate: bool) -> dict[str, Tensor]:
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        outputs = self.network(images)
        terms: dict[str, Tensor] = {}
        for s in STRUCTURES:
            maps = self.targets(batch, s)
            heat, offset = branch_loss(outputs[s], *maps, self.recipe.loss, associate=associate)
            terms[f"{s}_heatmap"], terms[f"{s}_offset"] = heat, offset
        if isinstance(self.network, TwoStage):
            logits = self.network.classify(images, batch["points"], self.recipe.preprocessing.spacing_mm)
            terms["crop_class"] = classification_loss(logits, batch["labels"])
        return terms

    def targets(self, batch: Batch, structure: Structure) -> TargetMaps:
        """The targets of a structure, drawn where the batch is: they are twice as large as the pictures."""
        points, classes, ignored = (batch[f"{structure}_{name}"] for name in MARKS)
        return draw_batch(
            points,
            classes,
            ignored,
            (batch["images"].shape[-2], batch["images"].shape[-1]),
            self.recipe.decoding.radius_px,
            heatmap=self.recipe.network.heatmap,
            categories=CATEGORIES[structure],
        )


class KeypointSamples(Dataset[Batch]):
    """Every real exam comes once in each epoch, in random order; random phantoms fill the places between."""

    def __init__(self, task: KeypointTask, seed: int) -> None:
        self.task, self.seed = task, seed

    def __getitem__(self, index: int) -> Batch:
        """Sample number ``index`` of the whole run as tensors; ``points`` are the crops' middles, ``labels`` -1 if unknown."""
        rng = np.random.default_rng([self.seed, index])
        sample = self.draw(index, rng)
        recipe = self.task.recipe
        # A localiser errs, so the classifier learns on crops that are moved at random.
        # A level that is not annotated has no class, so wherever its crop lies, it does not enter the loss.
        points = np.nan_to_num(sample.points)
        jitter = rng.normal(0, recipe.crop_jitter_mm / recipe.preprocessing.spacing_mm, sample.points.shape)
        labels = [-1 if g is None else GRADES.index(g) for g in sample.grades]
        batch = {
            "images": torch.from_numpy(sample.images),
            "points": torch.from_numpy(points + jitter).float(),
            "labels": torch.tensor(labels),
        }
        for structure, marks in sample.marks.items():
            batch |= {f"{structure}_{name}": torch.from_numpy(getattr(marks, name)) for name in MARKS}
        return batch

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """The augmented exam for a place in the run."""
        recipe = self.task.recipe
        pictures = self._choose(*divmod(index, self.task.samples_per_epoch), rng)
        # In half of the cases it is the annotated slice, otherwise a random one of those near it.
        chosen = pictures[0] if rng.random() < 0.5 else pictures[int(rng.integers(len(pictures)))]
        return augment(
            chosen,
            recipe.preprocessing.spacing_mm,
            self._crops_of(index // recipe.batch),
            rng,
            heatmap=recipe.network.heatmap,
            ignore_upper_disc=recipe.upper_disc == "ignore",
        )

    def _crops_of(self, batch: int) -> AugmentationConfig:
        """The config for a batch, whose crops all have one size."""
        config = self.task.recipe.augmentation
        tall = np.random.default_rng([self.seed, 1_000_037, batch]).random() < config.tall
        return replace(config, size=config.tall_size) if tall else config

    def _choose(self, epoch: int, place: int, rng: np.random.Generator) -> Sequence[Picture]:
        data = self.task.data
        order = np.random.default_rng([self.seed, 1_000_003, epoch]).permutation(self.task.samples_per_epoch)
        slot = int(order[place])
        if slot < len(data.real):
            return data.real[slot]
        return data.phantoms[int(rng.integers(len(data.phantoms)))]
