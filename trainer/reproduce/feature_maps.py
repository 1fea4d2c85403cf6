"""Pictures of the features that the branches see with and without attention (Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spineone_core.detection.model_package import ModelPackage
from spineone_core.detection.preprocessing import prepare
from spineone_core.network.config import HEAD_STRIDE, STRUCTURES
from spineone_core.network.spineone import SpineOne
from trainer.datasets.exam import Exam
from trainer.reproduce import plots

CHANNELS = 2


def feature_maps(packages: Sequence[ModelPackage], exam: Exam, seed: int, title: str) -> bytes:
    """A PNG with a row for each package: the picture, then random channels of the features of disc and vertebra."""
    figure, axes = plots.new_figure(1 + CHANNELS * len(STRUCTURES), len(packages), (12, 2.9 * len(packages)))
    rng = np.random.default_rng([seed, 4])
    for row, package in zip(axes, packages, strict=True):
        prepared = prepare(exam.volume, package.manifest.preprocessing)
        picture = prepared.images[0, prepared.images.shape[1] // 2]
        rows, columns = prepared.grid.rows, prepared.grid.columns
        row[0].imshow(picture[:rows, :columns], cmap="gray")
        row[0].set_title("with attention" if package.manifest.network.pam else "without attention", fontsize=8)
        for s, (name, features) in enumerate(branch_features(package.network, prepared.images[:1]).items()):
            for c, channel in enumerate(rng.choice(len(features), CHANNELS, replace=False)):
                place = row[1 + s * CHANNELS + c]
                place.imshow(features[channel][: -(-rows // HEAD_STRIDE), : -(-columns // HEAD_STRIDE)], cmap="jet")
                place.set_title(f"{name}, channel {channel}", fontsize=8)
        for place in row:
            place.set_axis_off()
    return plots.png(figure, title)


@torch.inference_mode()
def branch_features(network: SpineOne, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Structure -> (channels, H/4, W/4), the output of its attention modules (U itself if it has none)."""
    features = network.eval().cpu().backbone(torch.from_numpy(images))
    found: dict[str, NDArray[np.float32]] = {}
    for s in STRUCTURES:
        attended: torch.Tensor = network.branches[s.value].attention(features)  # type: ignore[operator]
        found[s.value] = attended[0].numpy()
    return found
