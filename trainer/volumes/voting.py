"""From the maps of the 3-D variant to vertebrae: voting (Eq. 3 in three dimensions) and its peaks."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spineone_core.arrays import FloatArray
from trainer.volumes.network import SpineOneVolume


def vote_volume(probability: Tensor, offsets: Tensor | None, radius: float, min_vote: float = 0.05) -> Tensor:
    """The Hough score (Eq. 3 in three dimensions: trilinear votes, divided by the volume of a ball).

    Parameters
    ----------
    probability
        (1, Z, Y, X).
    offsets
        (3, Z, Y, X) in units of R, or None.
    """
    size = probability.shape[1:]
    places = torch.nonzero(probability[0] >= min_vote)  # (N, 3) z, y, x
    votes = probability[0][tuple(places.T)]
    ends = places.float()
    if offsets is not None:
        ends = ends + radius * offsets[:, places[:, 0], places[:, 1], places[:, 2]].T.flip(-1)
    scores = torch.zeros(math.prod(size))
    low = ends.floor()
    limits = torch.tensor(size)
    for corner in np.ndindex(2, 2, 2):
        cell = low + torch.tensor(corner)
        share = (1 - (ends - cell).abs()).prod(dim=-1)
        inside = ((cell >= 0) & (cell < limits)).all(dim=-1)
        z, y, x = cell[inside].long().T
        scores.index_add_(0, (z * size[1] + y) * size[2] + x, (votes * share)[inside])
    return scores.reshape(size) / (4 / 3 * math.pi * radius**3)


def find_vertebrae(scores: Tensor, *, suppression: int, minimum: float = 0.2, limit: int = 30) -> FloatArray:
    """(K, 3) x, y, z of the local maxima, the strongest first; each is the centroid of the votes around it."""
    side, gathered = 2 * suppression + 1, scores[None, None]
    for _ in range(2):  # sums under a pyramid of height 1 that reaches two voxels
        gathered = F.avg_pool3d(gathered, 3, 1, 1, divisor_override=1)
    gathered = gathered[0, 0] / 3**3
    peaks = F.max_pool3d(gathered[None, None], side, 1, suppression)[0, 0]
    places = torch.nonzero((gathered == peaks) & (gathered >= minimum))
    order = gathered[tuple(places.T)].argsort(descending=True)
    found: list[list[float]] = []
    for place in places[order].tolist():
        centroid = _centroid(scores, place)
        # A peak half way between two voxels appears in both of them.
        if all(math.dist(centroid, other) >= suppression for other in found):
            found.append(centroid)
    return np.array(found[:limit]).reshape(-1, 3)


def _centroid(scores: Tensor, place: list[int]) -> list[float]:
    window = [slice(max(0, p - 2), p + 3) for p in place]
    votes = scores[tuple(window)]
    axes = torch.meshgrid(
        *(torch.arange(w.start, w.start + n) for w, n in zip(window, votes.shape, strict=True)), indexing="ij"
    )
    z, y, x = (float((axis * votes).sum() / votes.sum()) for axis in axes)
    return [x, y, z]


@torch.inference_mode()
def detect_vertebrae(network: SpineOneVolume, volume: Tensor, *, suppression: int = 5) -> FloatArray:
    """(K, 3) x, y, z in voxels of the given (Z, Y, X) volume."""
    output = network.eval()(volume[None, None])
    offsets = None if output.offsets is None else output.offsets[0].float().cpu()
    scores = vote_volume(torch.sigmoid(output.logits[0].float()).cpu(), offsets, network.config.radius)
    factors = np.array(network.config.reduction[::-1])
    return (find_vertebrae(scores, suppression=suppression) + 0.5) * factors - 0.5
