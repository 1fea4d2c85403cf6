"""Batch normalisation folded into the convolution before it, for inference: the same outputs, fewer passes over memory."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Network = TypeVar("_Network", bound=nn.Module)


def fold_norms(network: _Network) -> _Network:
    """A copy of the network whose batch normalisations are folded into the convolutions that they follow; itself if it has none.

    "Follows" goes by the order in which a module names its children, which is the order of its `forward` in every backbone and
    head of this package; the tests compare the outputs of each architecture.

    Raises
    ------
    ValueError
        If the network is in training mode, where a normalisation depends on its batch.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    if network.training:
        raise ValueError("only a network in evaluation mode can have its batch normalisations folded")
    network = deepcopy(network)
    for module in list(network.modules()):
        for (name, first), (following, second) in pairwise(list(module.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, following, nn.Identity())
    return network
