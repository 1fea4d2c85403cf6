"""SpineOne on CT volumes (Table V): one class, any number of vertebrae, three dimensions.

A lower resolution keeps memory small, not patches: a volume of 512 x 512 x 128 is averaged to 128 x 128 x 128 first (about
1.4 mm in the plane), so that attention sees the whole spine at once. Axes are (z, y, x), points (x, y, z); voxel centres at
integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.network.attention import DualAttention
from spineone_core.network.config import ConfigError

# The deepest stride; the sizes of reduced volumes must be multiples of it.
STRIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeConfig:
    """What decides the network.

    ``reduction`` is the number of voxels that are averaged along (z, y, x), ``width`` the number of channels of the first
    stage. ``pam``, ``cam`` and ``offset`` are as in 2-D. ``radius`` is R of targets and voting, in reduced voxels.
    """

    reduction: tuple[int, int, int] = (1, 4, 4)
    width: int = 16
    pam: bool = True
    cam: bool = True
    offset: bool = True
    radius: float = 3.0

    def __post_init__(self) -> None:
        if len(self.reduction) != 3 or min(self.reduction) < 1:
            raise ConfigError(f"volume option reduction = {self.reduction}; allowed: three whole numbers from 1 on")
        if self.width < 4 or not self.radius > 0:
            raise ConfigError(
                f"volume options width = {self.width}, radius = {self.radius}; allowed: at least 4, above 0"
            )


class VolumeOutput(NamedTuple):
    """``logits`` (B, 1, Z, Y, X) and ``offsets`` (B, 3, Z, Y, X), in reduced voxels; offsets (x, y, z) in units of R, or None."""

    logits: Tensor
    offsets: Tensor | None


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


class SpineOneVolume(nn.Module):
    """An encoder to stride 8 of the reduced volume, dual attention there, a decoder to stride 4, and one branch of heads."""

    def __init__(self, config: VolumeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Sequential(_conv(1, w, 2), _conv(w, w))
        self.middle = nn.Sequential(_conv(w, 2 * w, 2), _conv(2 * w, 2 * w))
        self.deep = nn.Sequential(_conv(2 * w, 4 * w, 2), _conv(4 * w, 4 * w))
        self.attention = DualAttention(4 * w, pam=config.pam, cam=config.cam)
        self.decoder = nn.Sequential(_conv(6 * w, 2 * w), _conv(2 * w, 2 * w))
        self.heatmap = nn.Conv3d(2 * w, 1, 1)
        self.offset = nn.Conv3d(2 * w, 3, 1) if config.offset else None
        # The focal loss starts with p = .01 everywhere (reading 8).
        nn.init.constant_(self.heatmap.bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, volumes: Tensor) -> VolumeOutput:
        """Maps at the reduced size.

        Parameters
        ----------
        volumes
            (B, 1, Z, Y, X) at full resolution, z-scored; reduced sizes are multiples of 8.

        Raises
        ------
        ValueError
            If the shape is a different one.
        """
        factors = self.config.reduction
        fits = volumes.ndim == 5 and volumes.shape[1] == 1
        if not fits or any(n % (STRIDE * f) for n, f in zip(volumes.shape[2:], factors, strict=True)):
            raise ValueError(
                f"input {tuple(volumes.shape)} is not (B, 1, Z, Y, X) in multiples of {tuple(STRIDE * f for f in factors)}"
            )
        return self.maps(F.avg_pool3d(volumes, factors))

    def maps(self, reduced: Tensor) -> VolumeOutput:
        """The same for a (B, 1, Z, Y, X) volume that is already reduced, as training keeps it."""
        middle = self.middle(self.stem(reduced))
        deep = self._attend(self.deep(middle))
        deep = F.interpolate(deep, size=middle.shape[2:], mode="trilinear", align_corners=False)
        features = self.decoder(torch.cat([deep, middle], dim=1))
        size = reduced.shape[2:]
        offsets = None if self.offset is None else _grow(self.offset(features), size)
        return VolumeOutput(_grow(self.heatmap(features), size), offsets)

    def _attend(self, features: Tensor) -> Tensor:
        """Attention knows no neighbourhood, so two of the three axes become one."""
        flat = features.flatten(2, 3)
        attended: Tensor = self.attention(flat)
        return attended.reshape(features.shape)


def _grow(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size=size, mode="trilinear", align_corners=False)
