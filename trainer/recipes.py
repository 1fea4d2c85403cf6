"""Runs: a recipe is a Python function that returns the full config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from spineone_core.losses import LossConfig
from spineone_core.model_package import DecodingConfig
from spineone_core.network import NetworkConfig
from spineone_core.preprocessing import PreprocessingConfig
from trainer import augmentation
from trainer.augmentation import AugmentationConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a training run but data and seed.

    ``learning_rate`` decays as (1 - step/steps)^0.9 after ``warmup_steps``; ``association_from`` is the share of the training
    after which objective association acts (1 = never); ``phantom_share`` of the samples are procedural phantoms;
    ``gradient_clip`` and ``average_decay`` 0 switch off; ``slice_reach_mm`` lets training stacks lie off the annotated slice.
    """

    name: str
    network: NetworkConfig
    preprocessing: PreprocessingConfig
    augmentation: AugmentationConfig
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    epochs: int = 300
    batch: int = 16
    learning_rate: float = 1e-3
    decay_power: float = 0.9
    warmup_steps: int = 0
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    average_decay: float = 0.0
    association_from: float = 0.75
    phantom_share: float = 0.0
    slice_reach_mm: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shipped() -> Recipe:
    """The model that comes with the project: SpineOne on a half-width ResNet18, 0.875 mm pixels, single slices fused by three.

    Fit for a CPU and for data with one slice an exam; what differs from the paper stands in docs/model-card.md.
    """
    return Recipe(
        name="shipped",
        network=NetworkConfig(
            backbone="resnet18",
            slices=1,
            width=32,
            decoder_channels=128,
            low_level_channels=32,
            feature_channels=64,
            aspp_rates=(3, 6, 9),
            aspp_pooling=True,
            attention_stride=16,
        ),
        preprocessing=PreprocessingConfig(spacing_mm=0.875, slices=1, fused=3),
        augmentation=augmentation.STRONG,
        epochs=200,
        batch=8,
        learning_rate=1.5e-3,
        warmup_steps=200,
        weight_decay=1e-4,
        gradient_clip=5.0,
        average_decay=0.998,
        phantom_share=0.3,
        slice_reach_mm=6.0,
    )


def paper() -> Recipe:
    """SpineOne DeepLabv3+(Res101) exactly as in the text (Section IV-C)."""
    return Recipe(
        name="paper",
        network=NetworkConfig(),
        preprocessing=PreprocessingConfig(),
        augmentation=augmentation.PAPER,
        loss=LossConfig(association="literal", normalisation="minmax"),
        batch=16,
        learning_rate=0.01,
    )


def stable() -> Recipe:
    """The paper's network with a learning rate that converges, warm-up and gradient clip (reading 14)."""
    return Recipe(
        name="stable",
        network=NetworkConfig(),
        preprocessing=PreprocessingConfig(),
        augmentation=augmentation.PAPER,
        batch=16,
        learning_rate=1e-3,
        warmup_steps=250,
        gradient_clip=5.0,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {recipe.__name__: recipe for recipe in (shipped, paper, stable)}
