"""Hough voting, candidates, level assignment."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.detection.chain import ChainPrior, assign_levels
from spineone_core.detection.voting import Candidate, find_candidates, find_levels, hough_scores, hough_scores_reference
from trainer.samples.targets import draw_targets

RADIUS = 6.0


def test_hough__equals_the_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(2, 9, 11, generator=generator)
    offsets = torch.randn(4, 9, 11, generator=generator)
    fast = hough_scores(probability, offsets, 3.0, min_vote=0.0)
    assert torch.allclose(fast.double(), hough_scores_reference(probability, offsets, 3.0), atol=1e-5)
    still = hough_scores(probability, None, 3.0, min_vote=0.0)
    assert torch.allclose(still.double(), hough_scores_reference(probability, None, 3.0), atol=1e-5)


@given(seed=st.integers(0, 10_000), step=st.floats(13, 40))
@settings(max_examples=30, deadline=None)
def test_voting__true_maps_give_the_keypoints_back(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    points = np.column_stack([60 + rng.normal(0, 6, 5), 20 + step * np.arange(5) + rng.uniform(-0.5, 0.5, 5)])
    grades = [Grade.NORMAL if rng.random() < 0.5 else Grade.DEGENERATIVE for _ in range(5)]
    targets = draw_targets(points, grades, (224, 128), RADIUS)
    scores = hough_scores(torch.from_numpy(targets.heatmap), torch.from_numpy(targets.offsets), RADIUS)
    found = sorted(find_candidates(scores, suppression=10, window=4), key=lambda c: c.y)
    assert len(found) == 5
    for candidate, point, grade in zip(found, points, grades, strict=True):
        assert math.hypot(candidate.x - point[0], candidate.y - point[1]) < 0.1
        assert (candidate.probability > 0.5) is (grade is Grade.DEGENERATIVE)
        assert candidate.score > 0.9


@given(seed=st.integers(0, 10_000), step=st.floats(8, 12))
@settings(max_examples=20, deadline=None)
def test_voting__close_discs_that_overlap_are_told_apart(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    points = np.column_stack([60 + rng.uniform(-0.5, 0.5, 5), 20 + step * np.arange(5) + rng.uniform(-0.5, 0.5, 5)])
    targets = draw_targets(points, [Grade.NORMAL] * 5, (112, 128), RADIUS)
    scores = hough_scores(torch.from_numpy(targets.heatmap), torch.from_numpy(targets.offsets), RADIUS)
    found = sorted(find_candidates(scores, suppression=5, window=3), key=lambda c: c.y)
    assert len(found) == 5
    for candidate, point in zip(found, points, strict=True):
        assert math.hypot(candidate.x - point[0], candidate.y - point[1]) < 0.1


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_voting__conventional_maps_give_points_and_classes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = np.column_stack([60 + rng.normal(0, 6, 5), 20 + 22 * np.arange(5) + rng.uniform(-2, 2, 5)])
    grades = [Grade.NORMAL if rng.random() < 0.5 else Grade.DEGENERATIVE for _ in range(5)]
    targets = draw_targets(points, grades, (144, 128), RADIUS, heatmap="conventional")
    heatmap, offsets = torch.from_numpy(targets.heatmap), torch.from_numpy(targets.offsets)
    found = find_levels(hough_scores(heatmap[:5], offsets, RADIUS), heatmap[5:], window=4, radius=RADIUS)
    for candidate, point, grade in zip(found, points, grades, strict=True):
        assert math.hypot(candidate.x - point[0], candidate.y - point[1]) < 0.1
        assert (candidate.probability > 0.5) is (grade is Grade.DEGENERATIVE)


def spine(count: int = 11, step: float = 20.0, bend: float = 0.05) -> list[tuple[float, float]]:
    """Points down a slightly bent spine, vertebra first, in pixels of 1 mm."""
    return [(100 + 30 * math.sin(bend * i), 20 + step * i) for i in range(count)]


def candidates(points: list[tuple[float, float]], scores: list[float]) -> dict[Structure, list[Candidate]]:
    made: dict[Structure, list[Candidate]] = {Structure.VERTEBRA: [], Structure.DISC: []}
    for i, ((x, y), score) in enumerate(zip(points, scores, strict=True)):
        made[Structure.VERTEBRA if i % 2 == 0 else Structure.DISC].append(Candidate(x, y, score, 0.5))
    return made


def test_levels__ten_points_in_order() -> None:
    points = spine(10)
    chain = assign_levels(candidates(points, [0.8] * 10), 1.0)
    assert chain is not None
    assert [(c.x, c.y) for c in chain.candidates] == points
    assert chain.margin == math.inf
    assert [landmark.level for landmark in READING_ORDER][:3] == ["L1", "L1-L2", "L2"]


def test_levels__weak_points_above_and_false_ones_beside_are_left_out() -> None:
    points = spine(12)
    made = candidates(points, [0.15, 0.1] + [0.8] * 10)
    made[Structure.DISC].append(Candidate(180.0, 120.0, 0.9, 0.5))  # bowel, far from the spine
    made[Structure.VERTEBRA].append(Candidate(30.0, 60.0, 0.9, 0.5))
    chain = assign_levels(made, 1.0)
    assert chain is not None
    assert [(c.x, c.y) for c in chain.candidates] == points[2:]
    assert chain.margin > 2


def test_levels__eleven_equal_levels_have_no_margin() -> None:
    chain = assign_levels(candidates(spine(12), [0.8] * 12), 1.0)
    assert chain is not None
    assert chain.margin < 0.5


def test_levels__a_missing_level_is_never_invented() -> None:
    points = spine(10)
    made = candidates(points, [0.8] * 10)
    made[Structure.DISC].pop(2)
    made[Structure.DISC].append(Candidate(20.0, 30.0, 0.8, 0.5))
    assert assign_levels(made, 1.0) is None


@pytest.mark.parametrize("step", [4.0, 45.0])
def test_levels__impossible_spacing_is_no_spine(step: float) -> None:
    assert assign_levels(candidates(spine(10, step), [0.9] * 10), 1.0) is None


def test_levels__spacing_counts_in_millimetres() -> None:
    points = [(x / 0.5, y / 0.5) for x, y in spine(10)]
    assert assign_levels(candidates(points, [0.9] * 10), 0.5) is not None
    assert assign_levels(candidates(points, [0.9] * 10), 1.0) is None


def test_levels__the_kink_above_the_sacrum_decides_where_scores_do_not() -> None:
    """Eleven equal steps, the last two turning back as they do into the sacrum: L5-S1 is the last of them."""
    prior = ChainPrior()
    angle, x, y = -30.0, 100.0, 20.0
    points = [(x, y)]
    for bend in (0.0, 0.0, 0.0, *prior.bend_deg):
        angle += bend
        x, y = x + 18 * math.sin(math.radians(angle)), y + 18 * math.cos(math.radians(angle))
        points.append((x, y))
    chain = assign_levels(candidates(points, [0.8] * len(points)), 1.0)
    assert chain is not None
    assert [(c.x, c.y) for c in chain.candidates] == points[-10:]
    assert chain.margin > 1
