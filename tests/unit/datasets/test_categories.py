"""The competition's seven categories: what several codes mean, how they are taught, and the score over all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spineone_core.anatomy import Grade, Structure
from trainer.datasets import phantoms
from trainer.datasets.categories import categories_of, category_of, has_categories
from trainer.evaluation.categories import category_precision
from trainer.evaluation.outcomes import Outcome
from trainer.samples.targets import draw_targets

N, D = Grade.NORMAL, Grade.DEGENERATIVE
DISC, VERTEBRA = Structure.DISC, Structure.VERTEBRA


@pytest.mark.parametrize(
    ("codes", "grade", "structure", "channel"),
    [
        ("v1", N, DISC, 0),
        ("v2,v3", D, DISC, 2),
        ("v3, v2", D, DISC, 2),
        ("v2,v5", D, DISC, 1),
        ("v5", D, DISC, 4),
        ("v4,v2,v5", D, DISC, 3),
        ("v2", D, VERTEBRA, 1),
        ("v3", D, VERTEBRA, 1),
        ("Pfirrmann 4", D, DISC, None),
        ("Pfirrmann 1", N, DISC, 0),
        ("", D, VERTEBRA, 1),
        ("", None, VERTEBRA, None),
    ],
)
def test_category__of_codes_and_classes(
    codes: str, grade: Grade | None, structure: Structure, channel: int | None
) -> None:
    assert category_of(codes, grade, structure) == channel


def test_categories__of_an_exam_without_codes_are_those_that_the_class_gives() -> None:
    (exam,) = phantoms.read(range(1), slices=1)
    assert not has_categories(exam)
    coded = replace(exam, raw={"L4-L5": "v2,v3"}, grades={**exam.grades, "L4-L5": D, "L1": None})
    assert has_categories(coded)
    found = categories_of(coded)
    assert (found[0], found[7]) == (None, 2)


def test_targets__each_category_has_its_channel() -> None:
    points = np.array([[20.0, 20.0], [20.0, 50.0], [20.0, 80.0]])
    kinds = ([3, None, 0], 5)
    targets = draw_targets(points, [D, D, N], (100, 40), 4.0, heatmap="categories", categories=kinds)
    assert targets.heatmap.shape == (5, 100, 40)
    assert targets.offsets.shape == (10, 100, 40)
    assert [bool(channel.any()) for channel in targets.heatmap] == [True, False, False, True, False]
    assert targets.weight[50, 20] == 0  # its kind is unknown
    with pytest.raises(ValueError, match="one needs the other"):
        draw_targets(points, [D, D, N], (100, 40), 4.0, heatmap="categories")


def test_precision__over_seven_categories_by_hand() -> None:
    truth = np.column_stack([np.zeros(10), 18.0 * np.arange(10)])
    true = (0, 1, 0, 2, 1, 3, 1, 4, None, 0)
    said = np.array([0, 1, 1, 2, 1, 2, 1, 4, 1, 0])  # rows 2 and 5 are wrong; row 8 is of unknown category
    found = truth.copy()
    found[0, 0] = 7.0  # hits nothing
    found[9] = np.nan  # not found
    outcome = Outcome("e", "p", truth, (D,) * 10, found, np.full(10, 0.9), true_categories=true, categories=said)
    assert category_precision([outcome]) == pytest.approx(5 / 8)
    assert category_precision([replace(outcome, predicted=None, probabilities=None, categories=None)]) == 0.0
