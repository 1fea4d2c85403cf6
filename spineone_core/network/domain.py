"""Does a picture show what the detector was trained to read? A small separate network answers before levels are named.

The detector's own maps cannot tell: anatomy looks the same in T1, where it finds all ten levels but classes mean nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spineone_core.backbones.deeplab import conv_bn_relu

# The check looks at half the detector's resolution: contrast and layout matter, not detail.
SHRINK = 2
# Halvings of the resolution inside the network.
STAGES = 5
# A picture with a shorter side (pixels at the detector's spacing) would shrink to nothing.
MIN_SIDE = SHRINK * 2**STAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainConfig:
    """``width`` is the number of channels of the first stage; scores above ``limit`` are refused as ``not_lumbar``.

    Of ``members`` networks, trained one after another, the highest score counts: so what one refuses stays refused.

    Raises
    ------
    ValueError
        If the width is under 4, the limit is outside 0 to 1, or there is no member.
    """

    width: int = 16
    limit: float = 0.5
    members: int = 1

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"domain members {self.members} must be at least 1")
        if self.width < 4 or not 0 < self.limit <= 1:
            raise ValueError(f"domain width {self.width} must be at least 4 and limit {self.limit} within 0 to 1")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class DomainNetwork(nn.Module):
    """Five halving stages, mean and maximum over the picture, and one logit, above 0 for what is no sagittal T2 lumbar MRI."""

    def __init__(self, config: DomainConfig) -> None:
        super().__init__()
        self.config = config
        widths = [1, *(config.width * (i + 1) for i in range(STAGES))]
        self.stages = nn.Sequential(*(_stage(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(2 * widths[-1], 1)
        alone = replace(config, members=1)
        self.beside = nn.ModuleList(DomainNetwork(alone) for _ in range(config.members - 1))

    @property
    def further(self) -> list[DomainNetwork]:
        """The other members."""
        return [other for other in self.beside if isinstance(other, DomainNetwork)]

    def forward(self, images: Tensor) -> Tensor:
        """(B, n, H, W) z-scored, at the detector's spacing -> (B,) logits; it looks at the middle slice only."""
        return self.judge(F.avg_pool2d(images[:, images.shape[1] // 2, None], SHRINK))

    def judge(self, pictures: Tensor) -> Tensor:
        """(B, 1, h, w) z-scored, at ``SHRINK`` times the detector's spacing -> (B,) logits."""
        maps = self.stages(pictures)
        own = self.head(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1))[:, 0]
        return torch.stack([own, *(other.judge(pictures) for other in self.further)]).amax(dim=0)

    def alone(self) -> DomainNetwork:
        """The first member without the others; its limit is one half."""
        network = DomainNetwork(replace(self.config, limit=0.5, members=1))
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("beside.")}
        network.load_state_dict(own)
        return network.eval()

    def joined(self, others: DomainNetwork) -> DomainNetwork:
        """This network, which has one member, and all of ``others``; its own limit stays."""
        further = [others.alone(), *others.further]
        both = DomainNetwork(replace(self.config, members=1 + len(further)))
        state = self.state_dict()
        for number, other in enumerate(further):
            state |= {f"beside.{number}.{name}": tensor for name, tensor in other.state_dict().items()}
        both.load_state_dict(state)
        return both.eval()


def _stage(before: int, after: int) -> nn.Module:
    return nn.Sequential(conv_bn_relu(before, after, 3), nn.MaxPool2d(2), conv_bn_relu(after, after, 3))
