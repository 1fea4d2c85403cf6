"""ImageNet weights for a backbone from a local file of torchvision's; nothing is downloaded."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from spineone_core.backbones.densenet import DenseNet
from spineone_core.backbones.resnet import ResNet
from trainer.training.run_folder import TrainingError

# Old DenseNet files write "norm.1" for "norm1".
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])")
_CLASSIFIERS = ("fc.", "classifier.")
# Old files have no counters of batch normalisation.
_COUNTERS = "num_batches_tracked"


def load_backbone(network: nn.Module, path: Path) -> None:
    """Put a torchvision ResNet's or DenseNet's weights (``.pth`` or ``.safetensors``) into a detector's trunk.

    The first convolution sees n slices where ImageNet has three colours. Each slice gets the mean over the colours times
    3/n, so that equal slices give what a grey picture would.

    Raises
    ------
    TrainingError
        If the file cannot be read, the detector has no such trunk, or names or shapes do not fit.
    """
    trunk = _trunk_of(network)
    if trunk is None:
        raise TrainingError(f"{path}: this detector has no ResNet or DenseNet to load weights into")
    weights = _weights_for(trunk, path)
    try:
        trunk.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"{path}: does not fit this detector's backbone: {reason}") from error


def fitting_backbone(network: nn.Module, paths: Sequence[Path]) -> Path | None:
    """The first file whose weights fit the detector's trunk; None if none does. The network may be on the meta device.

    Raises
    ------
    TrainingError
        If a file cannot be read.
    """
    trunk = _trunk_of(network)
    if trunk is None:
        return None
    wanted = {name: value.shape for name, value in trunk.state_dict().items() if not name.endswith(_COUNTERS)}
    for path in paths:
        found = _weights_for(trunk, path)
        if {name: value.shape for name, value in found.items() if not name.endswith(_COUNTERS)} == wanted:
            return path
    return None


def _trunk_of(network: nn.Module) -> ResNet | DenseNet | None:
    return next((m for m in network.modules() if isinstance(m, ResNet | DenseNet)), None)


def _weights_for(trunk: nn.Module, path: Path) -> dict[str, Tensor]:
    """The file's weights under the trunk's names, the first convolution for its number of slices."""
    weights = {_OLD_NAME.sub(r"\1\2", name): value for name, value in _read(path).items()}
    weights = {name: value for name, value in weights.items() if not name.startswith(_CLASSIFIERS)}
    first = next(name for name, value in trunk.state_dict().items() if value.ndim == 4)
    if first in weights and weights[first].ndim == 4:
        slices = trunk.state_dict()[first].shape[1]
        colours = weights[first]
        weights[first] = colours.mean(dim=1, keepdim=True).expand(-1, slices, -1, -1) * (colours.shape[1] / slices)
    return weights


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return loaded
    except pickle.UnpicklingError as error:
        raise TrainingError(f"{path}: backbone weights cannot be read: not a state dict alone") from error
    except (OSError, RuntimeError, SafetensorError, EOFError) as error:
        raise TrainingError(f"{path}: backbone weights cannot be read ({error})") from error
