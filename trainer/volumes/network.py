"""SpineOne on CT volumes (Table V): one class, any number of vertebrae, three dimensions.

A lower resolution keeps memory small, not patches: a volume of 512 x 512 x 128 is averaged to 128 x 128 x 128 first (about
1.4 mm in the plane), so that attention sees the whole spine at once. Axes are (z, y, x), points (x, y, z); voxel centres at
integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from spineone_core.arrays import FloatArray
from spineone_core.network.attention import DualAttention
from spineone_core.network.config import ConfigError
from trainer.training.losses import association_weight, focal_gradient, focal_terms

# The deepest stride; the sizes of reduced volumes must be multiples of it.
STRIDE = 8
# In the challenge, a vertebra counts as found within 20 mm.
CHALLENGE_MM = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeConfig:
    """What decides the network.

    ``reduction`` is the number of voxels that are averaged along (z, y, x), ``width`` the number of channels of the first
    stage. ``pam``, ``cam`` and ``offset`` are as in 2-D. ``radius`` is R of targets and voting, in reduced voxels.
    """

    reduction: tuple[int, int, int] = (1, 4, 4)
    width: int = 16
    pam: bool = True
    cam: bool = True
    offset: bool = True
    radius: float = 3.0

    def __post_init__(self) -> None:
        if len(self.reduction) != 3 or min(self.reduction) < 1:
            raise ConfigError(f"volume option reduction = {self.reduction}; allowed: three whole numbers from 1 on")
        if self.width < 4 or not self.radius > 0:
            raise ConfigError(
                f"volume options width = {self.width}, radius = {self.radius}; allowed: at least 4, above 0"
            )


class VolumeOutput(NamedTuple):
    """``logits`` (B, 1, Z, Y, X) and ``offsets`` (B, 3, Z, Y, X), in reduced voxels; offsets (x, y, z) in units of R, or None."""

    logits: Tensor
    offsets: Tensor | None


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


class SpineOneVolume(nn.Module):
    """An encoder to stride 8 of the reduced volume, dual attention there, a decoder to stride 4, and one branch of heads."""

    def __init__(self, config: VolumeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.stem = nn.Sequential(_conv(1, w, 2), _conv(w, w))
        self.middle = nn.Sequential(_conv(w, 2 * w, 2), _conv(2 * w, 2 * w))
        self.deep = nn.Sequential(_conv(2 * w, 4 * w, 2), _conv(4 * w, 4 * w))
        self.attention = DualAttention(4 * w, pam=config.pam, cam=config.cam)
        self.decoder = nn.Sequential(_conv(6 * w, 2 * w), _conv(2 * w, 2 * w))
        self.heatmap = nn.Conv3d(2 * w, 1, 1)
        self.offset = nn.Conv3d(2 * w, 3, 1) if config.offset else None
        # The focal loss starts with p = .01 everywhere (reading 8).
        nn.init.constant_(self.heatmap.bias, -math.log(99.0))  # type: ignore[arg-type]

    def forward(self, volumes: Tensor) -> VolumeOutput:
        """Maps at the reduced size.

        Parameters
        ----------
        volumes
            (B, 1, Z, Y, X) at full resolution, z-scored; reduced sizes are multiples of 8.

        Raises
        ------
        ValueError
            If the shape is a different one.
        """
        factors = self.config.reduction
        fits = volumes.ndim == 5 and volumes.shape[1] == 1
        if not fits or any(n % (STRIDE * f) for n, f in zip(volumes.shape[2:], factors, strict=True)):
            raise ValueError(
                f"input {tuple(volumes.shape)} is not (B, 1, Z, Y, X) in multiples of {tuple(STRIDE * f for f in factors)}"
            )
        return self.maps(F.avg_pool3d(volumes, factors))

    def maps(self, reduced: Tensor) -> VolumeOutput:
        """The same for a (B, 1, Z, Y, X) volume that is already reduced, as training keeps it."""
        middle = self.middle(self.stem(reduced))
        deep = self._attend(self.deep(middle))
        deep = F.interpolate(deep, size=middle.shape[2:], mode="trilinear", align_corners=False)
        features = self.decoder(torch.cat([deep, middle], dim=1))
        size = reduced.shape[2:]
        offsets = None if self.offset is None else _grow(self.offset(features), size)
        return VolumeOutput(_grow(self.heatmap(features), size), offsets)

    def _attend(self, features: Tensor) -> Tensor:
        """Attention knows no neighbourhood, so two of the three axes become one."""
        flat = features.flatten(2, 3)
        attended: Tensor = self.attention(flat)
        return attended.reshape(features.shape)


def _grow(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size=size, mode="trilinear", align_corners=False)


# ---------------------------------------------------------------- targets and loss


def draw_volume_targets(
    points: FloatArray, size: tuple[int, int, int], radius: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw balls of radius R (Eq. 1) and offsets in units of R (Eq. 2); a voxel belongs to its nearest centroid.

    Parameters
    ----------
    points
        (K, 3) x, y, z in voxels.
    size
        (Z, Y, X).
    radius
        R in voxels.

    Returns
    -------
    heatmap (1, Z, Y, X), offsets (3, Z, Y, X)
    """
    points = np.asarray(points, dtype=float).reshape(-1, 3)
    if not np.isfinite(points).all() or not radius > 0:
        raise ValueError(f"points must be finite and the radius positive, not {radius}")
    z, y, x = np.ogrid[: size[0], : size[1], : size[2]]
    nearest = np.full(size, np.inf)
    offsets = np.zeros((3, *size), np.float32)
    for px, py, pz in points:
        distance = np.sqrt((px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2)
        mine = (distance <= radius) & (distance < nearest)
        nearest[mine] = distance[mine]
        for axis, way in enumerate((px - x, py - y, pz - z)):
            offsets[axis][mine] = np.broadcast_to(way, size)[mine] / radius
    return np.isfinite(nearest)[None].astype(np.float32), offsets


def volume_loss(output: VolumeOutput, heatmap: Tensor, offsets: Tensor, *, associate: bool = False) -> Tensor:
    """Focal loss plus masked L1 (Eq. 4 with one structure), optionally with objective association (Eq. 6, weighted).

    Parameters
    ----------
    heatmap, offsets
        (B, 1, Z, Y, X) and (B, 3, Z, Y, X) of `draw_volume_targets`.
    """
    count = heatmap.sum().clamp_min(1.0)
    loss = focal_terms(output.logits, heatmap).sum() / count
    if output.offsets is None:
        return loss
    weight = heatmap
    if associate:
        gradient = focal_gradient(output.logits, heatmap)
        weight = heatmap * association_weight(gradient.flatten(3), "magnitude").reshape(heatmap.shape)
    return loss + ((output.offsets.float() - offsets).abs() * weight).sum() / count


# ---------------------------------------------------------------- voting and detection rate


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


def detection_rate(
    truth: FloatArray, found: FloatArray, spacing_mm: tuple[float, float, float], distance_mm: float = CHALLENGE_MM
) -> float:
    """The share of true centroids with a detection within the distance, matched one to one (Eq. 8; Table V).

    Parameters
    ----------
    truth, found
        (K, 3), (J, 3) x, y, z in voxels.
    spacing_mm
        (x, y, z).
    distance_mm
        20 in the challenge; the paper's own PCK uses 6.
    """
    if min(spacing_mm) <= 0 or not distance_mm > 0:
        raise ValueError(f"spacing {spacing_mm} and distance {distance_mm} must be positive")
    if not len(truth) or not len(found):
        return 0.0
    between = np.linalg.norm((truth[:, None] - found[None]) * np.array(spacing_mm), axis=2)
    rows, columns = linear_sum_assignment(np.where(between <= distance_mm, between, 1e6))
    return float((between[rows, columns] <= distance_mm).sum() / len(truth))
