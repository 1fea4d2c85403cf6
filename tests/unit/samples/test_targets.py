"""OCPC heatmap and offsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spineone_core.anatomy import Grade
from trainer.samples.targets import KNOWN_RADII, Targets, draw_batch, draw_targets

N, D = Grade.NORMAL, Grade.DEGENERATIVE


def test_disc__radius_six_has_113_pixels() -> None:
    targets = draw_targets(np.array([[20.0, 30.0]]), [N], (64, 48), 6)
    assert targets.heatmap[0].sum() == 113  # reading 1
    assert targets.heatmap[1].sum() == 0


def test_offsets__point_to_the_keypoint_in_units_of_the_radius() -> None:
    point = np.array([20.3, 30.8])
    targets = draw_targets(point[None], [D], (64, 48), 6)
    rows, columns = np.nonzero(targets.heatmap[1])
    ends = np.column_stack([columns, rows]) + 6 * targets.offsets[2:, rows, columns].T
    assert np.allclose(ends, point, atol=1e-5)
    assert not targets.offsets[:2].any()


def test_close_discs__each_pixel_belongs_to_the_nearest() -> None:
    points = np.array([[20.0, 20.0], [20.0, 27.0]])
    targets = draw_targets(points, [N, D], (48, 48), 6)
    assert not (targets.heatmap[0] * targets.heatmap[1]).any()
    rows, columns = np.nonzero(targets.heatmap.max(axis=0))
    for row, column in zip(rows, columns, strict=True):
        nearest = int(np.argmin(np.hypot(points[:, 0] - column, points[:, 1] - row)))
        assert targets.heatmap[nearest, row, column] == 1


def test_unknown_class__is_kept_out_of_the_loss() -> None:
    targets = draw_targets(np.array([[20.0, 20.0]]), [None], (48, 48), 6)
    assert not targets.heatmap.any()
    assert (targets.weight == 0).sum() == 113


def test_points_outside__are_cut_at_the_edge() -> None:
    targets = draw_targets(np.array([[-3.0, 10.0], [200.0, 200.0]]), [N, D], (32, 32), 6)
    assert 0 < targets.heatmap[0].sum() < 113
    assert not targets.heatmap[1].any()


@pytest.mark.parametrize(
    ("points", "grades", "radius"),
    [(np.zeros((2, 2)), [N], 6), (np.array([[np.inf, 1.0]]), [N], 6), (np.zeros((1, 2)), [N], 0)],
)
def test_bad_input__is_named(points: np.ndarray, grades: list[Grade], radius: float) -> None:
    with pytest.raises(ValueError, match=r"points|grades"):
        draw_targets(points, list(grades), (16, 16), radius)


FIVE = np.array([[20.0, 15.0 + 20 * k] for k in range(5)])


def test_conventional__five_levels_and_two_classes() -> None:
    targets = draw_targets(FIVE, [N, D, None, D, N], (120, 48), 6, heatmap="conventional")
    assert targets.heatmap.shape == (7, 120, 48)
    assert targets.offsets.shape == (10, 120, 48)
    assert targets.heatmap[:5].sum(axis=(1, 2)).tolist() == [113] * 5
    assert targets.heatmap[5:].sum(axis=(1, 2)).tolist() == [226, 226]
    rows, columns = np.nonzero(targets.heatmap[3])
    ends = np.column_stack([columns, rows]) + 6 * targets.offsets[6:8, rows, columns].T
    assert np.allclose(ends, FIVE[3], atol=1e-5)
    # The class of the third is unknown: its level counts, its class does not.
    assert (targets.weight[:5] == 1).all()
    assert (targets.weight[5:] == 0).sum() == 226


def test_levels__know_no_class() -> None:
    targets = draw_targets(FIVE, [None] * 5, (120, 48), 6, heatmap="levels")
    assert targets.heatmap.shape == (5, 120, 48)
    assert targets.heatmap.sum() == 565
    assert targets.weight.all()


@pytest.mark.parametrize("heatmap", ["ocpc", "conventional", "levels"])
def test_ignored_disc__is_neither_target_nor_background(heatmap: str) -> None:
    above = np.array([[24.0, 100.0]])
    targets = draw_targets(FIVE[:, ::1], [N] * 5, (140, 48), 6, heatmap=heatmap, ignored=above)
    plain = draw_targets(FIVE[:, ::1], [N] * 5, (140, 48), 6, heatmap=heatmap)
    assert np.array_equal(targets.heatmap * targets.weight, plain.heatmap * targets.weight)
    assert (targets.weight == 0).any()
    assert (plain.weight == 1).all()


@pytest.mark.parametrize(("heatmap", "count", "message"), [("gauss", 5, "ocpc, conv"), ("levels", 4, "needs five")])
def test_heatmap__bad_ones_are_named(heatmap: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_targets(FIVE[:count], [N] * count, (140, 48), 6, heatmap=heatmap)


@pytest.mark.parametrize("heatmap", ["ocpc", "conventional"])
def test_level_not_annotated__only_the_surroundings_of_the_others_are_known(heatmap: str) -> None:
    points = np.array([[40.0, 20 + 84 * k] for k in range(5)])
    points[2] = np.nan
    targets = draw_targets(points, [N] * 5, (400, 80), 6, heatmap=heatmap)
    weight = targets.weight if heatmap == "ocpc" else targets.weight[0]
    assert weight[20, 40] == weight[104, 40] == weight[104 + 41, 40] == 1
    assert weight[188, 40] == weight[104 + 43, 40] == 0
    assert targets.heatmap[:, 188 - 6 : 188 + 7].sum() == 0
    nothing = draw_targets(np.full((5, 2), np.nan), [None] * 5, (400, 80), 6, heatmap=heatmap)
    assert nothing.weight.sum() == nothing.heatmap.sum() == 0


# ---------------------------------------------------------------- batches, on the device of the training


def by_pixels(points: np.ndarray, classes: list[int], ignored: np.ndarray, size: tuple[int, int]) -> Targets:
    """OCPC targets with R = 6 as the definitions say, pixel by pixel."""
    heat, offsets, weight = np.zeros((2, *size)), np.zeros((4, *size)), np.ones(size)
    every = np.concatenate([points, ignored])
    for row, column in np.ndindex(size):
        ways = every - np.array([column, row])
        distances = np.nan_to_num(np.hypot(*ways.T), nan=np.inf)
        k = int(distances.argmin())
        if np.isnan(points).any() and distances[: len(points)].min() > KNOWN_RADII * 6:
            weight[row, column] = 0
        if distances[k] > 6:
            continue
        if k >= len(points) or classes[k] < 0:
            weight[row, column] = 0
        else:
            heat[classes[k], row, column] = 1
            offsets[2 * classes[k] : 2 * classes[k] + 2, row, column] = ways[k] / 6
    return Targets(heat.astype(np.float32), offsets.astype(np.float32), weight.astype(np.float32))


def batch_of_eight() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points that overlap, lie on whole numbers, beyond the edge, or are missing; classes that are unknown."""
    rng = np.random.default_rng(3)
    points = np.stack([np.column_stack([rng.uniform(-6, 50, 5), rng.uniform(-6, 70, 5)]) for _ in range(8)])
    points[1] = points[1].round()
    points[2, 3] = np.nan
    points[3] = np.nan
    ignored = np.where(np.arange(8)[:, None, None] % 2, np.nan, rng.uniform(0, 40, (8, 1, 2)))
    return torch.from_numpy(points), torch.from_numpy(rng.integers(-1, 2, (8, 5))), torch.from_numpy(ignored)


def test_batch__is_what_the_definitions_say() -> None:
    points, classes, ignored = batch_of_eight()
    maps = draw_batch(points, classes, ignored, (64, 44), 6.0)
    for i in range(len(points)):
        wanted = by_pixels(points[i].numpy(), classes[i].tolist(), ignored[i].numpy(), (64, 44))
        for got, expected in zip(maps, (wanted.heatmap, wanted.offsets, wanted.weight), strict=True):
            assert np.array_equal(got[i].numpy(), expected)


@pytest.mark.parametrize("heatmap", ["ocpc", "conventional", "levels", "categories"])
def test_batch__is_drawn_without_a_look_at_the_numbers(heatmap: str) -> None:
    """A look at a number of a GPU waits for it; on the device "meta", which has none, it fails."""
    points, classes, ignored = (tensor.to("meta") for tensor in batch_of_eight())
    maps = draw_batch(points, classes, ignored, (64, 44), 6.0, heatmap=heatmap, categories=5)
    drawn = draw_batch(*batch_of_eight(), (64, 44), 6.0, heatmap=heatmap, categories=5)
    assert [m.shape for m in maps] == [m.shape for m in drawn]
