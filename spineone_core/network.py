"""SpineOne (Fig. 2, Table VI) and its config."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.anatomy import Structure
from spineone_core.attention import DualAttention
from spineone_core.backbones.deeplab import DeepLabV3Plus, conv_bn_relu
from spineone_core.backbones.resnet import DEPTHS, ResNet

STRUCTURES: tuple[Structure, ...] = (Structure.DISC, Structure.VERTEBRA)
CLASSES = 2
# Heads work at this stride; their maps are upsampled to the input (reading 6).
HEAD_STRIDE = 4
# Inputs are padded to a multiple of this, so that every stage halves exactly.
SIZE_MULTIPLE = 32


class ConfigError(ValueError):
    """A network config is impossible; the message names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Everything that decides the architecture. The defaults are the paper's DeepLabv3+(Res101) SpineOne.

    ``width`` is the ResNet's first-stage width (64 is standard), ``attention_stride`` the stride at which attention works
    (4 in the paper; 8 or 16 saves most of a CPU's time), ``aspp_pooling`` adds ASPP's image pooling.
    """

    backbone: str = "resnet101"
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

    def __post_init__(self) -> None:
        _require(self.backbone in DEPTHS, "backbone", self.backbone, f"one of {', '.join(DEPTHS)}")
        _require(1 <= self.slices <= 11, "slices", self.slices, "1 to 11")
        _require(self.attention_stride in (4, 8, 16, 32), "attention_stride", self.attention_stride, "4, 8, 16 or 32")
        for name in ("width", "decoder_channels", "low_level_channels", "feature_channels"):
            _require(getattr(self, name) >= 8, name, getattr(self, name), "at least 8")

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

    ``logits`` (B, 2, H, W), channels normal and degenerative; ``offsets`` (B, 4, H, W) in units of R, layout
    (normal x, normal y, degenerative x, degenerative y), or None.
    """

    logits: Tensor
    offsets: Tensor | None


class Branch(nn.Module):
    """Attention, one trunk and the two output convolutions of a structure (Table VI; ReLU after each BN, reading 22)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels = config.feature_channels
        reduction = config.attention_stride // HEAD_STRIDE
        self.attention = DualAttention(channels, pam=config.pam, cam=config.cam, reduction=reduction)
        self.trunk = nn.Sequential(conv_bn_relu(channels, 32, 3), conv_bn_relu(32, 32, 3))
        self.heatmap = nn.Conv2d(32, CLASSES, 1)
        self.offset = nn.Conv2d(32, 2 * CLASSES, 1) if config.offset else None
        # The focal loss starts from p = .01 everywhere (reading 8).
        nn.init.constant_(self.heatmap.bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, features: Tensor, size: tuple[int, int]) -> BranchOutput:
        features = self.trunk(self.attention(features))
        offsets = None if self.offset is None else _upsample(self.offset(features), size)
        return BranchOutput(_upsample(self.heatmap(features), size), offsets)


def _upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class SpineOne(nn.Module):
    """One backbone, two branches (Fig. 2)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        trunk = ResNet(config.backbone, in_channels=config.slices, width=config.width)
        self.backbone = DeepLabV3Plus(
            trunk,
            out_channels=config.feature_channels,
            channels=config.decoder_channels,
            low_level_channels=config.low_level_channels,
            rates=config.aspp_rates,
            pooling=config.aspp_pooling,
        )
        self.branches = nn.ModuleDict({structure.value: Branch(config) for structure in STRUCTURES})

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
        features = self.backbone(images)
        return {s: self.branches[s.value](features, (height, width)) for s in STRUCTURES}


# Named architectures (`spineone models`): the rows of Table I that are built, and the trunk of the shipped model at full width.
BUILDERS: dict[str, NetworkConfig] = {
    "spineone-deeplabv3plus-resnet18": NetworkConfig(backbone="resnet18"),
    "spineone-deeplabv3plus-resnet50": NetworkConfig(backbone="resnet50"),
    "spineone-deeplabv3plus-resnet101": NetworkConfig(backbone="resnet101"),
}


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())
