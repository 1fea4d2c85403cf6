"""Ground-truth maps: the OCPC heatmap (Eq. 1), the conventional ones (Section III-C) and the short-range offsets (Eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spineone_core.anatomy import Grade
from spineone_core.arrays import FloatArray
from spineone_core.network.config import CLASS_HEATMAPS, HEATMAPS, LEVELS

GRADES: tuple[Grade, ...] = (Grade.NORMAL, Grade.DEGENERATIVE)
# Two keypoints of one structure are about 36 mm apart and R is 2.6 mm in the paper, so 7 R end half way to the next.
KNOWN_RADII = 7.0
# Column and row that stand for a point that is not there, far from every picture.
_NOWHERE = -1e6


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Maps of one structure.

    ``heatmap`` (C, H, W) is 0 or 1. For OCPC, C = 2: normal and degenerative; for the conventional heatmap, C = 7: five levels
    from top to bottom and two classes; for levels, C = 5. ``offsets`` (2 L, H, W) are those of the first L channels in units of
    R, in the layout (channel, xy). ``weight`` (H, W) or (C, H, W) is 0 where the loss must not look.
    """

    heatmap: NDArray[np.float32]
    offsets: NDArray[np.float32]
    weight: NDArray[np.float32]


class TargetMaps(NamedTuple):
    """The maps of `Targets` for a batch: (B, C, H, W), (B, 2 L, H, W), and (B, H, W) or (B, C, H, W)."""

    heatmap: Tensor
    offsets: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """What the targets of one structure in one picture are drawn from, as `draw_targets` takes it.

    ``points`` (K, 2), ``classes`` (K,) with -1 for unknown ones, and ``ignored`` (J, 2), NaN where nothing is ignored.
    """

    points: FloatArray
    classes: NDArray[np.int64]
    ignored: FloatArray

    def draw(self, size: tuple[int, int], radius: float, *, heatmap: str = "ocpc", categories: int = 0) -> Targets:
        """The targets of this picture alone, as `draw_batch`."""
        points, classes, ignored = (torch.from_numpy(a)[None] for a in (self.points, self.classes, self.ignored))
        maps = draw_batch(points, classes, ignored, size, radius, heatmap=heatmap, categories=categories)
        return Targets(*(tensor[0].numpy() for tensor in maps))


def draw_targets(
    points: FloatArray,
    grades: Sequence[Grade | None],
    size: tuple[int, int],
    radius: float,
    *,
    heatmap: str = "ocpc",
    ignored: FloatArray | None = None,
    categories: tuple[Sequence[int | None], int] | None = None,
) -> Targets:
    """Draw discs of radius R around the keypoints of one structure.

    A pixel belongs to its nearest keypoint, so discs never overlap. The disc of a keypoint whose class is unknown is in no
    class channel, and its weight there is 0 (reading 20); its level channel is known.

    Parameters
    ----------
    points
        (K, 2) column and row, pixel centres at integers; they may lie outside the image. For levels there
        are five, from top to bottom. NaN marks a level that is not annotated: then only the surroundings of the other
        keypoints are known, and the weight is 0 farther than ``KNOWN_RADII`` R from them.
    grades
        K classes, None where unknown.
    size
        (H, W).
    radius
        R in pixels (6 in the paper).
    heatmap
        ``ocpc``, ``conventional``, ``levels`` or ``categories`` (see ``HEATMAPS`` in `spineone_core.network.config`).
    ignored
        (J, 2) keypoints that are neither target nor background, so that their weight is 0: T12-L1 with ``ignore`` (reading 18).
    categories
        For the heatmap ``categories``: K channels, None where unknown, and how many channels there are.

    Raises
    ------
    ValueError
        If there are not as many classes as points, a point is infinite, R is not positive, the heatmap is unknown, or it is
        ``categories`` and there are none.
    """
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    left_out = np.zeros((0, 2)) if ignored is None else np.asarray(ignored, dtype=float).reshape(-1, 2)
    _check(points, grades, radius, heatmap, left_out)
    if (heatmap == "categories") != (categories is not None):
        raise ValueError(f"heatmap {heatmap!r} and categories {categories}; one needs the other")
    classes: Sequence[int | None] = [None if grade is None else GRADES.index(grade) for grade in grades]
    channels = 0
    if categories is not None:
        classes, channels = categories
    marks = Marks(points, np.array([-1 if c is None else c for c in classes], dtype=np.int64), left_out)
    return marks.draw(size, radius, heatmap=heatmap, categories=channels)


