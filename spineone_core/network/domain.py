"""Does a picture show what the detector was trained to read? A small network of its own answers before levels are named.

The detector's maps cannot tell: anatomy looks alike in T1, where the detector finds all ten levels and classes mean nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spineone_core.backbones.deeplab import conv_bn_relu
from spineone_core.findings import Reason
from spineone_core.imaging.series import SeriesError

# The check looks at half the detector's resolution: contrast and layout matter, not detail.
SHRINK = 2
# Halvings of the resolution inside the network.
STAGES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainConfig:
    """``width`` of the first stage's channels; scores above ``limit`` are refused as ``not_lumbar``.

    Raises
    ------
    ValueError
        If the width is under 4 or the limit outside 0 to 1.
    """

    width: int = 16
    limit: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 4 or not 0 < self.limit <= 1:
            raise ValueError(f"domain width {self.width} must be at least 4 and limit {self.limit} within 0 to 1")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class DomainNetwork(nn.Module):
    """Five halving stages, mean and maximum over the picture, one logit: above 0 is no sagittal T2 lumbar MRI."""

    def __init__(self, config: DomainConfig) -> None:
        super().__init__()
        self.config = config
        widths = [1, *(config.width * (i + 1) for i in range(STAGES))]
        self.stages = nn.Sequential(*(_stage(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, n, H, W) z-scored, at the detector's spacing -> (B,) logits; only the middle slice is looked at."""
        middle = images[:, images.shape[1] // 2, None]
        maps = self.stages(F.avg_pool2d(middle, SHRINK))
        return self.head(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1))[:, 0]


def _stage(before: int, after: int) -> nn.Module:
    return nn.Sequential(conv_bn_relu(before, after, 3), nn.MaxPool2d(2), conv_bn_relu(after, after, 3))


@torch.inference_mode()
def domain_score(network: DomainNetwork, images: NDArray[np.float32], device: torch.device) -> float:
    """How foreign an exam's stacks (fused, n, H, W) are: 0 as in training, 1 something else."""
    return float(torch.sigmoid(network(torch.from_numpy(images).to(device)).float()).mean())


def finite_score(network: DomainNetwork | None, images: NDArray[np.float32], device: torch.device) -> float | None:
    """The score, None where the package has no domain check.

    Raises
    ------
    SeriesError
        ``invalid_output`` where it is not finite.
    """
    if network is None:
        return None
    score = domain_score(network, images, device)
    if not math.isfinite(score):
        raise SeriesError(Reason.INVALID_OUTPUT, "the out-of-distribution score is not finite")
    return score


def check_score(network: DomainNetwork | None, score: float | None) -> None:
    """Refuse what is out of the domain.

    Raises
    ------
    SeriesError
        ``not_lumbar`` where the score is over the package's limit.
    """
    if network is not None and score is not None and score > network.config.limit:
        detail = f"out-of-distribution score {score:.2f} is over the model's limit {network.config.limit:.2f}"
        raise SeriesError(Reason.NOT_LUMBAR, detail)
