"""From a CT volume to the input of the 3-D variant and back: one voxel size, one window of Hounsfield units, padded sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spineone_core.arrays import FloatArray
from spineone_core.network.config import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePreprocessing:
    """``spacing_mm`` (x, y, z) is the size of the network's full-resolution voxels: 512 x 512 x 128 are 358 x 358 x 256 mm.

    Hounsfield units are clipped to ``window`` and scaled to -1 .. 1.
    """

    spacing_mm: tuple[float, float, float] = (0.7, 0.7, 2.0)
    window: tuple[float, float] = (-250.0, 1250.0)

    def __post_init__(self) -> None:
        if len(self.spacing_mm) != 3 or min(self.spacing_mm) <= 0:
            raise ConfigError(f"volume option spacing_mm = {self.spacing_mm}; allowed: three positive lengths")
        if len(self.window) != 2 or self.window[0] >= self.window[1]:
            raise ConfigError(f"volume option window = {self.window}; allowed: a lower and a higher value")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedVolume:
    """``voxels`` (Z, Y, X) as the network sees them; ``scale`` (x, y, z) is the number of source voxels in a network voxel."""

    voxels: Tensor
    scale: FloatArray

    def to_source(self, points: FloatArray) -> FloatArray:
        """(K, 3) x, y, z in network voxels -> source voxels; both have their centres at integers."""
        return (np.asarray(points, dtype=float) + 0.5) * self.scale - 0.5

    def to_network(self, points: FloatArray) -> FloatArray:
        """(K, 3) x, y, z in source voxels -> network voxels."""
        return (np.asarray(points, dtype=float) + 0.5) / self.scale - 0.5


def prepare_volume(
    voxels: NDArray[np.float32],
    spacing_mm: Sequence[float],
    config: VolumePreprocessing,
    multiples: Sequence[int],
) -> PreparedVolume:
    """Resample to the config's spacing and pad at the far ends with the darkest value.

    Parameters
    ----------
    voxels
        (Z, Y, X) Hounsfield units.
    spacing_mm
        (x, y, z).
    multiples
        (z, y, x) of which the sizes must be multiples.

    Raises
    ------
    ValueError
        If the volume is blank, not finite or not three-dimensional, or if a spacing is not positive.
    """
    if voxels.ndim != 3 or min(voxels.shape) < 1 or min(spacing_mm) <= 0:
        raise ValueError(f"volume of shape {voxels.shape} with spacing {tuple(spacing_mm)}")
    if not np.isfinite(voxels).all() or voxels.min() == voxels.max():
        raise ValueError("the volume is blank or holds values that are not finite")
    low, high = config.window
    values = torch.from_numpy(np.clip((voxels - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32))
    extent = np.array(voxels.shape[::-1]) * np.array(spacing_mm)
    size = np.maximum(1, np.round(extent / np.array(config.spacing_mm))).astype(int)
    resampled = _resample(values, tuple(int(n) for n in size[::-1]))
    far = [(-n) % m for n, m in zip(resampled.shape, multiples, strict=True)]
    padded = F.pad(resampled, (0, far[2], 0, far[1], 0, far[0]), value=-1.0)
    return PreparedVolume(padded, np.array(voxels.shape[::-1]) / size)


def _resample(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Trilinear. Where an axis shrinks, voxels that fall together are averaged first, so that none is skipped."""
    z, y, x = (min(n, m) for n, m in zip(values.shape, size, strict=True))
    if (z, y, x) != tuple(values.shape):
        values = F.adaptive_avg_pool3d(values[None, None], (z, y, x))[0, 0]
    return F.interpolate(values[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
