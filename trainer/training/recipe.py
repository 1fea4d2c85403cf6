"""What a training consists of: its schedule and everything else that decides its outcome."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from spineone_core.detection.levels import DecodingConfig
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from trainer.samples.augmentation import AugmentationConfig
from trainer.training.losses import LossConfig

# Objective association acts after this share of the epochs (Section III-E).
ASSOCIATION_FROM = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a run learns, whatever it trains.

    ``learning_rate`` decays as (1 - i/T)^``decay_power`` after ``warmup_steps``. What i counts is in ``decay_by``: each
    ``epoch``, as in Section IV-C, or each ``step``, which is smoother in short runs. ``association_from`` is the share of
    the training after which objective association acts (1 = never). ``gradient_clip`` and ``average_decay`` are off at 0.
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
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Schedule):
    """Everything that decides the training of a detector for MRI, except data and seed.

    A share ``phantom_share`` of the samples are procedural phantoms, of which a share ``lumbarised`` has a well-formed
    S1-S2 disc. Training stacks may lie up to ``slice_reach_mm`` off the annotated slice. ``upper_disc`` says whether T12-L1
    is ``background`` or to ``ignore`` (reading 18). ``crop_jitter_mm`` moves the crops on which the classifier of a
    two-stage detector learns.
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
