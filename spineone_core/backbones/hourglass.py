"""Stacked hourglass (Newell et al. 2016), as Hourglass-52 and 104: one or two modules of depth 5 with a loss on each."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.backbones.deeplab import conv_bn_relu

STACKS: dict[str, int] = {"hourglass52": 1, "hourglass104": 2}
# Channels (in units of width / 64 x 64) and residual blocks of each level, finest first.
CHANNELS = (256, 256, 384, 384, 384, 512)
COUNTS = (2, 2, 2, 2, 2, 4)


class Residual(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_bn(in_channels, channels, 3, stride)
        self.second = conv_bn(channels, channels, 3)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else conv_bn(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and batch normalisation; halves the size at stride 2."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out_channels)
    )


def _residuals(
    count: int, in_channels: int, out_channels: int, stride: int = 1, *, change_last: bool = False
) -> nn.Sequential:
    """Residual blocks of which the first, or the last, changes the number of channels."""
    if change_last:
        before = [Residual(in_channels, in_channels) for _ in range(count - 1)]
        return nn.Sequential(*before, Residual(in_channels, out_channels, stride))
    first = Residual(in_channels, out_channels, stride)
    return nn.Sequential(first, *(Residual(out_channels, out_channels) for _ in range(count - 1)))


class Level(nn.Module):
    """One level: a branch at its own size, and a branch at half the size that holds the next level.

    With ``reversed_up``, as in CornerNet's Hourglass-52 and 104, the way up changes channels in its last block.
    """

    def __init__(self, channels: tuple[int, ...], counts: tuple[int, ...], *, reversed_up: bool = False) -> None:
        super().__init__()
        here, below = channels[:2]
        self.skip = _residuals(counts[0], here, here)
        self.down = _residuals(counts[0], here, below, stride=2)
        deepest = len(channels) == 2
        self.inner = (
            _residuals(counts[1], below, below) if deepest else Level(channels[1:], counts[1:], reversed_up=reversed_up)
        )
        self.up = _residuals(counts[0], below, here, change_last=reversed_up)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x)
        # Interpolation restores sizes that do not halve evenly.
        return skip + F.interpolate(self.up(self.inner(self.down(x))), size=skip.shape[-2:], mode="nearest")


class Hourglass(nn.Module):
    """A stem to stride 4 and one or two hourglasses.

    Parameters
    ----------
    depth
        A key of ``STACKS``.
    in_channels
        Number of slices.
    out_channels
        Channels of U.
    width
        64 is the standard network; all channels scale with it.
    reversed_up
        As in `Level`.
    """

    def __init__(
        self, depth: str, *, in_channels: int, out_channels: int, width: int = 64, reversed_up: bool = False
    ) -> None:
        super().__init__()
        if depth not in STACKS:
            raise ValueError(f"unknown hourglass {depth!r}; allowed: {', '.join(STACKS)}")
        channels = tuple(c * width // 64 for c in CHANNELS)
        stacks, here = STACKS[depth], channels[0]
        self.stem = nn.Sequential(
            conv_bn(in_channels, here // 2, 7, 2), nn.ReLU(inplace=True), Residual(here // 2, here, 2)
        )
        self.levels = nn.ModuleList(Level(channels, COUNTS, reversed_up=reversed_up) for _ in range(stacks))
        self.outs = nn.ModuleList(conv_bn_relu(here, here, 3) for _ in range(stacks))
        self.projects = nn.ModuleList(conv_bn_relu(here, out_channels, 1) for _ in range(stacks))
        # The next hourglass sees the merged input and output of the one before.
        self.merge_in = nn.ModuleList(conv_bn(here, here, 1) for _ in range(stacks - 1))
        self.merge_out = nn.ModuleList(conv_bn(here, here, 1) for _ in range(stacks - 1))
        self.between = nn.ModuleList(Residual(here, here) for _ in range(stacks - 1))

    def stages(self, x: Tensor) -> list[Tensor]:
        """(B, n, H, W) -> U (B, out_channels, H/4, W/4) of every hourglass, in their order."""
        x = self.stem(x)
        found = []
        for i, (level, out, project) in enumerate(zip(self.levels, self.outs, self.projects, strict=True)):
            features = out(level(x))
            found.append(project(features))
            if i < len(self.between):
                x = self.between[i](F.relu(self.merge_in[i](x) + self.merge_out[i](features)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, H, W) -> U of the last hourglass."""
        return self.stages(x)[-1]
