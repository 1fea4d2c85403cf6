"""Runs: a recipe is a Python function that returns the full config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spineone_core.detection.levels import DecodingConfig
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.rows import Row, find_row
from spineone_core.network.spineone import NetworkConfig
from trainer.samples import augmentation
from trainer.samples.augmentation import AugmentationConfig
from trainer.training.losses import LossConfig
from trainer.volumes.network import STRIDE, VolumeConfig
from trainer.volumes.preprocessing import VolumePreprocessing

# Objective association acts after this share of the epochs (Section III-E).
ASSOCIATION_FROM = 0.75
# Table I's best detector.
BEST_ROW = "spineone-deeplabv3plus-resnet101"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a run learns, whatever it trains.

    ``learning_rate`` decays as (1 - i/T)^``decay_power`` after ``warmup_steps``; i counts what ``decay_by`` says: ``epoch``, as
    Section IV-C, or ``step``, which is smoother in short runs. ``association_from`` is the share of the training after which
    objective association acts (1 = never); ``gradient_clip`` and ``average_decay`` 0 switch off.
    """

    name: str
    epochs: int = 300
    batch: int = 16
    learning_rate: float = 1e-3
    decay_power: float = 0.9
    decay_by: str = "step"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    average_decay: float = 0.0
    association_from: float = ASSOCIATION_FROM

    def __post_init__(self) -> None:
        if self.decay_by not in ("epoch", "step"):
            raise ValueError(f"decay_by {self.decay_by!r}; allowed: epoch, step")
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(f"epochs {self.epochs}, batch {self.batch}; allowed: at least 1")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Schedule):
    """Everything that decides the training of a detector for MRI but data and seed.

    ``phantom_share`` of the samples are procedural phantoms, ``lumbarised`` of these have a well-formed S1-S2 disc;
    ``slice_reach_mm`` lets training stacks lie off the annotated slice.
    ``upper_disc`` is what T12-L1 means, ``background`` or ``ignore`` (reading 18). ``crop_jitter_mm`` moves the crops on which a
    two-stage detector's classifier learns.
    """

    network: NetworkConfig
    preprocessing: PreprocessingConfig
    augmentation: AugmentationConfig
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    phantom_share: float = 0.0
    lumbarised: float = 0.0
    slice_reach_mm: float = 0.0
    upper_disc: str = "background"
    crop_jitter_mm: float = 2.0

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)  # super() does not reach it from a dataclass with slots
        if self.upper_disc not in ("background", "ignore"):
            raise ValueError(f"upper_disc {self.upper_disc!r}; allowed: background, ignore")
        if self.network.slices != self.preprocessing.slices:
            raise ValueError(
                f"the network takes {self.network.slices} slices, preprocessing gives {self.preprocessing.slices}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecipe(Schedule):
    """Everything that decides the training of the 3-D variant on CT (Table V) but data and seed.

    Crops of ``crop`` reduced voxels (z, y, x) lie around a random vertebra; ``flip`` is the chance to exchange left and right;
    ``contrast_jitter`` scales and shifts grey values. ``suppression`` is the least distance of two vertebrae, in reduced voxels.
    """

    network: VolumeConfig = field(default_factory=VolumeConfig)
    preprocessing: VolumePreprocessing = field(default_factory=VolumePreprocessing)
    crop: tuple[int, int, int] = (128, 128, 128)
    flip: float = 0.5
    contrast_jitter: float = 0.15
    suppression: int = 4

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        if any(n < STRIDE or n % STRIDE for n in self.crop):
            raise ValueError(f"crop {self.crop}; allowed: multiples of {STRIDE}")


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
        learning_rate=1e-3,
        warmup_steps=200,
        weight_decay=1e-4,
        gradient_clip=5.0,
        average_decay=0.998,
        phantom_share=0.5,
        lumbarised=0.25,
        slice_reach_mm=6.0,
    )


def paper_row(row: Row) -> Recipe:
    """A detector of the paper exactly as in the text (Section IV-C)."""
    return Recipe(
        name=f"paper/{row.name}",
        network=row.network,
        preprocessing=PreprocessingConfig(slices=row.network.slices),
        augmentation=augmentation.PAPER,
        decoding=DecodingConfig(merge="max", assignment="top_five"),
        loss=LossConfig(association="literal", normalisation="minmax"),
        batch=row.batch,
        learning_rate=row.learning_rate,
        decay_by="epoch",
        association_from=ASSOCIATION_FROM if row.association else 1.0,
    )


def stable_row(row: Row) -> Recipe:
    """The same detector with a learning rate that converges, warm-up and gradient clip (reading 14)."""
    return replace(
        paper_row(row),
        name=f"stable/{row.name}",
        decoding=DecodingConfig(),
        loss=LossConfig(),
        batch=16,
        learning_rate=1e-3,
        warmup_steps=250,
        gradient_clip=5.0,
    )


def paper() -> Recipe:
    """SpineOne DeepLabv3+(Res101) exactly as in the text."""
    return replace(paper_row(find_row(BEST_ROW)), name="paper")


def stable() -> Recipe:
    """The paper's best network with a learning rate that converges."""
    return replace(stable_row(find_row(BEST_ROW)), name="stable")


def table5() -> VolumeRecipe:
    """The 3-D variant on CT (Table V). The paper says no more of its training than the size of the input."""
    return VolumeRecipe(name="table5", batch=2, warmup_steps=250, gradient_clip=5.0)


RECIPES: dict[str, Callable[[], Recipe | VolumeRecipe]] = {
    recipe.__name__: recipe for recipe in (shipped, paper, stable, table5)
}
PRESETS: dict[str, Callable[[Row], Recipe]] = {"paper": paper_row, "stable": stable_row}


def find_recipe(name: str) -> Recipe | VolumeRecipe:
    """A recipe by name, or ``paper/ROW`` or ``stable/ROW`` for any row of the paper's tables.

    Raises
    ------
    ValueError
        If there is none; the message names what is allowed.
    """
    preset, _, row = name.partition("/")
    if row and preset in PRESETS:
        return PRESETS[preset](find_row(row))
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; allowed: {', '.join(RECIPES)}, paper/ROW, stable/ROW")
    return RECIPES[name]()
