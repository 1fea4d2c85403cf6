"""ResNet (He et al. 2016) with torchvision's state-dict keys, any width and any number of input slices."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions (ResNet18)."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions (ResNet50, 101); the 3 x 3 has the stride."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * 4)
        self.downsample = _shortcut(in_channels, channels * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


DEPTHS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """Trunk without the classifier.

    Parameters
    ----------
    depth
        A key of ``DEPTHS``.
    in_channels
        Number of slices.
    width
        Channels of the first stage; 64 is the standard network.
    output_stride
        32, or 16, where the last stage is dilated by 2 instead, from its first block on (DeepLabv3+).
    multi_grid
        What the dilation of each block of the last stage is multiplied by; the last number counts for all further blocks.
    """

    def __init__(
        self,
        depth: str,
        *,
        in_channels: int,
        width: int = 64,
        output_stride: int = 16,
        multi_grid: tuple[int, ...] = (1,),
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"unknown ResNet {depth!r}; allowed: {', '.join(DEPTHS)}")
        if output_stride not in (16, 32):
            raise ValueError(f"output stride {output_stride} is not 16 or 32")
        block, counts = DEPTHS[depth]
        self._in_channels = width
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        last_stride, last_dilation = (2, 1) if output_stride == 32 else (1, 2)
        self.layer1 = self._stage(block, width, counts[0], 1, (1,))
        self.layer2 = self._stage(block, width * 2, counts[1], 2, (1,))
        self.layer3 = self._stage(block, width * 4, counts[2], 2, (1,))
        dilations = tuple(last_dilation * factor for factor in multi_grid)
        self.layer4 = self._stage(block, width * 8, counts[3], last_stride, dilations)
        self.out_channels = tuple(width * factor * block.expansion for factor in (1, 2, 4, 8))

    def _stage(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        channels: int,
        count: int,
        stride: int,
        dilations: tuple[int, ...],
    ) -> nn.Sequential:
        layers: list[nn.Module] = []
        for index in range(count):
            dilation = dilations[min(index, len(dilations) - 1)]
            layers.append(block(self._in_channels, channels, stride if index == 0 else 1, dilation))
            self._in_channels = channels * block.expansion
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, n, H, W) -> features at strides 4, 8, 16 and ``output_stride``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)