def draw_batch(
    points: Tensor,
    classes: Tensor,
    ignored: Tensor,
    size: tuple[int, int],
    radius: float,
    *,
    heatmap: str = "ocpc",
    categories: int = 0,
) -> TargetMaps:
    """The targets of one structure in a batch, drawn on the device of the points without waiting for it.

    Distances are those of double precision, so every device draws the same pixels.

    Parameters
    ----------
    points
        (B, K, 2), float64, as in `draw_targets`; NaN: not annotated.
    classes
        (B, K), -1 where unknown; for the heatmap ``categories`` they are channels.
    ignored
        (B, J, 2), float64, NaN for none.
    size, radius, heatmap
        As in `draw_targets`.
    categories
        How many channels the heatmap ``categories`` has.
    """
    every = torch.cat([points, ignored], dim=1)
    count, batch = points.shape[1], len(points)
    place, ways = _own_pixels(every, size, radius)
    # Maps are flat, with one pixel more, beyond the picture, that takes what is not to be written.
    stride = size[0] * size[1] + 1
    channels, located = HEATMAPS[heatmap]
    if heatmap == "categories":
        channels = located = categories
    levels = torch.arange(count, device=points.device).expand(batch, count)
    first_class = 0 if heatmap in CLASS_HEATMAPS else LEVELS
    heat = torch.zeros(batch, channels, stride, device=points.device)
    offsets = torch.zeros(batch, located, 2, stride, device=points.device)
    mine = place[:, :count]
    if heatmap not in CLASS_HEATMAPS:
        heat.flatten(1).scatter_(1, _in_channel(levels, mine, stride), 1.0)
    if heatmap != "levels":
        there = torch.where(classes < 0, -1, classes + first_class)
        heat.flatten(1).scatter_(1, _in_channel(there, mine, stride), 1.0)
    owner = classes if heatmap in CLASS_HEATMAPS else levels
    for axis in range(2):
        there = torch.where(owner < 0, -1, 2 * owner + axis)
        offsets.flatten(1).scatter_(1, _in_channel(there, mine, stride), ways[:, :count, :, axis].flatten(1))
    known = _surroundings(points, size, radius)
    known.scatter_(1, place[:, count:].flatten(1), 0.0)
    told = known.scatter(1, torch.where(classes.unsqueeze(2) < 0, mine, stride - 1).flatten(1), 0.0)
    parts = [known] * (channels if heatmap == "levels" else first_class) + [told] * (channels - first_class)
    weight = torch.stack(parts, dim=1) if heatmap == "conventional" else parts[0]
    heat, offsets, weight = (maps[..., :-1].unflatten(-1, size) for maps in (heat, offsets.flatten(1, 2), weight))
    return TargetMaps(heat, offsets, weight)


def _in_channel(channel: Tensor, place: Tensor, stride: int) -> Tensor:
    """(B, K n) the numbers of the pixels ``place`` (B, K, n) in the channels (B, K) of a flat map; -1: in none."""
    channel = channel.unsqueeze(2)
    return torch.where(channel < 0, stride - 1, channel * stride + place).flatten(1)


def _check(
    points: FloatArray, grades: Sequence[Grade | None], radius: float, heatmap: str, ignored: FloatArray
) -> None:
    if len(points) != len(grades):
        raise ValueError(f"{len(points)} points but {len(grades)} grades")
    if np.isinf(points).any() or not np.isfinite(ignored).all() or not radius > 0:
        raise ValueError(f"points must be finite (NaN: not annotated) and the radius positive, not {radius}")
    if heatmap not in HEATMAPS:
        raise ValueError(f"heatmap {heatmap!r}; allowed: {', '.join(HEATMAPS)}")
    if heatmap not in CLASS_HEATMAPS and len(points) != LEVELS:
        raise ValueError(f"{len(points)} points; the {heatmap} heatmap needs five, top to bottom")


def _windows(points: Tensor, size: tuple[int, int], radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels within R of each point, of all that a square around it has.

    Returns their numbers (B, K, n), the first one beyond the picture for those that lie outside of it or farther than R; the
    distances (B, K, n); and the ways to the point (B, K, n, xy), in pixels.
    """
    height, width = size
    here = torch.nan_to_num(points, nan=_NOWHERE)
    pixels = torch.ceil(here - radius).unsqueeze(2) + torch.arange(int(2 * radius) + 1, device=points.device)[:, None]
    ways = here.unsqueeze(2) - pixels  # (B, K, side, xy)
    distance = torch.hypot(ways[..., None, :, 0], ways[..., :, None, 1]).flatten(2)
    fits = (pixels >= 0) & (pixels < pixels.new_tensor([width, height]))
    inside = (fits[..., None, :, 0] & fits[..., :, None, 1]).flatten(2) & (distance <= radius)
    number = (pixels[..., None, :, 0] + pixels[..., :, None, 1] * width).flatten(2).long()
    square = torch.broadcast_tensors(ways[..., None, :, 0], ways[..., :, None, 1])
    return torch.where(inside, number, height * width), distance, torch.stack(square, dim=-1).flatten(2, 3)


def _own_pixels(points: Tensor, size: tuple[int, int], radius: float) -> tuple[Tensor, Tensor]:
    """The pixels of each point, (B, K, n): those within R that no other point is nearer to; and the ways in units of R (Eq. 2).

    Pixels of others, and those outside the picture, have the number of the pixel beyond it. Ways are (B, K, n, xy).
    """
    number, distance, ways = _windows(points, size, radius)
    beyond = size[0] * size[1]
    nearest = distance.new_full((len(points), beyond + 1), torch.inf)
    owner = torch.full((len(points), beyond + 1), -1, dtype=torch.int8, device=points.device)
    for k in range(points.shape[1]):
        closer = (number[:, k] < beyond) & (distance[:, k] < nearest.gather(1, number[:, k]))
        place = torch.where(closer, number[:, k], beyond)
        nearest.scatter_(1, place, distance[:, k])
        owner.scatter_(1, place, k)
    owners = owner.gather(1, number.flatten(1)).view_as(number)
    mine = owners == torch.arange(points.shape[1], device=points.device)[:, None]
    return torch.where(mine, number, beyond), (ways / radius).float()


def _surroundings(points: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    """1 where something is known: everywhere where all points are annotated, otherwise around those that are.

    (B, H x W + 1): flat, with the pixel beyond the picture.
    """
    if points.device.type == "cpu" and not torch.isnan(points).any():  # to ask a GPU would mean to wait for it
        return torch.ones(len(points), size[0] * size[1] + 1)
    number, _, _ = _windows(points, size, KNOWN_RADII * radius)
    whole = ~torch.isnan(points).flatten(1).any(dim=1, keepdim=True)
    known = whole.float().repeat(1, size[0] * size[1] + 1)
    return known.scatter_(1, number.flatten(1), 1.0)
