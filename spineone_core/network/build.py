"""From a config to its network, one stage or two."""

from __future__ import annotations

from torch import nn

from spineone_core.network.config import NetworkConfig
from spineone_core.network.spineone import SpineOne
from spineone_core.network.two_stage import TwoStage


def build_network(config: NetworkConfig) -> SpineOne:
    """A fresh detector as the config says."""
    return TwoStage(config) if config.two_stage else SpineOne(config)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())
