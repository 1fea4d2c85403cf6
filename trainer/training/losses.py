"""Focal loss, masked L1 offset loss and gradient-guided objective association (Eqs. 4 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spineone_core.network.config import CLASSES
from spineone_core.network.spineone import BranchOutput

GRADIENT_CLIP = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """``gamma`` of the focal loss, and how objective association weighs and normalises (readings 10 and 11)."""

    gamma: float = 2.0
    association: Literal["literal", "weighted"] = "weighted"
    normalisation: Literal["magnitude", "minmax"] = "magnitude"

    def __post_init__(self) -> None:
        if self.association not in ("literal", "weighted"):
            raise ValueError(f"association {self.association!r}; allowed: literal, weighted")
        if self.normalisation not in ("magnitude", "minmax"):
            raise ValueError(f"normalisation {self.normalisation!r}; allowed: magnitude, minmax")


def focal_terms(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p_t)^gamma log p_t for each pixel and channel, from logits, in fp32."""
    logits = logits.float()
    log_p = -F.binary_cross_entropy_with_logits(logits, target, reduction="none")  # log of the true class's probability
    return -((1 - log_p.exp()) ** gamma) * log_p


def focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """The weighted sum of the focal terms, divided by the number of positive pixels or 1 (reading 8).

    Parameters
    ----------
    logits, target
        (B, C, H, W).
    weight
        (B, H, W) or (B, C, H, W), 0 where the loss must not look.
    """
    weight = weight if weight.ndim == 4 else weight[:, None]
    total = (focal_terms(logits, target, gamma) * weight).sum()
    return total / positives(target)


def positives(target: Tensor) -> Tensor:
    """The number of positive pixels, but at least 1."""
    return target.sum().clamp_min(1.0)


def focal_gradient(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """d focal / d p of the sum before normalisation, in closed form, p being the probability (reading 9); detached."""
    probability = torch.sigmoid(logits.detach().float()).clamp(1e-6, 1 - 1e-6)
    true = torch.where(target > 0, probability, 1 - probability)
    slope = gamma * (1 - true) ** (gamma - 1) * true.log() - (1 - true) ** gamma / true
    return torch.where(target > 0, slope, -slope)


def association_weight(gradient: Tensor, normalisation: str) -> Tensor:
    """1 + the gradient, clipped to [-100, 100] and scaled to [0, 1] for each sample and channel (Eq. 6; reading 10)."""
    clipped = gradient.clamp(-GRADIENT_CLIP, GRADIENT_CLIP)
    if normalisation == "magnitude":
        size = clipped.abs()
        return 1 + size / size.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    low, high = clipped.amin(dim=(-2, -1), keepdim=True), clipped.amax(dim=(-2, -1), keepdim=True)
    return 1 + (clipped - low) / (high - low).clamp_min(1e-12)


def offset_loss(
    offsets: Tensor, target: Tensor, heatmap: Tensor, association: Tensor | None = None, *, literal: bool = False
) -> Tensor:
    """L1 summed over the pixels inside discs (reading 13), divided by the number of positive pixels.

    Parameters
    ----------
    offsets, target
        (B, 2 L, H, W) in the layout (channel, xy), for L classes (OCPC) or levels.
    heatmap
        (B, L, H, W) ground truth, which is the mask.
    association
        (B, L, H, W) weights of `association_weight`, or None. R(.) of Eq. 6 repeats each twice in a row (reading 12).
    literal
        True multiplies the prediction, as Eq. 6 is written; False multiplies the absolute error (reading 11).
    """
    mask = heatmap.repeat_interleave(2, dim=1)
    offsets = offsets.float()
    if association is None:
        error = (offsets - target).abs()
    else:
        weight = association.repeat_interleave(2, dim=1)
        error = (weight * offsets - target).abs() if literal else weight * (offsets - target).abs()
    return (error * mask).sum() / positives(heatmap)


def branch_loss(
    output: BranchOutput, heatmap: Tensor, offsets: Tensor, weight: Tensor, config: LossConfig, *, associate: bool
) -> tuple[Tensor, Tensor]:
    """Heatmap and offset loss of one structure (Eq. 5, or Eq. 6 where ``associate``), summed over stacks."""
    terms = [
        _stack_loss(logits, ways, heatmap, offsets, weight, config, associate)
        for logits, ways in (output[:2], *output.earlier)
    ]
    return torch.stack([t[0] for t in terms]).sum(), torch.stack([t[1] for t in terms]).sum()


def _stack_loss(
    logits: Tensor,
    ways: Tensor | None,
    heatmap: Tensor,
    offsets: Tensor,
    weight: Tensor,
    config: LossConfig,
    associate: bool,
) -> tuple[Tensor, Tensor]:
    heat = focal_loss(logits, heatmap, weight, config.gamma)
    if ways is None:
        return heat, torch.zeros_like(heat)
    located = ways.shape[1] // 2
    discs = heatmap[:, :located]
    association = None
    if associate:
        gradient = focal_gradient(logits[:, :located], discs, config.gamma)
        association = association_weight(gradient, config.normalisation)
    return heat, offset_loss(ways, offsets, discs, association, literal=config.association == "literal")


def classification_loss(logits: Tensor, labels: Sequence[Sequence[int]] | Tensor) -> Tensor:
    """The mean cross entropy over keypoints whose class is known.

    Parameters
    ----------
    logits
        (B, 10, 2).
    labels
        (B, 10): 0 is normal, 1 degenerative, -1 unknown.
    """
    wanted = torch.as_tensor(labels, device=logits.device).reshape(-1)
    total = F.cross_entropy(logits.float().reshape(-1, CLASSES), wanted, ignore_index=-1, reduction="sum")
    return total / (wanted >= 0).sum().clamp_min(1)
