"""Trunks: torchvision's names and shapes, published sizes, strides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spineone_core.backbones.densenet import DenseNet
from spineone_core.backbones.hourglass import Hourglass
from spineone_core.backbones.hrnet import HRNet
from spineone_core.backbones.resnet import ResNet
from spineone_core.network.backbone import build_backbone
from spineone_core.network.build import count_parameters
from spineone_core.network.config import NetworkConfig

Shapes = dict[str, tuple[int, ...]]

# torchvision's resnet18 without fc: conv, then bn, as (name, output, input, kernel).
RESNET18 = [
    ("conv1", "bn1", 64, 3, 7),
    ("layer1.0.conv1", "layer1.0.bn1", 64, 64, 3),
    ("layer1.0.conv2", "layer1.0.bn2", 64, 64, 3),
    ("layer1.1.conv1", "layer1.1.bn1", 64, 64, 3),
    ("layer1.1.conv2", "layer1.1.bn2", 64, 64, 3),
    ("layer2.0.conv1", "layer2.0.bn1", 128, 64, 3),
    ("layer2.0.conv2", "layer2.0.bn2", 128, 128, 3),
    ("layer2.0.downsample.0", "layer2.0.downsample.1", 128, 64, 1),
    ("layer2.1.conv1", "layer2.1.bn1", 128, 128, 3),
    ("layer2.1.conv2", "layer2.1.bn2", 128, 128, 3),
    ("layer3.0.conv1", "layer3.0.bn1", 256, 128, 3),
    ("layer3.0.conv2", "layer3.0.bn2", 256, 256, 3),
    ("layer3.0.downsample.0", "layer3.0.downsample.1", 256, 128, 1),
    ("layer3.1.conv1", "layer3.1.bn1", 256, 256, 3),
    ("layer3.1.conv2", "layer3.1.bn2", 256, 256, 3),
    ("layer4.0.conv1", "layer4.0.bn1", 512, 256, 3),
    ("layer4.0.conv2", "layer4.0.bn2", 512, 512, 3),
    ("layer4.0.downsample.0", "layer4.0.downsample.1", 512, 256, 1),
    ("layer4.1.conv1", "layer4.1.bn1", 512, 512, 3),
    ("layer4.1.conv2", "layer4.1.bn2", 512, 512, 3),
]
# torchvision's densenet121: block -> (layers, input channels); growth 32, bottleneck 128.
DENSENET121 = {1: (6, 64), 2: (12, 128), 3: (24, 256), 4: (16, 512)}
TRANSITIONS = {1: 256, 2: 512, 3: 1024}


def norm(name: str, channels: int) -> Shapes:
    entries: Shapes = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**entries, f"{name}.num_batches_tracked": ()}


def resnet18_shapes() -> Shapes:
    shapes: Shapes = {}
    for conv, bn, out, into, kernel in RESNET18:
        shapes |= {f"{conv}.weight": (out, into, kernel, kernel)} | norm(bn, out)
    return shapes


def densenet121_shapes() -> Shapes:
    shapes: Shapes = {"features.conv0.weight": (64, 3, 7, 7)} | norm("features.norm0", 64)
    for block, (layers, channels) in DENSENET121.items():
        for i in range(layers):
            layer = f"features.denseblock{block}.denselayer{i + 1}"
            into = channels + 32 * i
            shapes |= norm(f"{layer}.norm1", into) | {f"{layer}.conv1.weight": (128, into, 1, 1)}
            shapes |= norm(f"{layer}.norm2", 128) | {f"{layer}.conv2.weight": (32, 128, 3, 3)}
    for number, channels in TRANSITIONS.items():
        name = f"features.transition{number}"
        shapes |= norm(f"{name}.norm", channels) | {f"{name}.conv.weight": (channels // 2, channels, 1, 1)}
    return shapes | norm("features.norm5", 1024)


@pytest.mark.parametrize(
    ("trunk", "shapes"),
    [
        (lambda: ResNet("resnet18", in_channels=3), resnet18_shapes()),
        (lambda: DenseNet("densenet121", in_channels=3), densenet121_shapes()),
    ],
    ids=["resnet18", "densenet121"],
)
def test_trunk__loads_a_state_dict_with_torchvisions_names(trunk: type[nn.Module], shapes: Shapes) -> None:
    with torch.device("meta"):
        network = trunk()
        state = {name: torch.zeros(shape) for name, shape in shapes.items()}
        network.load_state_dict(state, strict=True, assign=True)


@pytest.mark.parametrize(("depth", "count"), [("densenet121", 6_953_856), ("densenet169", 12_484_480)])
def test_densenet__has_the_published_size(depth: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(DenseNet(depth, in_channels=3)) == count


@pytest.mark.parametrize(("depth", "millions"), [("hrnet_w32", 28.5), ("hrnet_w48", 63.6)])
def test_hrnet__has_the_published_size(depth: str, millions: float) -> None:
    with torch.device("meta"):
        network = HRNet(depth, in_channels=3, out_channels=64)
    assert count_parameters(network) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("depth", "stacks"), [("hourglass52", 1), ("hourglass104", 2)])
def test_hourglass__gives_features_of_each_stack(depth: str, stacks: int) -> None:
    with torch.device("meta"):
        network = Hourglass(depth, in_channels=7, out_channels=64)
        found = network.stages(torch.empty(2, 7, 160, 224))
    assert [tuple(f.shape) for f in found] == [(2, 64, 40, 56)] * stacks


@pytest.mark.parametrize(
    ("architecture", "backbone"),
    [
        ("deeplabv3plus", "resnet50"),
        ("fpn", "densenet169"),
        ("fpn", "resnet18"),
        ("fcos", "resnet101"),
        ("centernet", "resnet101"),
        ("hourglass", "hourglass52"),
        ("hrnet", "hrnet_w48"),
    ],
)
def test_backbone__comes_out_at_stride_four_with_64_channels(architecture: str, backbone: str) -> None:
    with torch.device("meta"):
        network = build_backbone(NetworkConfig(architecture=architecture, backbone=backbone))
        assert network(torch.empty(2, 7, 128, 192)).shape == (2, 64, 32, 48)


@pytest.mark.parametrize("trunk", [DenseNet, Hourglass, HRNet])
def test_trunk__unknown_depth_names_what_is_allowed(trunk: type[nn.Module]) -> None:
    extra = {} if trunk is DenseNet else {"out_channels": 64}
    with pytest.raises(ValueError, match="'other'; allowed: "):
        trunk("other", in_channels=3, **extra)
