"""Training crops and targets of graded exams, on a phantom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spineone_core.anatomy import Grade, Structure
from spineone_core.detection.crops import crops_of
from spineone_core.network.grading import VERTEBRA_SIGNS, GradingConfig
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.datasets.gradings import DiscGrading
from trainer.samples.graded import CropChanges, graded_exam, random_crops, targets_of

DISC = GradingConfig(structure=Structure.DISC, crop_px=32)
CLEAR = dict.fromkeys(("modic", "upper_endplate", "lower_endplate", "narrowing", "bulging"), 0)


@pytest.fixture(scope="module")
def exam() -> Exam:
    (exam,) = phantoms.read(range(3, 4), slices=3)
    return exam


def test_targets__of_discs(exam: Exam) -> None:
    exam = replace(exam, grades={"L1-L2": Grade.NORMAL, "L2-L3": Grade.DEGENERATIVE, "L3-L4": Grade.DEGENERATIVE})
    gradings = {
        "L1-L2": DiscGrading(2, CLEAR),
        "L2-L3": DiscGrading(2, {**CLEAR, "bulging": 1}),
        "L3-L4": DiscGrading(4, {**CLEAR, "modic": 2}),
        "L4-L5": DiscGrading(None, {"modic": 0}),
    }
    found = targets_of(exam, gradings, Structure.DISC, soft_bulge=0.7)
    assert found.direct[:3] == pytest.approx([0, 0.7, 1])
    assert np.isnan(found.direct[3:]).all()
    assert found.above[:3].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
    assert np.isnan(found.above[3:]).all()
    assert found.signs[:3].tolist() == [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert np.isnan(found.signs[3]).tolist() == [True, True, True, True, False]
    assert targets_of(exam, gradings, Structure.DISC).direct[1] == 1


@pytest.mark.parametrize(
    ("level", "sign", "vertebra", "name"),
    [
        ("T12-L1", "lower_endplate", 0, "upper_endplate"),
        ("L1-L2", "upper_endplate", 0, "lower_endplate"),
        ("L1-L2", "lower_endplate", 1, "upper_endplate"),
        ("L5-S1", "upper_endplate", 4, "lower_endplate"),
        ("T12-L1", "modic", 0, "modic_above"),
    ],
)
def test_targets__of_vertebrae_are_the_signs_that_face_them(
    exam: Exam, level: str, sign: str, vertebra: int, name: str
) -> None:
    levels = ("T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
    gradings = {each: DiscGrading(3, {**CLEAR, sign: int(each == level)}) for each in levels}
    found = targets_of(exam, gradings, Structure.VERTEBRA)
    assert found.above.shape == (5, 0)
    assert np.argwhere(found.signs == 1).tolist() == [[vertebra, VERTEBRA_SIGNS.index(name)]]


def test_targets__a_level_without_a_point_has_none(exam: Exam) -> None:
    points = {level: place for level, place in exam.points.items() if level != "L2-L3"}
    found = targets_of(replace(exam, points=points), {"L2-L3": DiscGrading(3, CLEAR)}, Structure.DISC)
    assert np.isnan(found.direct[1])
    assert np.isnan(found.signs[1]).all()


def test_crops__without_changes_are_those_that_are_graded_at_work(exam: Exam) -> None:
    """8-bit storage and the percentiles of one slice are the only differences."""
    graded = graded_exam(exam, {}, DISC.spacing_mm, reach_mm=0)
    drawn = random_crops(graded, DISC, CropChanges(), np.random.default_rng(0))
    (seen,) = crops_of(exam.volume, exam.slice_index, exam.point_array, replace(DISC, slices=1)).numpy()
    assert drawn.shape == seen.shape == (5, 32, 32)
    assert np.corrcoef(drawn.ravel(), seen.ravel())[0, 1] > 0.995


def test_crops__depend_on_the_random_numbers_alone(exam: Exam) -> None:
    graded = graded_exam(exam, {}, DISC.spacing_mm)
    changes = CropChanges(jitter_mm=2, rotation_deg=5, zoom=(0.8, 1.2), noise=0.1, gamma=(0.8, 1.2))
    first, again, other = (random_crops(graded, DISC, changes, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=0.1)


def test_crops__jitter_is_in_millimetres(exam: Exam) -> None:
    """The same share of the crop whatever the spacing of the stored picture."""
    seen = []
    for spacing in (0.5, 1.0):
        graded = graded_exam(exam, {}, spacing, reach_mm=0)
        config = replace(DISC, spacing_mm=spacing)
        seen.append(random_crops(graded, config, CropChanges(jitter_mm=4), np.random.default_rng(5)))
    assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.97
