"""The grading networks: ordered thresholds, causes joined to a class, members averaged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spineone_core.anatomy import Structure
from spineone_core.network.grading import (
    GradingConfig,
    GradingEnsemble,
    GradingLogits,
    GradingNetwork,
    class_logits,
    joined_signs,
    noisy_or,
)

TINY = GradingConfig(structure=Structure.DISC, crop_px=16, width=4)


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.randn(2, 5, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("context", [True, False])
def test_thresholds__fall_with_the_grade_whatever_the_weights(crops: torch.Tensor, context: bool) -> None:
    torch.manual_seed(1)
    network = GradingNetwork(replace(TINY, context=context)).eval()
    torch.nn.init.normal_(network.thresholds, 0, 5)
    logits = network(crops)
    assert logits.direct.shape == (2, 5)
    assert logits.above.shape == (2, 5, 4)
    assert logits.signs.shape == (2, 5, 5)
    assert (logits.above.diff(dim=-1) < 0).all()


def test_vertebrae__have_signs_and_no_grade(crops: torch.Tensor) -> None:
    logits = GradingNetwork(replace(TINY, structure=Structure.VERTEBRA)).eval()(crops)
    assert logits.above.shape == (2, 5, 0)
    assert logits.signs.shape == (2, 5, 4)


def test_context__shows_a_structure_the_others(crops: torch.Tensor) -> None:
    changed = crops.clone()
    changed[:, 4] = 0
    for context, same in ((True, False), (False, True)):
        torch.manual_seed(0)
        network = GradingNetwork(replace(TINY, context=context)).eval()
        assert torch.equal(network(crops).direct[:, 0], network(changed).direct[:, 0]) is same


def test_noisy_or__is_one_minus_the_product_of_what_is_absent() -> None:
    causes = torch.tensor([[0.1, 0.5, 0.9], [0.01, 0.02, 0.03]])
    expected = 1 - (1 - causes).prod(dim=-1)
    assert torch.sigmoid(noisy_or(torch.logit(causes))).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert torch.isfinite(noisy_or(torch.tensor([[-90.0, -90.0], [90.0, 90.0]]))).all()


def test_class__comes_from_where_the_config_says() -> None:
    logits = GradingLogits(torch.zeros(1, 5), torch.zeros(1, 5, 4), torch.full((1, 5, 5), -20.0))
    for way, expected in (("direct", 0.5), ("signs", 0.5), ("mean", 0.5)):
        said = torch.sigmoid(class_logits(logits, replace(TINY, class_from=way)))
        assert said[0].tolist() == pytest.approx([expected] * 5, abs=1e-3)
    signs = torch.full((1, 5, 5), -20.0)
    signs[0, 2, 1] = 3.0  # bulging
    bulging = GradingLogits(torch.zeros(1, 5), torch.full((1, 5, 4), -20.0), signs)
    said = torch.sigmoid(class_logits(bulging, replace(TINY, class_from="signs")))[0]
    assert said[2] > 0.9
    assert said[[0, 1, 3, 4]].max() < 0.01


def test_joined__takes_the_mean_with_what_is_seen_at_the_discs_beside() -> None:
    vertebrae, discs = torch.zeros(5, 4), torch.zeros(5, 5)
    discs[1] = torch.tensor([7.0, 7.0, 1.0, 2.0, 3.0])  # L2-L3: narrowing, bulging, upper and lower endplate, Modic
    joined = joined_signs(vertebrae, discs)
    # It lies below L2 with its upper endplate, and above L3 with its lower one.
    assert joined[1].tolist() == [0, 0, 1.5, 0.5]
    assert joined[2].tolist() == [1.5, 1.0, 0, 0]
    assert joined[[0, 3, 4]].abs().sum() == 0
    below = torch.zeros(5, 5)
    below[4] = 9.0
    # No disc above L1 is looked at, so nothing of L5-S1 comes round to it.
    assert joined_signs(vertebrae, below)[0].tolist() == [0, 0, 0, 0]
    vertebrae[0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert joined_signs(vertebrae, discs * 0)[0].tolist() == [1.0, 2.0, 1.5, 2.0]


def test_joined__class_needs_discs() -> None:
    config = replace(TINY, structure=Structure.VERTEBRA, class_from="joined")
    logits = GradingLogits(torch.zeros(1, 5), torch.zeros(1, 5, 0), torch.full((1, 5, 4), -9.0))
    with pytest.raises(ValueError, match="no network looks at these"):
        class_logits(logits, config)
    discs = GradingLogits(torch.zeros(1, 5), torch.zeros(1, 5, 4), torch.full((1, 5, 5), -9.0))
    discs.signs[0, 4, 4] = 30.0
    said = torch.sigmoid(class_logits(logits, config, discs))[0]
    assert (said > 0.9).tolist() == [False, False, False, False, True]
    with pytest.raises(ValueError, match="is for vertebrae"):
        replace(TINY, class_from="joined")


def test_ensemble__averages_logits(crops: torch.Tensor) -> None:
    torch.manual_seed(0)
    ensemble = GradingEnsemble(replace(TINY, members=3)).eval()
    each = [member(crops) for member in ensemble.members]
    for part, parts in zip(ensemble(crops), zip(*each, strict=True), strict=True):
        assert torch.allclose(part, sum(parts) / 3, atol=1e-6)
    with pytest.raises(ValueError, match="1 networks for 3 members"):
        GradingEnsemble(replace(TINY, members=3), [GradingNetwork(TINY)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_mm": 5}, "crop_mm 5"),
        ({"slices": 2}, "odd"),
        ({"members": 0}, "members 0"),
        ({"class_from": "guess"}, "class_from 'guess'"),
    ],
)
def test_config__refuses_what_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)  # type: ignore[arg-type]


def test_config__survives_json() -> None:
    assert GradingConfig.from_json(TINY.to_json()) == TINY
    with pytest.raises(ValueError, match="unknown grading option colour"):
        GradingConfig.from_json({**TINY.to_json(), "colour": 1})
