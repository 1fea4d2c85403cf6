"""A network that answers with the true maps of one spine, whatever it sees."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.network.config import NetworkConfig
from spineone_core.network.spineone import BranchOutput, SpineOne
from trainer.samples.targets import draw_targets

RADIUS = 6.0
SIZE = (288, 128)
TEN = np.array([[60 + 10 * math.sin(0.4 * i), 30 + 24.0 * i] for i in range(10)])
GRADES = [Grade.DEGENERATIVE if i % 3 == 0 else Grade.NORMAL for i in range(10)]


class Oracle(SpineOne):
    """Answers with the true maps, moved along with the picture: pixel (0, 0) of channel 0 says by how much."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> dict[Structure, BranchOutput]:
        self.batches.append(len(images))
        flipped = bool(images[0, 0, 0, 0] < images[0, 0, 0, -1])
        factors = np.array([images.shape[-1] / SIZE[1], images.shape[-2] / SIZE[0]])
        points = (TEN + 0.5) * factors - 0.5
        if flipped:
            points[:, 0] = images.shape[-1] - 1 - points[:, 0]
        outputs = {}
        for structure in Structure:
            rows = [i for i, landmark in enumerate(READING_ORDER) if landmark.structure is structure]
            grades = [GRADES[i] for i in rows]
            size = (images.shape[-2], images.shape[-1])
            targets = draw_targets(points[rows], grades, size, RADIUS, heatmap=self.config.heatmap)
            logits = torch.from_numpy(targets.heatmap) * 20 - 10
            repeat = (len(images), 1, 1, 1)
            outputs[structure] = BranchOutput(logits.repeat(repeat), torch.from_numpy(targets.offsets).repeat(repeat))
        return outputs


def oracle(heatmap: str) -> Oracle:
    return Oracle(
        NetworkConfig(
            backbone="resnet18", heatmap=heatmap, slices=1, width=8, decoder_channels=8, low_level_channels=8,
            feature_channels=8, pam=False, cam=False,
        )
    ).eval()  # fmt: skip
