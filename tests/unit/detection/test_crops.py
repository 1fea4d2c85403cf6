"""Crops: centred on the keypoint, turned along the spine, the same however the scanner stored the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spineone_core.anatomy import Structure
from spineone_core.detection.crops import crop_frames, crops_of, cut_crops, directions_along, rows_of, slices_around
from spineone_core.network.grading import GradingConfig
from tests.unit.detection.test_preprocessing import DIRECTIONS, make_volume

CONFIG = GradingConfig(structure=Structure.DISC, crop_mm=20, crop_px=20, spacing_mm=1.0)


def spine(step: tuple[float, float] = (0.0, 4.0)) -> np.ndarray:
    """Ten points in a row, from near the top of a picture of 48 x 64 pixels."""
    return np.array([20.0, 12.0]) + np.arange(10)[:, None] * np.array(step)


def test_rows__are_five_of_each_kind_in_reading_order() -> None:
    assert rows_of(Structure.VERTEBRA) == [0, 2, 4, 6, 8]
    assert rows_of(Structure.DISC) == [1, 3, 5, 7, 9]


def test_directions__follow_the_neighbours_and_pass_over_what_is_missing() -> None:
    points = spine((3.0, 4.0))
    assert directions_along(points) == pytest.approx(np.tile([0.6, 0.8], (10, 1)))
    points[4] = np.nan
    assert directions_along(points) == pytest.approx(np.tile([0.6, 0.8], (10, 1)))
    assert directions_along(np.full((10, 2), np.nan)) == pytest.approx(np.tile([0.0, 1.0], (10, 1)))


@pytest.mark.parametrize(("direction", "zoom"), [((0.0, 1.0), 1.0), ((0.6, 0.8), 1.0), ((0.6, 0.8), 2.0)])
def test_frames__put_the_point_in_the_middle_and_down_along_the_spine(
    direction: tuple[float, float], zoom: float
) -> None:
    config = replace(CONFIG, spacing_mm=0.5)
    (frame,) = crop_frames(np.array([[30.0, 40.0]]), np.array([direction]), config, zoom=zoom)
    middle = (config.crop_px - 1) / 2
    assert frame @ [middle, middle, 1] == pytest.approx([30, 40])
    # A crop's pixel is 1 mm, two of the picture's.
    assert frame @ [middle, middle + 1, 1] - [30, 40] == pytest.approx(np.array(direction) * 2 / zoom)
    across = frame @ [middle + 1, middle, 1] - [30, 40]
    assert across == pytest.approx(np.array([direction[1], -direction[0]]) * 2 / zoom)


def test_cut__shows_the_grey_values_of_the_places() -> None:
    rows, columns = np.mgrid[:64, :48].astype(np.float32)
    frames = crop_frames(np.array([[20.0, 30.0]]), np.array([[0.6, 0.8]]), CONFIG)
    for picture, axis in ((columns, 0), (rows, 1)):
        (crop,) = cut_crops(picture, frames, 20)
        u, v = 12, 7
        assert crop[v, u] == pytest.approx((frames[0] @ [u, v, 1])[axis], abs=1e-3)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_crops__do_not_depend_on_how_the_picture_is_stored(name: str) -> None:
    standard = make_volume(*DIRECTIONS["standard"], shape=(1, 64, 64))
    other = make_volume(*DIRECTIONS[name], shape=(1, 64, 64))
    # The same body in both: every pixel of the other volume takes the value of the place that it shows.
    columns, rows = (axis.ravel() for axis in np.meshgrid(np.arange(64), np.arange(64)))
    middle = other.to_patient(0, 31.5, 31.5)
    shifted = replace(other, origins=other.origins + standard.to_patient(0, 31.5, 31.5) - middle)
    places = [standard.from_patient(shifted.to_patient(0, x, y), 0) for x, y in zip(columns, rows, strict=True)]
    there = np.rint(places).astype(int)
    voxels = standard.voxels[0, there[:, 1], there[:, 0]].reshape(1, 64, 64)
    moved = [shifted.from_patient(standard.to_patient(0, x, y), 0) for x, y in spine((0.5, 4.0))]
    found = crops_of(replace(shifted, voxels=voxels), 0, np.array(moved), CONFIG)
    assert np.allclose(found, crops_of(standard, 0, spine((0.5, 4.0)), CONFIG), atol=1e-3)


def test_crops__are_z_scored_over_the_spine_and_each_slice_is_seen_once() -> None:
    volume = make_volume(*DIRECTIONS["standard"])
    assert slices_around(volume, 4, CONFIG) == [3, 4, 5]
    crops = crops_of(volume, 4, spine(), CONFIG)
    assert crops.shape == (3, 5, 20, 20)
    assert float(crops.mean()) == pytest.approx(0, abs=1e-4)
    assert float(crops.std()) == pytest.approx(1, abs=1e-3)
    alone = make_volume(*DIRECTIONS["standard"], shape=(1, 64, 48))
    assert crops_of(alone, 0, spine(), CONFIG).shape == (1, 5, 20, 20)
