"""Parameters of the trunks as their papers or torchvision print them, beside ours built the same way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from spineone_core.backbones.densenet import BLOCKS, DenseNet
from spineone_core.backbones.hourglass import STACKS, Hourglass
from spineone_core.backbones.hrnet import HRNet
from spineone_core.backbones.resnet import DEPTHS, ResNet
from spineone_core.network.build import count_parameters

CLASSES, COLOURS, JOINTS = 1000, 3, 17


@dataclass(frozen=True, slots=True)
class Published:
    """A published number of parameters, and where it stands."""

    parameters: float
    where: str


PUBLISHED: dict[str, Published] = {
    "resnet18": Published(11_689_512, "torchvision"),
    "resnet50": Published(25_557_032, "torchvision"),
    "resnet101": Published(44_549_160, "torchvision"),
    "densenet121": Published(7_978_856, "torchvision"),
    "densenet169": Published(14_149_480, "torchvision"),
    "hrnet_w32": Published(28.5e6, "Sun et al. 2019, Table 1 (17 joints)"),
    "hrnet_w48": Published(63.6e6, "Sun et al. 2019, Table 1 (17 joints)"),
}


def as_published(name: str) -> int:
    """Parameters of a trunk of ``PUBLISHED`` on pictures of three colours, with the output layer that the published one has."""
    with torch.device("meta"):
        if name in DEPTHS:
            trunk: nn.Module = ResNet(name, in_channels=COLOURS, output_stride=32)
            return count_parameters(trunk) + _classifier(trunk)
        if name in BLOCKS:
            trunk = DenseNet(name, in_channels=COLOURS)
            return count_parameters(trunk) + _classifier(trunk)
        if name in STACKS:
            return count_parameters(Hourglass(name, in_channels=COLOURS, out_channels=JOINTS))
        network = HRNet(name, in_channels=COLOURS, out_channels=JOINTS)
        # The published output is a convolution with bias; ours is followed by batch normalisation.
        return count_parameters(network) - JOINTS


def _classifier(trunk: nn.Module) -> int:
    """The published network's last layer: weights and biases of the classes."""
    channels: tuple[int, ...] = trunk.out_channels  # type: ignore[assignment]
    return (channels[-1] + 1) * CLASSES
