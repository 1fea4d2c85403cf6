"""The smallest model package that loads: random weights, so it finds no spine, but everything around it is real."""

from __future__ import annotations

from pathlib import Path

import torch

from spineone_core.detection.model_package import Manifest, save_package
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from spineone_core.network.spineone import SpineOne


def write_tiny_model(folder: Path) -> Path:
    """Write the package into a folder."""
    torch.manual_seed(1)
    config = NetworkConfig(
        backbone="resnet18",
        width=8,
        decoder_channels=8,
        low_level_channels=8,
        feature_channels=8,
        attention_stride=32,
    )
    network = SpineOne(config).eval()
    manifest = Manifest(
        name="tiny",
        version="0",
        network=config,
        # Coarse: votes gather over fewer pixels, which is where a tiny network's time goes.
        preprocessing=PreprocessingConfig(spacing_mm=2.0),
        training={"data": "none"},
        figures={"note": "none: random weights"},
        licence="none",
    )
    save_package(folder, network, manifest, write_card=lambda *_: "# Random weights\n")
    return folder
