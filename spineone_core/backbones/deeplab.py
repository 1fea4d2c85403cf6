"""DeepLabv3+ (Chen et al. 2018): atrous spatial pyramid pooling and the decoder to stride 4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.backbones.resnet import ResNet


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution without bias, batch normalisation and ReLU; the size stays the same."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, 1, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ASPP(nn.Module):
    """A 1 x 1 and three dilated 3 x 3 convolutions side by side; image pooling as a fifth branch is optional (reading 23)."""

    def __init__(self, in_channels: int, out_channels: int, rates: Sequence[int], *, pooling: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn_relu(in_channels, out_channels, 1)])
        self.branches.extend(conv_bn_relu(in_channels, out_channels, 3, rate) for rate in rates)
        # No batch normalisation here: the pooled map is 1 x 1, and a batch may be a single exam.
        self.pooled = nn.Conv2d(in_channels, out_channels, 1) if pooling else None
        count = len(self.branches) + int(pooling)
        self.project = conv_bn_relu(count * out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in self.branches]
        if self.pooled is not None:
            mean = F.relu(self.pooled(x.mean(dim=(2, 3), keepdim=True)))
            outputs.append(mean.expand(-1, -1, *x.shape[-2:]))
        return self.project(torch.cat(outputs, dim=1))


class DeepLabV3Plus(nn.Module):
    """A ResNet, ASPP and the decoder.

    Parameters
    ----------
    trunk
        A ResNet at output stride 16.
    out_channels
        Channels of U at stride 4 (64 in the paper).
    channels
        Channels of ASPP and decoder (256 in the original).
    low_level_channels
        Channels of the reduced stride-4 features (48 in the original).
    wide_decoder
        Whether both convolutions of the decoder have ``channels``, as in the original, and a 1 x 1 convolution follows; otherwise
        the second one gives U.
    """

    def __init__(
        self,
        trunk: ResNet,
        *,
        out_channels: int = 64,
        channels: int = 256,
        low_level_channels: int = 48,
        rates: Sequence[int] = (6, 12, 18),
        pooling: bool = False,
        wide_decoder: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.aspp = ASPP(trunk.out_channels[3], channels, rates, pooling=pooling)
        self.low_level = conv_bn_relu(trunk.out_channels[0], low_level_channels, 1)
        self.decoder = nn.Sequential(
            conv_bn_relu(channels + low_level_channels, channels, 3),
            conv_bn_relu(channels, channels if wide_decoder else out_channels, 3),
        )
        if wide_decoder:
            self.decoder.append(conv_bn_relu(channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) -> U (B, out_channels, H/4, W/4)."""
        low, _, _, high = self.trunk(x)
        context = F.interpolate(self.aspp(high), size=low.shape[-2:], mode="bilinear", align_corners=False)
        return self.decoder(torch.cat([context, self.low_level(low)], dim=1))
