"""Two-stage baselines (Table I, rows 1 to 4): localise five discs and five vertebrae, then classify crops with a ResNet18."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.anatomy import READING_ORDER
from spineone_core.backbones.resnet import ResNet
from spineone_core.network.config import CLASSES, STRUCTURES, ConfigError, NetworkConfig
from spineone_core.network.spineone import SpineOne

KEYPOINTS = len(READING_ORDER)


def cut_crops(images: Tensor, points: Tensor, side: float, pixels: int) -> Tensor:
    """Square crops around keypoints, bilinear; outside the picture its edge pixels repeat.

    Parameters
    ----------
    images
        (B, n, H, W).
    points
        (B, K, 2) column and row, pixel centres at integers.
    side
        Side of a crop, in pixels of ``images``.
    pixels
        Side of a crop, in its own pixels.

    Returns
    -------
    (B * K, n, pixels, pixels)
    """
    batch, count = points.shape[:2]
    height, width = images.shape[-2:]
    steps = (torch.arange(pixels, device=images.device, dtype=images.dtype) + 0.5) / pixels - 0.5
    rows, columns = torch.meshgrid(steps * side, steps * side, indexing="ij")
    around = torch.stack([columns, rows], dim=-1)  # (P, P, 2)
    places = points.to(images)[:, :, None, None, :] + around
    grid = (places + 0.5) * 2 / places.new_tensor([width, height]) - 1
    grid = grid.reshape(batch, count * pixels, pixels, 2)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    crops = crops.reshape(batch, -1, count, pixels, pixels).transpose(1, 2)
    return crops.reshape(batch * count, -1, pixels, pixels)


class CropClassifier(nn.Module):
    """A ResNet18 (``trunk``, with torchvision's names) that gives two classes for each structure.

    One network serves both structures, as the paper names one classifier. It has four outputs, and a crop's structure picks
    two.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.trunk = ResNet("resnet18", in_channels=config.slices, width=config.width, output_stride=32)
        self.fc = nn.Linear(self.trunk.out_channels[3], len(STRUCTURES) * CLASSES)

    def forward(self, crops: Tensor) -> Tensor:
        """(N, n, P, P) -> logits (N, structure, class)."""
        pooled = self.trunk(crops)[3].mean(dim=(2, 3))
        return self.fc(pooled).reshape(-1, len(STRUCTURES), CLASSES)


class TwoStage(SpineOne):
    """A localiser (heatmap ``levels``) and a classifier of 50 x 50 mm crops. They share no weights."""

    def __init__(self, config: NetworkConfig) -> None:
        if not config.two_stage:
            raise ConfigError(f"network option heatmap = {config.heatmap!r}; a two-stage detector needs 'levels'")
        super().__init__(config)
        self.classifier = CropClassifier(config)
        rows = [STRUCTURES.index(landmark.structure) for landmark in READING_ORDER]
        self.register_buffer("structure_of", torch.tensor(rows), persistent=False)

    def classify(self, images: Tensor, points: Tensor, spacing_mm: float) -> Tensor:
        """The class logits of keypoints.

        Parameters
        ----------
        images
            (B, slices, H, W).
        points
            (B, 10, 2) column and row in reading order, from the training data or from the localiser.
        spacing_mm
            Side of a pixel.

        Returns
        -------
        (B, 10, 2), normal and degenerative.
        """
        if points.shape[1:] != (KEYPOINTS, 2) or not spacing_mm > 0:
            raise ValueError(f"points {tuple(points.shape)} are not (B, 10, 2) or spacing {spacing_mm} is not positive")
        crops = cut_crops(images, points, self.config.crop_mm / spacing_mm, self.config.crop_px)
        logits = self.classifier(crops).reshape(len(images), KEYPOINTS, len(STRUCTURES), CLASSES)
        return logits[:, torch.arange(KEYPOINTS), self.structure_of]
