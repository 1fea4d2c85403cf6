"""Feature pyramid network (Lin et al. 2017) and its use as a neck to stride 4."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.backbones.deeplab import conv_bn_relu


class FPN(nn.Module):
    """A trunk and a pyramid; U is the finest level, to which all coarser ones have been added.

    Parameters
    ----------
    trunk
        A network that gives features at strides 4, 8, 16 and 32.
    in_channels
        Channels of these features, finest first.
    out_channels
        Channels of U at stride 4 (64 in the paper).
    channels
        Channels of the pyramid (256 in the original).
    """

    def __init__(self, trunk: nn.Module, in_channels: Sequence[int], *, out_channels: int, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.smooth = conv_bn_relu(channels, channels, 3)
        self.project = conv_bn_relu(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) -> U (B, out_channels, H/4, W/4)."""
        merged = top_down([lateral(f) for lateral, f in zip(self.lateral, self.trunk(x), strict=True)])
        return self.project(self.smooth(merged[0]))


def top_down(laterals: Sequence[Tensor]) -> list[Tensor]:
    """Each level plus everything coarser, the finest first."""
    merged = list(laterals)
    for i in range(len(merged) - 2, -1, -1):
        merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
    return merged
