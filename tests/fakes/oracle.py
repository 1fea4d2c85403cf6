"""A network that answers with the true maps of one spine, whatever it sees."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.network.config import CATEGORIES, NetworkConfig
from spineone_core.network.spineone import BranchOutput, SpineOne
from spineone_core.network.two_stage import TwoStage
from trainer.samples.augmentation import OUT_OF_VIEW
from trainer.samples.targets import draw_targets

RADIUS = 6.0
SIZE = (288, 128)
TEN = np.array([[60 + 10 * math.sin(0.4 * i), 30 + 24.0 * i] for i in range(10)])
GRADES = [Grade.DEGENERATIVE if i % 3 == 0 else Grade.NORMAL for i in range(10)]


class Oracle(SpineOne):
    """Answers with the true maps, moved along with the picture: pixel (0, 0) of channel 0 says by how much.

    ``absent`` are rows in reading order that its maps leave out.
    """

    def __init__(self, config: NetworkConfig, absent: Collection[int] = ()) -> None:
        super().__init__(config)
        self.batches: list[int] = []
        self.absent = list(absent)

    def forward(self, images: Tensor) -> dict[Structure, BranchOutput]:
        self.batches.append(len(images))
        flipped = bool(images[0, 0, 0, 0] < images[0, 0, 0, -1])
        factors = np.array([images.shape[-1] / SIZE[1], images.shape[-2] / SIZE[0]])
        points = (TEN + 0.5) * factors - 0.5
        if flipped:
            points[:, 0] = images.shape[-1] - 1 - points[:, 0]
        points[self.absent] = OUT_OF_VIEW
        outputs = {}
        for structure in Structure:
            rows = [i for i, landmark in enumerate(READING_ORDER) if landmark.structure is structure]
            grades = [GRADES[i] for i in rows]
            size = (images.shape[-2], images.shape[-1])
            kinds = [int(grade is Grade.DEGENERATIVE) for grade in grades], CATEGORIES[structure]
            categories = kinds if self.config.heatmap == "categories" else None
            targets = draw_targets(
                points[rows], grades, size, RADIUS, heatmap=self.config.heatmap, categories=categories
            )
            logits = torch.from_numpy(targets.heatmap) * 20 - 10
            repeat = (len(images), 1, 1, 1)
            outputs[structure] = BranchOutput(logits.repeat(repeat), torch.from_numpy(targets.offsets).repeat(repeat))
        return outputs


class TwoStageOracle(Oracle, TwoStage):
    """The same with a second stage that knows the classes."""

    def classify(self, images: Tensor, points: Tensor, spacing_mm: float) -> Tensor:
        said = [[-5.0, 5.0] if grade is Grade.DEGENERATIVE else [5.0, -5.0] for grade in GRADES]
        return torch.tensor([said]).repeat(len(images), 1, 1)


def oracle(heatmap: str, absent: Collection[int] = ()) -> Oracle:
    config = NetworkConfig(
        backbone="resnet18", heatmap=heatmap, slices=1, width=8, decoder_channels=8, low_level_channels=8,
        feature_channels=8, pam=False, cam=False,
    )  # fmt: skip
    return (TwoStageOracle if config.two_stage else Oracle)(config, absent).eval()
