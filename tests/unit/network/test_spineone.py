"""SpineOne's shapes, config and checkpoint names."""

from __future__ import annotations

import pytest
import torch

from spineone_core.anatomy import Structure
from spineone_core.network.build import count_parameters
from spineone_core.network.config import ConfigError, NetworkConfig
from spineone_core.network.spineone import SpineOne

TINY = NetworkConfig(
    backbone="resnet18",
    slices=3,
    width=8,
    decoder_channels=16,
    low_level_channels=8,
    feature_channels=16,
    attention_stride=8,
)


@pytest.mark.parametrize("offset", [True, False])
def test_forward__maps_have_the_input_size(offset: bool) -> None:
    config = NetworkConfig.from_json({**TINY.to_json(), "offset": offset})
    outputs = SpineOne(config).eval()(torch.randn(2, 3, 64, 96))
    assert set(outputs) == set(Structure)
    for output in outputs.values():
        assert output.logits.shape == (2, 2, 64, 96)
        assert (output.offsets is None) is not offset
        if output.offsets is not None:
            assert output.offsets.shape == (2, 4, 64, 96)


def test_start__foreground_probability_is_one_percent() -> None:
    network = SpineOne(TINY)
    torch.nn.init.zeros_(network.branches["disc"].heatmap.weight)
    probability = torch.sigmoid(network.eval()(torch.randn(1, 3, 64, 64))[Structure.DISC].logits)
    assert torch.allclose(probability, torch.full_like(probability, 0.01), atol=1e-4)


@pytest.mark.parametrize(("backbone", "millions"), [("resnet18", 11.18), ("resnet50", 23.51), ("resnet101", 42.50)])
def test_trunk__has_torchvisions_size_and_names(backbone: str, millions: float) -> None:
    network = SpineOne(NetworkConfig(backbone=backbone, slices=3))
    assert count_parameters(network.backbone.trunk) / 1e6 == pytest.approx(millions, abs=0.01)
    names = set(network.backbone.trunk.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer2.0.downsample.1.bias", "layer4.1.conv2.weight"} <= names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "vgg"}, "resnet18"),
        ({"slices": 12}, "1 to 11"),
        ({"attention_stride": 3}, "4, 8"),
        ({"colour": 1}, "unknown"),
    ],
)
def test_config__names_what_is_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig.from_json({**TINY.to_json(), **change})


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (1, 3, 60, 64), (3, 64, 64)])
def test_forward__refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="input"):
        SpineOne(TINY)(torch.zeros(shape))
