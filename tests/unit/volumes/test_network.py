"""The 3-D variant: shapes, voting back to the centroids, learning, detection rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spineone_core.network.build import count_parameters
from spineone_core.network.config import ConfigError
from trainer.volumes.evaluation import detection_rate
from trainer.volumes.network import SpineOneVolume, VolumeConfig, VolumeOutput
from trainer.volumes.targets import draw_volume_targets, volume_loss
from trainer.volumes.voting import detect_vertebrae, find_vertebrae, vote_volume

POINTS = np.array([[12.3, 9.6, 7.2], [14.1, 20.4, 8.8], [13.5, 31.2, 9.1]])
SIZE = (24, 40, 32)


def test_forward__takes_a_ct_volume_of_512_512_128() -> None:
    with torch.device("meta"):
        network = SpineOneVolume(VolumeConfig())
        output = network(torch.empty(1, 1, 128, 512, 512))
    assert output.logits.shape == (1, 1, 128, 128, 128)
    assert output.offsets is not None
    assert output.offsets.shape == (1, 3, 128, 128, 128)
    assert count_parameters(network) < 1_000_000


def test_targets__a_ball_and_the_way_to_its_centre() -> None:
    heatmap, offsets = draw_volume_targets(POINTS[:1], SIZE, 3.0)
    z, y, x = np.nonzero(heatmap[0])
    ends = np.column_stack([x, y, z]) + 3.0 * offsets[:, z, y, x].T
    assert np.allclose(ends, POINTS[0], atol=1e-5)
    assert heatmap.sum() == pytest.approx(4 / 3 * np.pi * 27, rel=0.1)


@pytest.mark.parametrize("with_offsets", [True, False])
def test_voting__true_maps_give_the_centroids_back(with_offsets: bool) -> None:
    heatmap, offsets = (torch.from_numpy(t) for t in draw_volume_targets(POINTS, SIZE, 3.0))
    scores = vote_volume(heatmap, offsets if with_offsets else None, 3.0)
    if not with_offsets:
        assert scores.sum() == pytest.approx(float(heatmap.sum() / (4 / 3 * np.pi * 27)))
        return
    found = find_vertebrae(scores, suppression=4)
    found = found[np.argsort(found[:, 1])]
    assert np.abs(found - POINTS).max() < 0.1
    assert scores.max() > 0.1


def test_learning__lowers_the_loss_and_finds_bright_balls() -> None:
    torch.manual_seed(0)
    config = VolumeConfig(reduction=(1, 1, 1), width=4)
    network = SpineOneVolume(config)
    heatmap, offsets = (torch.from_numpy(t)[None] for t in draw_volume_targets(POINTS, SIZE, config.radius))
    volume = heatmap + 0.1 * torch.randn(heatmap.shape)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        loss = volume_loss(network(volume), heatmap, offsets, associate=step >= 30)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[20:30]) < 0.6 * losses[0]
    found = detect_vertebrae(network, volume[0, 0])
    assert found.shape[1] == 3


def test_detection_rate__one_to_one_in_millimetres() -> None:
    spacing = (1.0, 1.0, 2.0)
    assert detection_rate(POINTS, POINTS + np.array([0, 0, 1.0]), spacing, 2.5) == 1.0
    assert detection_rate(POINTS, POINTS + np.array([0, 0, 2.0]), spacing, 2.5) == 0.0
    assert detection_rate(POINTS, POINTS[:2], spacing, 6.0) == pytest.approx(2 / 3)
    assert detection_rate(POINTS, np.zeros((0, 3)), spacing) == 0.0
    with pytest.raises(ValueError, match="positive"):
        detection_rate(POINTS, POINTS, (0.0, 1.0, 1.0))


@pytest.mark.parametrize("shape", [(1, 1, 128, 512, 500), (1, 2, 128, 512, 512), (128, 512, 512)])
def test_forward__refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"multiples of \(8, 32, 32\)"):
        SpineOneVolume(VolumeConfig())(torch.empty(shape))


def test_config__names_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="three whole numbers"):
        VolumeConfig(reduction=(0, 4, 4))
    with pytest.raises(ConfigError, match="at least 4"):
        VolumeConfig(width=2)


def test_loss__without_offsets_is_the_focal_loss_alone() -> None:
    heatmap = torch.zeros(1, 1, 8, 8, 8)
    output = VolumeOutput(torch.zeros(1, 1, 8, 8, 8), None)
    assert volume_loss(output, heatmap, torch.zeros(1, 3, 8, 8, 8)).item() == pytest.approx(
        512 * 0.25 * np.log(2), rel=1e-4
    )
