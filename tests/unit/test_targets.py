"""OCPC heatmap and offsets."""

from __future__ import annotations

import numpy as np
import pytest

from spineone_core.anatomy import Grade
from spineone_core.targets import draw_targets

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
    [(np.zeros((2, 2)), [N], 6), (np.array([[np.nan, 1.0]]), [N], 6), (np.zeros((1, 2)), [N], 0)],
)
def test_bad_input__is_named(points: np.ndarray, grades: list[Grade], radius: float) -> None:
    with pytest.raises(ValueError, match=r"points|grades"):
        draw_targets(points, list(grades), (16, 16), radius)
