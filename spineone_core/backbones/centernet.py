"""CenterNet (Zhou et al. 2019, "Objects as points") on a ResNet: three deconvolutions to stride 4.

The deformable convolutions of the original are plain 3 x 3 convolutions here (reading 28).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from spineone_core.backbones.deeplab import conv_bn_relu
from spineone_core.backbones.resnet import ResNet


class CenterNet(nn.Module):
    """A ResNet, then three times a 3 x 3 convolution and a 4 x 4 deconvolution of stride 2.

    Parameters
    ----------
    trunk
        A ResNet at output stride 32.
    out_channels
        Channels of U at stride 4 (64 in the paper and the original).
    channels
        Channels of the first deconvolution (256 in the original); the second has half as many.
    bilinear
        Whether each deconvolution begins as the bilinear interpolation of its channels, instead of at random.
    """

    def __init__(self, trunk: ResNet, *, out_channels: int, channels: int, bilinear: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        widths = (trunk.out_channels[3], channels, channels // 2, out_channels)
        self.up = nn.Sequential(*(_up(a, b) for a, b in pairwise(widths)))
        if bilinear:
            for module in self.up.modules():
                if isinstance(module, nn.ConvTranspose2d):
                    _make_bilinear(module)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) -> U (B, out_channels, H/4, W/4)."""
        return self.up(self.trunk(x)[3])


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn_relu(in_channels, out_channels, 3),
        nn.ConvTranspose2d(out_channels, out_channels, 4, 2, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


@torch.no_grad()
def _make_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Weights with which a 4 x 4 deconvolution of stride 2 enlarges each channel by itself."""
    steps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight.zero_()
    for channel in range(layer.weight.shape[0]):
        layer.weight[channel, channel] = torch.outer(steps, steps)
