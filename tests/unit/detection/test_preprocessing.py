"""There and back between source pixels and the network's picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spineone_core.detection.preprocessing import (
    PreprocessingConfig,
    make_grid,
    orientation_of,
    prepare,
    resample,
    stack_indices,
)
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.volume import SagittalVolume, SliceSource

P, S, L = np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
DIRECTIONS = {
    "standard": (P, -S),
    "mirrored": (-P, -S),
    "upside down": (P, S),
    "transposed": (-S, P),
    "transposed and flipped": (S, -P),
}


def make_volume(
    row: np.ndarray,
    column: np.ndarray,
    shape: tuple[int, int, int] = (9, 64, 48),
    spacing: tuple[float, float] = (1.0, 1.0),
    step: float = 4.0,
) -> SagittalVolume:
    normal = np.cross(row, column)
    return SagittalVolume(
        voxels=np.random.default_rng(0).random(shape).astype(np.float32),
        origins=np.array([10.0, -20.0, 30.0]) + step * np.arange(shape[0])[:, None] * normal,
        row_direction=row,
        column_direction=column,
        pixel_spacing=spacing,
        sources=tuple(SliceSource(Path(f"{i}.dcm"), f"1.2.{i}", "1.2", None) for i in range(shape[0])),
        study_uid="1.2.3",
        series_uid="1.2.3.4",
    )


@pytest.mark.parametrize("name", DIRECTIONS)
def test_picture__is_posterior_right_inferior_down(name: str) -> None:
    volume = make_volume(*DIRECTIONS[name])
    grid = make_grid(volume, 0.7)
    corners = grid.to_source(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]))
    start, right, down = (volume.to_patient(0, *c) for c in corners)
    assert (right - start) @ P > 6.5
    assert (down - start) @ -S > 6.5


@pytest.mark.parametrize("name", DIRECTIONS)
def test_resample__a_bright_spot_lands_where_the_grid_says(name: str) -> None:
    volume = make_volume(*DIRECTIONS[name], shape=(1, 90, 70), spacing=(0.8, 0.8))
    y, x = np.mgrid[:90, :70]
    spot = np.exp(-((x - 20.4) ** 2 + (y - 61.3) ** 2) / 30).astype(np.float32)
    grid = make_grid(volume, 0.875)
    picture = resample(spot, orientation_of(volume), grid)
    v, u = np.mgrid[: grid.rows, : grid.columns]
    weight = picture**4
    centre = np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()
    assert np.abs(grid.to_source(centre) - [20.4, 61.3]).max() < 0.05


@given(
    tilt=st.floats(-0.4, 0.4),
    spacing=st.tuples(st.floats(0.3, 1.2), st.floats(0.3, 1.2)),
    size=st.tuples(st.integers(40, 400), st.integers(40, 400)),
    name=st.sampled_from(sorted(DIRECTIONS)),
    point=st.tuples(st.floats(0, 39), st.floats(0, 39)),
)
@settings(max_examples=60, deadline=None)
def test_grid__there_and_back_is_exact(
    tilt: float, spacing: tuple[float, float], size: tuple[int, int], name: str, point: tuple[float, float]
) -> None:
    row, column = DIRECTIONS[name]
    rotation = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    volume = make_volume(rotation @ row, rotation @ column, (1, *size), spacing)
    grid = make_grid(volume, 0.4375)
    back = grid.to_source(grid.to_grid(np.array(point)))
    assert np.abs(back - point).max() < 1e-6
    assert np.linalg.norm(volume.to_patient(0, *back) - volume.to_patient(0, *point)) < 1e-5
    assert np.allclose(volume.from_patient(volume.to_patient(0, *point), 0), point)


def test_stack__thin_slices_are_skipped_and_edges_repeat() -> None:
    thick, thin = make_volume(P, -S, (11, 8, 8), step=4.5), make_volume(P, -S, (40, 8, 8), step=1.1)
    assert stack_indices(thick, 5, 7, 4.5) == [2, 3, 4, 5, 6, 7, 8]
    assert stack_indices(thin, 20, 3, 4.5) == [16, 20, 24]
    assert stack_indices(make_volume(P, -S, (3, 8, 8)), 1, 7, 4.5) == [0, 0, 0, 1, 2, 2, 2]
    assert stack_indices(make_volume(P, -S, (1, 8, 8)), 0, 3, 4.5) == [0, 0, 0]


def test_prepare__shapes_and_normalisation() -> None:
    prepared = prepare(make_volume(P, -S), PreprocessingConfig(spacing_mm=0.5, slices=3, fused=3))
    assert prepared.images.shape == (3, 3, 128, 96)
    assert prepared.slice_index == 4
    assert abs(float(prepared.images.mean())) < 0.05


def test_prepare__refuses_blank_and_oversized_images() -> None:
    blank = make_volume(P, -S)
    blank.voxels[:] = 7
    with pytest.raises(NotAnalysable) as blank_error:
        prepare(blank, PreprocessingConfig())
    assert blank_error.value.reason is Reason.UNREADABLE_PIXELS
    with pytest.raises(NotAnalysable) as large_error:
        prepare(make_volume(P, -S, spacing=(10.0, 10.0), shape=(1, 80, 80)), PreprocessingConfig())
    assert large_error.value.reason is Reason.FIELD_OF_VIEW_TOO_LARGE


def test_config__names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="unknown preprocessing option colour"):
        PreprocessingConfig.from_json({"colour": 1})
    with pytest.raises(ValueError, match="spacing_mm"):
        PreprocessingConfig(spacing_mm=0)
