"""DenseNet (Huang et al. 2017) with torchvision's state-dict keys, any width and any number of input slices."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS: dict[str, tuple[int, int, int, int]] = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}
# Channels of the 1 x 1 convolution in a layer, in units of the growth.
BOTTLENECK = 4


class DenseLayer(nn.Module):
    """BN, ReLU, 1 x 1, BN, ReLU and 3 x 3; the resulting ``growth`` channels are appended to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(F.relu(self.norm1(x)))
        new = self.conv2(F.relu(self.norm2(new)))
        return torch.cat([x, new], dim=1)


def _transition(in_channels: int) -> nn.Sequential:
    """What halves channels and size between two blocks."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        norm=nn.BatchNorm2d(in_channels),
        relu=nn.ReLU(inplace=True),
        conv=nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),
        pool=nn.AvgPool2d(2, 2),
    )
    return nn.Sequential(parts)


def _block(in_channels: int, count: int, growth: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(count):
        layers[f"denselayer{index + 1}"] = DenseLayer(in_channels + index * growth, growth)
    return nn.Sequential(layers)


class DenseNet(nn.Module):
    """Trunk without the classifier.

    Parameters
    ----------
    depth
        A key of ``BLOCKS``.
    in_channels
        Number of slices.
    width
        Channels of the stem. 64 is the standard network; the growth is half as many (32).
    """

    def __init__(self, depth: str, *, in_channels: int, width: int = 64) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"unknown DenseNet {depth!r}; allowed: {', '.join(BLOCKS)}")
        growth, channels = width // 2, width
        self.features = nn.Module()
        self.features.conv0 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.features.norm0 = nn.BatchNorm2d(width)
        sizes = []
        for number, count in enumerate(BLOCKS[depth], start=1):
            self.features.add_module(f"denseblock{number}", _block(channels, count, growth))
            channels += count * growth
            sizes.append(channels)
            if number < 4:
                self.features.add_module(f"transition{number}", _transition(channels))
                channels //= 2
        self.features.norm5 = nn.BatchNorm2d(channels)
        self.out_channels = tuple(sizes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, n, H, W) -> features at strides 4, 8, 16 and 32."""
        parts = self.features
        x = F.max_pool2d(F.relu(parts.norm0(parts.conv0(x))), 3, 2, 1)  # type: ignore[operator]
        c2 = parts.denseblock1(x)  # type: ignore[operator]
        c3 = parts.denseblock2(parts.transition1(c2))  # type: ignore[operator]
        c4 = parts.denseblock3(parts.transition2(c3))  # type: ignore[operator]
        c5 = parts.denseblock4(parts.transition3(c4))  # type: ignore[operator]
        return c2, c3, c4, F.relu(parts.norm5(c5))  # type: ignore[operator]
