"""Trainings small enough for tests; ``python -m tests.fakes.tiny_runs FOLDER`` is one process of a distributed one."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from spineone_core.detection.levels import DecodingConfig
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from spineone_core.network.rows import Row
from trainer.datasets import phantoms
from trainer.recipes import stable_row
from trainer.samples.augmentation import AugmentationConfig
from trainer.samples.pictures import pictures_of
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.options import RunOptions
from trainer.training.recipe import Recipe
from trainer.training.run import Run

SPACING = 2.5


def shrunk(row: Row) -> Recipe:
    """A row of the paper with an eighth of its width on 128 x 64 pictures of one slice."""
    network = replace(
        row.network, slices=1, width=8, decoder_channels=16, low_level_channels=8, feature_channels=16, crop_px=32
    )
    return replace(
        stable_row(row),
        network=network,
        preprocessing=PreprocessingConfig(spacing_mm=SPACING, slices=1),
        decoding=DecodingConfig(radius_px=2.0),
        augmentation=AugmentationConfig(size=(128, 64), zoom=(0.99, 1.01), shift_mm=2),
        batch=2,
        epochs=1,
        warmup_steps=0,
        learning_rate=3e-3,
        association_from=0.0 if row.association else 1.0,
    )


def tiny_recipe() -> Recipe:
    """SpineOne on a narrow ResNet18 with attention; objective association in the second of two epochs."""
    return Recipe(
        name="tiny",
        network=NetworkConfig(
            backbone="resnet18",
            slices=1,
            width=8,
            decoder_channels=16,
            low_level_channels=8,
            feature_channels=16,
            aspp_rates=(1, 2, 3),
        ),
        preprocessing=PreprocessingConfig(spacing_mm=SPACING, slices=1),
        augmentation=AugmentationConfig(size=(128, 64), zoom=(0.95, 1.05), shift_mm=5),
        decoding=DecodingConfig(radius_px=2.0),
        batch=2,
        epochs=2,
        association_from=0.5,
    )


@cache
def tiny_data(validating: int = 1) -> TrainingData:
    """Four phantoms of one slice; the first ones validate."""
    exams = list(phantoms.read(range(4), slices=1))
    pictures = [pictures_of(e, tiny_recipe().preprocessing, 0) for e in exams]
    return TrainingData(real=pictures, phantoms=[], validation=exams[:validating])


def start(recipe: Recipe, data: TrainingData, folder: Path, seed: int = 0, **options: Any) -> Run:
    """A run on the CPU that has not begun."""
    return Run(KeypointTask(recipe, data), folder, seed=seed, options=RunOptions(device="cpu", **options))


if __name__ == "__main__":
    start(tiny_recipe(), tiny_data(2), Path(sys.argv[1]) / "both").fit(validate_every=100)
