"""Where the middle of the stack is not the middle of the spine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spineone_core.detection.mid_sagittal import distance_from_middle_mm, prepare_mid_sagittal
from spineone_core.detection.preprocessing import PreprocessingConfig
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


def test_prepare__without_a_check_it_is_the_middle() -> None:
    prepared, score = prepare_mid_sagittal(volume(3), CONFIG, None, CPU)
    assert (prepared.slice_index, score) == (5, None)


def test_prepare__blank_slices_at_the_edge_are_passed_over(network: DomainNetwork) -> None:
    stack = volume(1, slices=5)
    stack.voxels[3:] = 0
    assert prepare_mid_sagittal(stack, CONFIG, network, CPU)[0].slice_index == 1
