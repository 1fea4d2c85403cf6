"""SpineOne (Fig. 2, Table VI), the conventional one-stage detectors, the localisers of the two-stage ones, and their config."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.anatomy import Structure
from spineone_core.backbones.centernet import CenterNet
from spineone_core.backbones.deeplab import DeepLabV3Plus, conv_bn_relu
from spineone_core.backbones.densenet import BLOCKS, DenseNet
from spineone_core.backbones.fcos import FCOS
from spineone_core.backbones.fpn import FPN
from spineone_core.backbones.hourglass import STACKS, Hourglass
from spineone_core.backbones.hrnet import WIDTHS, HRNet
from spineone_core.backbones.resnet import DEPTHS, ResNet
from spineone_core.network.attention import DualAttention

STRUCTURES: tuple[Structure, ...] = (Structure.DISC, Structure.VERTEBRA)
CLASSES = 2
LEVELS = 5
# Heads work at this stride; their maps are upsampled to the input (reading 6).
HEAD_STRIDE = 4
# Inputs are padded to a multiple of this, so that every stage halves exactly.
SIZE_MULTIPLE = 32


# Architecture -> backbones it is built on.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "deeplabv3plus": tuple(DEPTHS),
    "fpn": (*BLOCKS, *DEPTHS),
    "fcos": tuple(DEPTHS),
    "centernet": tuple(DEPTHS),
    "hourglass": tuple(STACKS),
    "hrnet": tuple(WIDTHS),
}
# Heatmap -> (its channels, how many of them say where a keypoint is and have offsets). "ocpc" is Eq. 1, one channel a class;
# "conventional" five levels and two classes (K + C = 7; Section III-C, reading 15); "levels" five levels without a class, for
# the two-stage detectors, whose classifier works on crops.
HEATMAPS: dict[str, tuple[int, int]] = {
    "ocpc": (CLASSES, CLASSES),
    "conventional": (LEVELS + CLASSES, LEVELS),
    "levels": (LEVELS, LEVELS),
}


class ConfigError(ValueError):
    """A network config is impossible; the message names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Everything that decides the architecture. The defaults are the paper's DeepLabv3+(Res101) SpineOne.

    ``architecture`` and ``backbone`` as in ``ARCHITECTURES``, ``heatmap`` as in ``HEATMAPS``. ``slices`` are the input's
    channels. ``width`` is the first stage's (64 is standard; all channels of a trunk scale with it), ``decoder_channels`` those
    of decoder, pyramid, tower or first deconvolution, ``attention_stride`` the stride at which attention works (4 in the
    paper; 8 or 16 saves most of a CPU's time), ``aspp_pooling`` adds ASPP's image pooling. ``crop_mm`` and ``crop_px`` are the
    side of what a two-stage detector's classifier sees.
    """

    architecture: str = "deeplabv3plus"
    backbone: str = "resnet101"
    heatmap: str = "ocpc"
    slices: int = 7
    width: int = 64
    decoder_channels: int = 256
    low_level_channels: int = 48
    feature_channels: int = 64
    aspp_rates: tuple[int, ...] = (6, 12, 18)
    aspp_pooling: bool = False
    pam: bool = True
    cam: bool = True
    attention_stride: int = 4
    offset: bool = True
    crop_mm: float = 50.0
    crop_px: int = 112

    def __post_init__(self) -> None:
        _require(
            self.architecture in ARCHITECTURES, "architecture", self.architecture, f"one of {', '.join(ARCHITECTURES)}"
        )
        allowed = ARCHITECTURES[self.architecture]
        _require(
            self.backbone in allowed, "backbone", self.backbone, f"for {self.architecture} one of {', '.join(allowed)}"
        )
        _require(self.heatmap in HEATMAPS, "heatmap", self.heatmap, f"one of {', '.join(HEATMAPS)}")
        _require(1 <= self.slices <= 11, "slices", self.slices, "1 to 11")
        _require(self.attention_stride in (4, 8, 16, 32), "attention_stride", self.attention_stride, "4, 8, 16 or 32")
        for name in ("width", "decoder_channels", "low_level_channels", "feature_channels"):
            _require(getattr(self, name) >= 8, name, getattr(self, name), "at least 8")
        _require(10 <= self.crop_mm <= 200, "crop_mm", self.crop_mm, "10 to 200")
        _require(self.crop_px >= 16, "crop_px", self.crop_px, "at least 16")

    @property
    def channels(self) -> int:
        """Heatmap channels of a structure."""
        return HEATMAPS[self.heatmap][0]

    @property
    def located_channels(self) -> int:
        """Heatmap channels that have offsets; they come first."""
        return HEATMAPS[self.heatmap][1]

    @property
    def two_stage(self) -> bool:
        """Whether a classifier on crops follows."""
        return self.heatmap == "levels"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NetworkConfig:
        """Raises ``ConfigError`` on an unknown or impossible field."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(f"unknown network option {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
        return cls(**{**data, "aspp_rates": tuple(data.get("aspp_rates", cls().aspp_rates))})


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"network option {name} = {value!r}; allowed: {allowed}")


class BranchOutput(NamedTuple):
    """Maps of one structure at the input's size.

    ``logits`` (B, C, H, W), for OCPC C = 2, normal and degenerative; otherwise five levels top to bottom (and, conventional, the
    two classes). ``offsets`` (B, 2 L, H, W) in units of R for the first L channels, layout (channel, xy), or None. ``earlier``
    holds the same maps of earlier stacks, which have a loss of their own.
    """

    logits: Tensor
    offsets: Tensor | None
    earlier: tuple[tuple[Tensor, Tensor | None], ...] = ()


class Branch(nn.Module):
    """Attention, one trunk and the two output convolutions of a structure (Table VI; ReLU after each BN, reading 22)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels = config.feature_channels
        reduction = config.attention_stride // HEAD_STRIDE
        self.attention = DualAttention(channels, pam=config.pam, cam=config.cam, reduction=reduction)
        self.trunk = nn.Sequential(conv_bn_relu(channels, 32, 3), conv_bn_relu(32, 32, 3))
        self.heatmap = nn.Conv2d(32, config.channels, 1)
        self.offset = nn.Conv2d(32, 2 * config.located_channels, 1) if config.offset else None
        # The focal loss starts from p = .01 everywhere (reading 8).
        nn.init.constant_(self.heatmap.bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, features: Tensor, size: tuple[int, int]) -> BranchOutput:
        features = self.trunk(self.attention(features))
        offsets = None if self.offset is None else _upsample(self.offset(features), size)
        return BranchOutput(_upsample(self.heatmap(features), size), offsets)


def _upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def build_backbone(config: NetworkConfig) -> nn.Module:
    """(B, n, H, W) -> U (B, feature_channels, H/4, W/4)."""
    slices, width, out, channels = config.slices, config.width, config.feature_channels, config.decoder_channels
    if config.architecture == "hourglass":
        return Hourglass(config.backbone, in_channels=slices, out_channels=out, width=width)
    if config.architecture == "hrnet":
        return HRNet(config.backbone, in_channels=slices, out_channels=out, width=width)
    if config.backbone in BLOCKS:
        dense = DenseNet(config.backbone, in_channels=slices, width=width)
        return FPN(dense, dense.out_channels, out_channels=out, channels=channels)
    stride = 16 if config.architecture == "deeplabv3plus" else 32
    trunk = ResNet(config.backbone, in_channels=slices, width=width, output_stride=stride)
    if config.architecture == "fpn":
        return FPN(trunk, trunk.out_channels, out_channels=out, channels=channels)
    if config.architecture == "fcos":
        return FCOS(trunk, out_channels=out, channels=channels)
    if config.architecture == "centernet":
        return CenterNet(trunk, out_channels=out, channels=channels)
    return DeepLabV3Plus(
        trunk,
        out_channels=out,
        channels=channels,
        low_level_channels=config.low_level_channels,
        rates=config.aspp_rates,
        pooling=config.aspp_pooling,
    )


class SpineOne(nn.Module):
    """One backbone, two branches (Fig. 2). Also the conventional detectors: the config decides the heatmap."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        self.branches = _branches(config)
        stacks = len(self.backbone.levels) if isinstance(self.backbone, Hourglass) else 1
        self.earlier_branches = nn.ModuleList(_branches(config) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> dict[Structure, BranchOutput]:
        """Maps of both structures at the input's size.

        Parameters
        ----------
        images
            (B, slices, H, W), H and W multiples of 32, z-scored.

        Raises
        ------
        ValueError
            If the shape is another.
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
    return nn.ModuleDict({structure.value: Branch(config) for structure in STRUCTURES})


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())
