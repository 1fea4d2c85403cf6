"""The recipe of the 3-D variant (Table V)."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.training.recipe import Schedule
from trainer.volumes.network import STRIDE, VolumeConfig
from trainer.volumes.preprocessing import VolumePreprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecipe(Schedule):
    """Everything that decides the training of the 3-D variant on CT (Table V), except data and seed.

    Crops of ``crop`` reduced voxels (z, y, x) lie around a random vertebra; ``flip`` is the chance to exchange left and
    right; ``contrast_jitter`` scales and shifts grey values. ``suppression`` is the least distance of two vertebrae, in
    reduced voxels.
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
