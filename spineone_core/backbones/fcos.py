"""FCOS (Tian et al. 2019) as a keypoint backbone: towers on P3 to P5, whose outputs are brought to stride 4 (reading 26)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.backbones.fpn import top_down
from spineone_core.backbones.resnet import ResNet

TOWER_DEPTH = 4
GROUPS = 32


class FCOS(nn.Module):
    """A ResNet, an FPN and one tower that all levels share; its outputs are upsampled and summed.

    Parameters
    ----------
    trunk
        A ResNet at output stride 32.
    out_channels
        Channels of U at stride 4 (64 in the paper).
    channels
        Channels of pyramid and tower (256 in the original).
    """

    def __init__(self, trunk: ResNet, *, out_channels: int, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in trunk.out_channels[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in trunk.out_channels[1:])
        self.tower = nn.Sequential(*(_tower_layer(channels) for _ in range(TOWER_DEPTH)))
        self.project = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) -> U (B, out_channels, H/4, W/4)."""
        size = (x.shape[-2] // 4, x.shape[-1] // 4)
        merged = top_down([lateral(f) for lateral, f in zip(self.lateral, self.trunk(x)[1:], strict=True)])
        levels = [self.project(self.tower(smooth(level))) for smooth, level in zip(self.smooth, merged, strict=True)]
        grown = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels]
        return grown[0] + grown[1] + grown[2]


def _tower_layer(channels: int) -> nn.Sequential:
    groups = GROUPS if channels % GROUPS == 0 else 1
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.ReLU(inplace=True)
    )
