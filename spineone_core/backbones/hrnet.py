"""HRNet (Sun et al. 2019), in its form for poses: four parallel resolutions, of which the finest is the output."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.backbones.deeplab import conv_bn_relu
from spineone_core.backbones.resnet import BasicBlock, Bottleneck

WIDTHS: dict[str, int] = {"hrnet_w32": 32, "hrnet_w48": 48}
# Number of modules in stages 2, 3 and 4.
MODULES = (1, 4, 3)
STEM = 64
BLOCKS = 4


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class Exchange(nn.Module):
    """One parallel unit: four basic blocks at every resolution, after which each resolution receives the sum of all.

    Parameters
    ----------
    channels
        Channels of every resolution, the finest first.
    outputs
        How many resolutions come out; in the last unit only the finest.
    """

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c, c, 1, 1) for _ in range(BLOCKS))) for c in channels)
        self.fuse = nn.ModuleList(
            nn.ModuleList(_resize(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        features = [branch(f) for branch, f in zip(self.branches, features, strict=True)]
        return [_gather(layers, features, target) for target, layers in enumerate(self.fuse)]


def _gather(layers: nn.Module, features: Sequence[Tensor], target: int) -> Tensor:
    size = features[target].shape[-2:]
    total = features[target]
    for source, layer in enumerate(layers.children()):
        if source != target:
            arrived = layer(features[source])
            total = total + (F.interpolate(arrived, size=size, mode="nearest") if source > target else arrived)
    return F.relu(total)


def _resize(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """What brings resolution ``source`` to ``target``: strided 3 x 3 convolutions downwards, 1 x 1 and interpolation upwards."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(*_conv_bn(channels[source], channels[target], 1))
    layers: list[nn.Module] = []
    for step in range(target - source):
        last = step == target - source - 1
        layers += _conv_bn(channels[source], channels[target] if last else channels[source], 3, 2)
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class HRNet(nn.Module):
    """A stem, four bottlenecks, and stages 2 to 4 at strides 4 to 32.

    Parameters
    ----------
    depth
        A key of ``WIDTHS``.
    in_channels
        Number of slices.
    out_channels
        Channels of U.
    width
        64 is the standard network; all channels scale with it.
    """

    def __init__(self, depth: str, *, in_channels: int, out_channels: int, width: int = 64) -> None:
        super().__init__()
        if depth not in WIDTHS:
            raise ValueError(f"unknown HRNet {depth!r}; allowed: {', '.join(WIDTHS)}")
        stem, finest = STEM * width // 64, WIDTHS[depth] * width // 64
        channels = [finest * 2**i for i in range(4)]
        self.stem = nn.Sequential(
            *_conv_bn(in_channels, stem, 3, 2),
            nn.ReLU(inplace=True),
            *_conv_bn(stem, stem, 3, 2),
            nn.ReLU(inplace=True),
        )
        wide = stem * Bottleneck.expansion
        self.layer1 = nn.Sequential(
            Bottleneck(stem, stem, 1, 1), *(Bottleneck(wide, stem, 1, 1) for _ in range(BLOCKS - 1))
        )
        self.first = conv_bn_relu(wide, channels[0], 3)
        # Each stage adds a coarser resolution: stage 2 makes it from layer1's features, 3 and 4 from the coarsest so far.
        sources = (wide, channels[1], channels[2])
        self.added = nn.ModuleList(
            nn.Sequential(*_conv_bn(a, b, 3, 2), nn.ReLU(inplace=True))
            for a, b in zip(sources, channels[1:], strict=True)
        )
        self.stages = nn.ModuleList(_stage(channels[: i + 2], count, last=i == 2) for i, count in enumerate(MODULES))
        self.project = conv_bn_relu(channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) -> U (B, out_channels, H/4, W/4)."""
        x = self.layer1(self.stem(x))
        features = [self.first(x)]
        source = x
        for added, stage in zip(self.added, self.stages, strict=True):
            features = [*features, added(source)]
            features = stage(features)
            source = features[-1]
        return self.project(features[0])


def _stage(channels: Sequence[int], count: int, *, last: bool) -> nn.Sequential:
    outputs = [1 if last and i == count - 1 else len(channels) for i in range(count)]
    return nn.Sequential(*(Exchange(channels, n) for n in outputs))
