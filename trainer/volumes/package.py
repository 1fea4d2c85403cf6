"""A package of the 3-D variant on disk: ``manifest.json`` and ``weights.safetensors``. The node refuses it, as it reads MRI."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from spineone_core import strict_json
from spineone_core.detection.model_package import MANIFEST, WEIGHTS, ModelPackageError, locate
from spineone_core.network.config import ConfigError
from trainer.volumes.network import SpineOneVolume, VolumeConfig
from trainer.volumes.preprocessing import VolumePreprocessing

FORMAT = "volume-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeManifest:
    """Everything but the weights. ``suppression`` is the least distance of two vertebrae, in reduced voxels."""

    name: str
    network: VolumeConfig
    preprocessing: VolumePreprocessing
    suppression: int
    training: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def is_volume_package(path: str | Path) -> bool:
    """Whether the folder holds a package of the 3-D variant; False if it holds none that can be read."""
    try:
        return bool(json.loads((locate(path) / MANIFEST).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def save_volume_package(folder: Path, network: SpineOneVolume, manifest: VolumeManifest) -> None:
    """Write both files, the weights first, then the manifest with their SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: value.contiguous().cpu() for name, value in network.state_dict().items()})
    (folder / WEIGHTS).write_bytes(weights)
    data = {"format": FORMAT, **asdict(manifest), "sha256": hashlib.sha256(weights).hexdigest()}
    (folder / MANIFEST).write_text(strict_json.dumps(data, indent=1), encoding="utf-8")


def load_volume_package(path: str | Path) -> tuple[VolumeManifest, SpineOneVolume]:
    """Read and verify a package; the network is in evaluation mode on the CPU.

    Raises
    ------
    ModelPackageError
        If a file is missing or damaged, or manifest and weights do not belong together.
    """
    folder = Path(path)
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
        weights = (folder / WEIGHTS).read_bytes()
        if data["format"] != FORMAT or data["sha256"] != hashlib.sha256(weights).hexdigest():
            raise ModelPackageError(f"{folder}: not a package of format {FORMAT}, or its weights are damaged")
        network, preprocessing = data["network"], data["preprocessing"]
        manifest = VolumeManifest(
            name=data["name"],
            network=VolumeConfig(**{**network, "reduction": tuple(network["reduction"])}),
            preprocessing=VolumePreprocessing(
                spacing_mm=tuple(preprocessing["spacing_mm"]), window=tuple(preprocessing["window"])
            ),
            suppression=data["suppression"],
            training=data["training"],
            figures=data["figures"],
        )
        loaded = SpineOneVolume(manifest.network)
        loaded.load_state_dict(load(weights))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, ConfigError) as error:
        raise ModelPackageError(f"{folder}: cannot be read as a package of the 3-D variant: {error}") from error
    return manifest, loaded.eval()
