"""Focal loss, offsets, objective association."""

from __future__ import annotations

import pytest
import torch

from spineone_core.network.spineone import BranchOutput
from trainer.training.losses import (
    LossConfig,
    association_weight,
    branch_loss,
    focal_gradient,
    focal_loss,
    focal_terms,
    offset_loss,
)


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 2, 8, 9, generator=generator)
    target = (torch.rand(2, 2, 8, 9, generator=generator) > 0.8).float()
    return logits, target, torch.ones(2, 8, 9)


def test_focal__equals_the_formula() -> None:
    logits, target, weight = example()
    p = torch.sigmoid(logits)
    true = torch.where(target > 0, p, 1 - p)
    expected = (-((1 - true) ** 2) * true.log()).sum() / target.sum()
    assert torch.allclose(focal_loss(logits, target, weight), expected, rtol=1e-5)


def test_focal__is_finite_for_extreme_logits_in_half_precision() -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], dtype=torch.bfloat16)[None, None].expand(1, 2, 2, 2)
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).expand(1, 2, 2, 2)
    assert torch.isfinite(focal_terms(logits, target)).all()


def test_focal__ignores_pixels_of_unknown_class() -> None:
    logits, target, weight = example()
    weight[:, 2:4] = 0
    changed = logits.clone()
    changed[:, :, 2:4] += 5
    assert torch.equal(focal_loss(logits, target, weight), focal_loss(changed, target, weight))


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0])
def test_focal_gradient__closed_form_equals_autograd(gamma: float) -> None:
    logits, target, _ = example()
    p = torch.sigmoid(logits).clone().requires_grad_()
    true = torch.where(target > 0, p, 1 - p)
    (-((1 - true) ** gamma) * true.log()).sum().backward()
    assert torch.allclose(focal_gradient(logits, target, gamma), p.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["magnitude", "minmax"])
def test_association_weight__lies_between_one_and_two(normalisation: str) -> None:
    logits, target, _ = example()
    weight = association_weight(focal_gradient(logits, target), normalisation)
    assert weight.min() >= 1
    assert weight.max() <= 2
    assert torch.allclose(weight.amax(dim=(-2, -1)), torch.full((2, 2), 2.0))


def test_association__literal_scales_the_prediction_weighted_the_error() -> None:
    heatmap = torch.ones(1, 2, 1, 1)
    offsets, target = torch.full((1, 4, 1, 1), 0.5), torch.full((1, 4, 1, 1), 0.2)
    weight = torch.full((1, 2, 1, 1), 2.0)
    assert offset_loss(offsets, target, heatmap, weight, literal=True).item() == pytest.approx(4 * 0.8 / 2)
    assert offset_loss(offsets, target, heatmap, weight).item() == pytest.approx(4 * 0.6 / 2)


def test_offset_loss__sees_only_discs() -> None:
    heatmap = torch.zeros(1, 2, 4, 4)
    heatmap[0, 1, 2, 2] = 1
    offsets = torch.randn(1, 4, 4, 4)
    offsets[0, 2:, 2, 2] = torch.tensor([0.5, -0.5])
    assert offset_loss(offsets, torch.zeros(1, 4, 4, 4), heatmap).item() == pytest.approx(1.0)


def test_branch_loss__without_offset_head() -> None:
    logits, target, weight = example()
    output = BranchOutput(logits, None)
    heat, offset = branch_loss(output, target, torch.zeros(2, 4, 8, 9), weight, LossConfig(), associate=True)
    assert heat > 0
    assert offset == 0


def test_loss_config__names_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="literal, weighted"):
        LossConfig(association="other")  # type: ignore[arg-type]
