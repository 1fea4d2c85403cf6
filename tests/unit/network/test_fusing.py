"""Folding batch normalisations changes no output of any network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spineone_core.anatomy import Structure
from spineone_core.network.config import NetworkConfig
from spineone_core.network.domain import DomainConfig, DomainNetwork
from spineone_core.network.fusing import fold_norms
from spineone_core.network.grading import GradingConfig, GradingEnsemble
from spineone_core.network.spineone import SpineOne

NETWORKS = {
    "deeplabv3plus": "resnet18",
    "deeplabv3plus bottleneck": "resnet50",
    "fpn": "densenet121",
    "fcos": "resnet50",
    "centernet": "resnet18",
    "hourglass": "hourglass52",
    "hrnet": "hrnet_w32",
}


def lively(network: nn.Module) -> nn.Module:
    """The network with normalisations that do something, in evaluation mode."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            assert module.running_mean is not None
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0.0, 0.2, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_fold_norms__gives_the_same_maps(name: str) -> None:
    network = lively(SpineOne(NetworkConfig(architecture=name.split()[0], backbone=NETWORKS[name], slices=3)))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = fold_norms(network)
    assert norms(folded) < norms(network) / 2
    before, after = network(images), folded(images)
    for structure in Structure:
        scale = before[structure].logits.abs().max()
        assert (after[structure].logits - before[structure].logits).abs().max() < 1e-4 * scale


@torch.inference_mode()
def test_fold_norms__gives_the_same_grades_and_domain() -> None:
    grading = lively(GradingEnsemble(GradingConfig(structure=Structure.DISC, members=2)))
    crops = torch.randn(2, 5, 80, 80, generator=torch.Generator().manual_seed(2))
    folded = fold_norms(grading)
    assert norms(folded) == 0
    for old, new in zip(grading(crops), folded(crops), strict=True):
        assert torch.allclose(old, new, atol=1e-4)
    domain = lively(DomainNetwork(DomainConfig()))
    pictures = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    logits = domain(pictures)
    assert torch.allclose(fold_norms(domain)(pictures), logits, atol=1e-4)


def test_fold_norms__refuses_a_network_in_training() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_norms(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train())
