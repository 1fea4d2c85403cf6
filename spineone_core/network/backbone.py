"""The table of backbones: which architectures there are, the trunks that each is built on, and how it is built.

A new backbone is one file in `spineone_core.backbones` and one row in ``ARCHITECTURES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from spineone_core.backbones.centernet import CenterNet
from spineone_core.backbones.deeplab import DeepLabV3Plus
from spineone_core.backbones.densenet import BLOCKS, DenseNet
from spineone_core.backbones.fcos import FCOS
from spineone_core.backbones.fpn import FPN
from spineone_core.backbones.hourglass import STACKS, Hourglass
from spineone_core.backbones.hrnet import WIDTHS, HRNet
from spineone_core.backbones.resnet import DEPTHS, ResNet


class BackboneConfig(Protocol):
    """The fields of `spineone_core.network.config.NetworkConfig` that a builder reads."""

    @property
    def architecture(self) -> str: ...
    @property
    def backbone(self) -> str: ...
    @property
    def slices(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def feature_channels(self) -> int: ...
    @property
    def decoder_channels(self) -> int: ...
    @property
    def low_level_channels(self) -> int: ...
    @property
    def aspp_rates(self) -> tuple[int, ...]: ...
    @property
    def aspp_pooling(self) -> bool: ...
    @property
    def layers(self) -> str: ...


# DeepLabv3's dilations of the last stage's blocks, in units of the stage's own.
MULTI_GRID = (1, 2, 4)


def _resnet(config: BackboneConfig, output_stride: int, multi_grid: tuple[int, ...] = (1,)) -> ResNet:
    return ResNet(
        config.backbone,
        in_channels=config.slices,
        width=config.width,
        output_stride=output_stride,
        multi_grid=multi_grid,
    )


def _is_cited(config: BackboneConfig) -> bool:
    return config.layers == "cited"


def _deeplab(config: BackboneConfig) -> nn.Module:
    return DeepLabV3Plus(
        _resnet(config, 16, MULTI_GRID if _is_cited(config) else (1,)),
        wide_decoder=_is_cited(config),
        out_channels=config.feature_channels,
        channels=config.decoder_channels,
        low_level_channels=config.low_level_channels,
        rates=config.aspp_rates,
        pooling=config.aspp_pooling,
    )


def _fpn(config: BackboneConfig) -> nn.Module:
    trunk: DenseNet | ResNet
    if config.backbone in BLOCKS:
        trunk = DenseNet(config.backbone, in_channels=config.slices, width=config.width)
    else:
        trunk = _resnet(config, 32)
    return FPN(trunk, trunk.out_channels, out_channels=config.feature_channels, channels=config.decoder_channels)


def _fcos(config: BackboneConfig) -> nn.Module:
    return FCOS(_resnet(config, 32), out_channels=config.feature_channels, channels=config.decoder_channels)


def _centernet(config: BackboneConfig) -> nn.Module:
    return CenterNet(
        _resnet(config, 32),
        out_channels=config.feature_channels,
        channels=config.decoder_channels,
        bilinear=_is_cited(config),
    )


def _sizes(config: BackboneConfig) -> dict[str, int]:
    return {"in_channels": config.slices, "out_channels": config.feature_channels, "width": config.width}


def _hourglass(config: BackboneConfig) -> nn.Module:
    return Hourglass(config.backbone, **_sizes(config), reversed_up=_is_cited(config))


def _hrnet(config: BackboneConfig) -> nn.Module:
    return HRNet(config.backbone, **_sizes(config))


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of the table.

    ``trunks`` are the values that ``NetworkConfig.backbone`` may take; ``build`` makes the module
    (B, slices, H, W) -> U (B, feature_channels, H/4, W/4).
    """

    trunks: tuple[str, ...]
    build: Callable[[BackboneConfig], nn.Module]


ARCHITECTURES: dict[str, Architecture] = {
    "deeplabv3plus": Architecture(tuple(DEPTHS), _deeplab),
    "fpn": Architecture((*BLOCKS, *DEPTHS), _fpn),
    "fcos": Architecture(tuple(DEPTHS), _fcos),
    "centernet": Architecture(tuple(DEPTHS), _centernet),
    "hourglass": Architecture(tuple(STACKS), _hourglass),
    "hrnet": Architecture(tuple(WIDTHS), _hrnet),
}


def build_backbone(config: BackboneConfig) -> nn.Module:
    """(B, slices, H, W) -> U (B, feature_channels, H/4, W/4)."""
    return ARCHITECTURES[config.architecture].build(config)
