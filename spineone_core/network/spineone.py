"""SpineOne (Fig. 2, Table VI), the conventional one-stage detectors and the localisers of the two-stage ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.anatomy import Structure
from spineone_core.backbones.deeplab import conv_bn_relu
from spineone_core.backbones.hourglass import Hourglass
from spineone_core.network.attention import DualAttention
from spineone_core.network.backbone import build_backbone
from spineone_core.network.config import HEAD_STRIDE, SIZE_MULTIPLE, STRUCTURES, NetworkConfig


class BranchOutput(NamedTuple):
    """Maps of one structure at the input's size.

    ``logits`` (B, C, H, W): for OCPC the channels are normal and degenerative, or the categories; otherwise they are five
    levels from top to bottom (followed by the two classes for the conventional heatmap). ``offsets`` (B, 2 L, H, W) are
    those of the first L channels in units of R, in the layout (channel, xy), or None. ``earlier`` holds the same maps of
    earlier stacks, which have their own loss.
    """

    logits: Tensor
    offsets: Tensor | None
    earlier: tuple[tuple[Tensor, Tensor | None], ...] = ()


class Branch(nn.Module):
    """Attention, a trunk and the two output convolutions of a structure (Table VI; a ReLU follows each BN, reading 22)."""

    def __init__(self, config: NetworkConfig, structure: Structure) -> None:
        super().__init__()
        channels = config.feature_channels
        reduction = config.attention_stride // HEAD_STRIDE
        self.attention = DualAttention(channels, pam=config.pam, cam=config.cam, reduction=reduction)
        self.trunk = nn.Sequential(conv_bn_relu(channels, 32, 3), conv_bn_relu(32, 32, 3))
        self.heatmap = nn.Conv2d(32, config.channels(structure), 1)
        self.offset = nn.Conv2d(32, 2 * config.located_channels(structure), 1) if config.offset else None
        # The focal loss starts with p = .01 everywhere (reading 8).
        nn.init.constant_(self.heatmap.bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, features: Tensor, size: tuple[int, int]) -> BranchOutput:
        features = self.trunk(self.attention(features))
        offsets = None if self.offset is None else _upsample(self.offset(features), size)
        return BranchOutput(_upsample(self.heatmap(features), size), offsets)


def _upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class SpineOne(nn.Module):
    """One backbone and two branches (Fig. 2). It is also the conventional detectors, as the config decides the heatmap."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        self.branches = _branches(config)
        stacks = len(self.backbone.levels) if isinstance(self.backbone, Hourglass) else 1
        self.earlier_branches = nn.ModuleList(_branches(config) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> dict[Structure, BranchOutput]:
        """The maps of both structures at the input's size.

        Parameters
        ----------
        images
            (B, slices, H, W), z-scored; H and W are multiples of 32.

        Raises
        ------
        ValueError
            If the shape is a different one.
        """
        if images.ndim != 4 or images.shape[1] != self.config.slices:
            raise ValueError(f"input {tuple(images.shape)} is not (B, {self.config.slices}, H, W)")
        height, width = images.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"input {height} x {width} is not a multiple of {SIZE_MULTIPLE}")
        size = (height, width)
        if not self.earlier_branches:
            features = self.backbone(images)
            return {s: self.branches[s.value](features, size) for s in STRUCTURES}
        *stages, features = self.backbone.stages(images)  # type: ignore[operator]
        outputs = {}
        for s in STRUCTURES:
            earlier = [group[s.value](u, size)[:2] for group, u in zip(self.earlier_branches, stages, strict=True)]  # type: ignore[index]
            outputs[s] = self.branches[s.value](features, size)._replace(earlier=tuple(earlier))
        return outputs


def _branches(config: NetworkConfig) -> nn.ModuleDict:
    return nn.ModuleDict({structure.value: Branch(config, structure) for structure in STRUCTURES})
