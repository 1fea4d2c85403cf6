"""Where the middle of the stack is not the middle of the spine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spineone_core.detection.mid_sagittal import distance_from_middle_mm, prepare_mid_sagittal
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.volume import SagittalVolume, SliceSource
from spineone_core.network.domain import DomainConfig, DomainNetwork

CPU = torch.device("cpu")
CONFIG = PreprocessingConfig(spacing_mm=1.0, slices=1, slice_step_mm=4.0)


class Striped(DomainNetwork):
    """Finds pictures the more foreign, the fewer stripes they have."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 6 - 12 * (images.diff(dim=-1).abs().mean((1, 2, 3)) > 0.2).float()


@pytest.fixture
def network() -> DomainNetwork:
    return Striped(DomainConfig(width=4, limit=0.5)).eval()


def volume(striped: int, slices: int = 11) -> SagittalVolume:
    """Slices 4 mm apart with a bright block; one of them has stripes."""
    voxels = np.zeros((slices, 64, 64), np.float32)
    voxels[:, 20:40, 20:40] = 100
    voxels[striped, :, np.arange(64) % 8 < 4] = 100
    row, column = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
    return SagittalVolume(
        voxels=voxels,
        origins=4.0 * np.arange(slices)[:, None] * np.cross(row, column),
        row_direction=row,
        column_direction=column,
        pixel_spacing=(1.0, 1.0),
        sources=tuple(SliceSource(Path(f"{i}.dcm"), f"1.2.{i}", "1.2", None) for i in range(slices)),
        study_uid="1.2.3",
        series_uid="1.2.3.4",
    )


@pytest.mark.parametrize(("striped", "taken"), [(5, 5), (3, 3), (8, 8), (10, 5)])
def test_prepare__takes_what_the_check_knows_within_reach_of_the_middle(
    network: DomainNetwork, striped: int, taken: int
) -> None:
    stack = volume(striped)
    prepared, score = prepare_mid_sagittal(stack, CONFIG, network, CPU)
    assert prepared.slice_index == taken
    assert score is not None
    assert (score < 0.5) is (striped == taken)
    assert distance_from_middle_mm(stack, prepared) == pytest.approx(4 * abs(taken - 5))


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"), [(64, 64, 0.8), (16, 300, 0.7), (300, 16, 0.7), (1, 1, 1.0), (16, 16, 4.0)]
)
@pytest.mark.parametrize("spacing_mm", [CONFIG.spacing_mm, 4.0])
def test_prepare__too_small_pictures_are_refused(
    network: DomainNetwork, rows: int, columns: int, spacing: float, spacing_mm: float
) -> None:
    """Pooling would shrink them to nothing, which torch answers with a RuntimeError."""
    stack = volume(5)
    voxels = np.random.default_rng(1).random((11, rows, columns)).astype(np.float32)
    small = replace(stack, voxels=voxels, pixel_spacing=(spacing, spacing))
    config = replace(CONFIG, spacing_mm=spacing_mm)
    if min(rows, columns) * spacing >= 60 and spacing_mm < 4:
        assert prepare_mid_sagittal(small, config, network, CPU)[1] is not None
        return
    with pytest.raises(NotAnalysable) as error:
        prepare_mid_sagittal(small, config, network, CPU)
    assert error.value.reason is Reason.FIELD_OF_VIEW_TOO_SMALL


def test_prepare__without_a_check_it_is_the_middle() -> None:
    prepared, score = prepare_mid_sagittal(volume(3), CONFIG, None, CPU)
    assert (prepared.slice_index, score) == (5, None)


def test_prepare__blank_slices_at_the_edge_are_passed_over(network: DomainNetwork) -> None:
    stack = volume(1, slices=5)
    stack.voxels[3:] = 0
    assert prepare_mid_sagittal(stack, CONFIG, network, CPU)[0].slice_index == 1
