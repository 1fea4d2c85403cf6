"""Targets of the 3-D variant, drawn from centroids, and the loss against them (Eqs. 1, 2, 4 and 6 in three dimensions)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spineone_core.arrays import FloatArray
from trainer.training.losses import association_weight, focal_gradient, focal_terms
from trainer.volumes.network import VolumeOutput


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
