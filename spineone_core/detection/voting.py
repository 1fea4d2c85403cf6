"""Hough voting (Eq. 3), peak choice and level assignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.imaging.series import FloatArray

# Votes of pixels less sure than this change no peak; leaving them out makes voting fast.
MIN_VOTE = 0.01
# How the scores of both classes are brought together before peaks are looked for (reading 16).
MERGES = ("sum", "max")


def hough_scores(probability: Tensor, offsets: Tensor | None, radius: float, min_vote: float = MIN_VOTE) -> Tensor:
    """Hough score map of each class (Eq. 3).

    Every pixel votes with its probability at the place its offset points to, spread bilinearly; votes outside the image are lost.

    Parameters
    ----------
    probability
        (2, H, W) in [0, 1].
    offsets
        (4, H, W) in units of R, or None: then the vote stays where it is.
    radius
        R in pixels.

    Returns
    -------
    (2, H, W), about 1 at a sure keypoint.
    """
    classes, height, width = probability.shape
    scores = torch.zeros(classes, height * width)
    for channel in range(classes):
        rows, columns = torch.nonzero(probability[channel] >= min_vote, as_tuple=True)
        votes = probability[channel, rows, columns]
        x, y = columns.float(), rows.float()
        if offsets is not None:
            x = x + radius * offsets[2 * channel, rows, columns]
            y = y + radius * offsets[2 * channel + 1, rows, columns]
        _spread(scores[channel], x, y, votes, height, width)
    return scores.reshape(classes, height, width) / (math.pi * radius**2)


def _spread(flat: Tensor, x: Tensor, y: Tensor, votes: Tensor, height: int, width: int) -> None:
    """Add votes to the four pixels around each place, bilinearly."""
    left, top = x.floor(), y.floor()
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = left + dx, top + dy
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = (row * width + column)[inside].long()
            flat.index_add_(0, index, (votes * share)[inside])


def hough_scores_reference(probability: Tensor, offsets: Tensor | None, radius: float) -> Tensor:
    """The obvious loop over pixels; what `hough_scores` with ``min_vote=0`` must equal."""
    classes, height, width = probability.shape
    scores = torch.zeros(classes, height, width, dtype=torch.float64)
    for c in range(classes):
        for i in range(height):
            for j in range(width):
                x = j + (radius * float(offsets[2 * c, i, j]) if offsets is not None else 0.0)
                y = i + (radius * float(offsets[2 * c + 1, i, j]) if offsets is not None else 0.0)
                for row in (math.floor(y), math.floor(y) + 1):
                    for column in (math.floor(x), math.floor(x) + 1):
                        if 0 <= row < height and 0 <= column < width:
                            share = (1 - abs(x - column)) * (1 - abs(y - row))
                            scores[c, row, column] += float(probability[c, i, j]) * share
    return scores / (math.pi * radius**2)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peak of the Hough score: column and row in network pixels, score of both classes together, P(degenerative).

    The score is about 1 for a keypoint that is found as it was taught; more where pixels around it vote too.
    """

    x: float
    y: float
    score: float
    probability: float


def find_candidates(
    scores: Tensor, *, suppression: float, window: float, minimum: float = 0.05, limit: int = 12, merge: str = "sum"
) -> list[Candidate]:
    """Local maxima of the smoothed score, strongest first, none nearer than ``suppression`` pixels to a stronger one.

    Place and class come from all votes within ``window`` pixels of the peak: their centroid and the share of degenerative votes.

    Parameters
    ----------
    scores
        (2, H, W) Hough scores.
    suppression, window
        In pixels.
    minimum
        Least score of a candidate.
    limit
        Most candidates.
    merge
        How two classes become one score: ``sum`` finds a keypoint whose class is in doubt, where either class alone is weak;
        ``max`` is reading 16.
    """
    if merge not in MERGES:
        raise ValueError(f"merge {merge!r}; allowed: {', '.join(MERGES)}")
    total = _smooth(scores.sum(dim=0) if merge == "sum" else scores.amax(dim=0), window)
    rows, columns = torch.nonzero(
        (total == _local_maximum(total, int(suppression))) & (total > minimum / 2), as_tuple=True
    )
    order = torch.argsort(total[rows, columns], descending=True)
    found: list[Candidate] = []
    votes = scores.numpy()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if len(found) == limit:
            break
        candidate = _refine(votes, column, row, window)
        apart = all(math.hypot(candidate.x - c.x, candidate.y - c.y) >= suppression for c in found)
        if apart and candidate.score >= minimum:
            found.append(candidate)
    return sorted(found, key=lambda c: -c.score)


def _local_maximum(scores: Tensor, reach: int) -> Tensor:
    """The largest value within ``reach`` rows and columns; along rows, then along columns, which is many times faster."""
    along_rows = F.max_pool2d(scores[None, None], (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(along_rows, (2 * reach + 1, 1), stride=1, padding=(reach, 0))[0, 0]


def _smooth(scores: Tensor, window: float) -> Tensor:
    """Sum under a cone of radius ``window``: votes scatter by a pixel or two, and a peak is their gathering place."""
    reach = int(window)
    grid = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = (1 - torch.hypot(grid[None], grid[:, None]) / (window + 1)).clamp_min(0)
    return F.conv2d(scores[None, None], kernel[None, None], padding=reach)[0, 0]


def _refine(votes: NDArray[np.float32], column: int, row: int, window: float) -> Candidate:
    reach = int(window)
    top, left = max(0, row - reach), max(0, column - reach)
    patch = votes[:, top : row + reach + 1, left : column + reach + 1]
    y, x = np.mgrid[top : top + patch.shape[1], left : left + patch.shape[2]]
    inside = (x - column) ** 2 + (y - row) ** 2 <= window**2
    weight = patch.sum(axis=0) * inside
    total = max(float(weight.sum()), 1e-12)
    degenerative = float(patch[-1][inside].sum())
    return Candidate(
        x=float((x * weight).sum() / total),
        y=float((y * weight).sum() / total),
        score=total,
        probability=min(1.0, max(0.0, degenerative / total)),
    )


def find_levels(scores: Tensor, classes: Tensor | None, *, window: float, radius: float) -> list[Candidate]:
    """The keypoint of each level where every level has a map of its own (reading 15).

    Parameters
    ----------
    scores
        (5, H, W) Hough scores, top to bottom; the arg-max of each, smoothed and refined within ``window`` pixels, is its place.
    classes
        (2, H, W) probabilities of the class channels, or None where a second stage classifies (then P is one half). The class is
        that of the higher mean within ``radius`` pixels; P the degenerative share of both means.
    """
    found = []
    for score in scores:
        peak = int(_smooth(score, window).argmax())
        row, column = divmod(peak, score.shape[1])
        candidate = _refine(score[None].numpy(), column, row, window)
        probability = 0.5 if classes is None else _class_share(classes, candidate, radius)
        found.append(replace(candidate, probability=probability))
    return found


def _class_share(classes: Tensor, place: Candidate, radius: float) -> float:
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in classes.shape[1:]), indexing="ij")
    inside = (columns - place.x) ** 2 + (rows - place.y) ** 2 <= radius**2
    if not inside.any():
        return 0.5
    normal, degenerative = (float(channel[inside].mean()) for channel in classes)
    return degenerative / max(normal + degenerative, 1e-12)


# ---------------------------------------------------------------- levels


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPrior:
    """What ten neighbouring lumbar keypoints look like.

    ``step_mm`` and ``step_sd`` of any step, ``step_range`` of possible ones; ``bend_deg`` and ``bend_sd`` of the turn at each of
    the eight inner keypoints (L1-L2 to L5), positive towards posterior: lordosis and the kink above the sacrum tell levels apart
    where every disc looks alike. Measured on 114 SPIDER exams of training patients (mean bends, SD 6 to 12 degrees) and made
    wider; step ratios are SDID-TC's.
    """

    step_mm: float = 18.0
    step_sd: float = 4.0
    step_range: tuple[float, float] = (9.0, 32.0)
    ratio_sd: float = 0.4
    bend_deg: tuple[float, ...] = (11.9, -9.8, 11.9, -4.0, 11.5, -1.5, 16.3, -2.5)
    bend_sd: tuple[float, ...] = (9.0, 9.0, 9.0, 9.0, 11.0, 11.0, 16.0, 14.0)
    max_bend: float = 60.0
    # Weight of one unit of log score against the prior's terms.
    score_weight: float = 16.0


@dataclass(frozen=True, slots=True)
class Chain:
    """Ten candidates in reading order.

    ``score`` is the chain's log score, ``margin`` its lead over the best chain shifted by a level or more; ``notes`` are doubts
    about the levels (see `level_checks`), ``spread_mm`` the largest distance of any test-time view's keypoint, of each level.
    """

    candidates: tuple[Candidate, ...]
    score: float
    margin: float
    notes: tuple[str, ...] = ()
    spread_mm: tuple[float, ...] = ()

    @property
    def points(self) -> FloatArray:
        """(10, 2) column and row in network pixels."""
        return np.array([(c.x, c.y) for c in self.candidates])


def assign_levels(
    candidates: dict[Structure, list[Candidate]], spacing_mm: float, prior: ChainPrior | None = None
) -> Chain | None:
    """The best chain L1, L1-L2, ..., L5, L5-S1 down the spine, or None if there is none (readings 16 and 17).

    Vertebrae and discs alternate; steps and bends must be possible and are preferred likely. A second-order Viterbi search over
    pairs of neighbours; nothing is ever invented.
    """
    prior = prior or ChainPrior()
    structures = [landmark.structure for landmark in READING_ORDER]
    layers = [candidates[s] for s in structures]
    if any(not layer for layer in layers):
        return None
    search = _Search(layers, spacing_mm, prior)
    best = search.best()
    if best is None:
        return None
    score, path = best
    # Shifted by whole levels, the chain starts at another vertebra.
    others = [search.best(start=k) for k in range(len(layers[0])) if k != path[0]]
    rival = max((o[0] for o in others if o is not None), default=-math.inf)
    return Chain(tuple(layer[k] for layer, k in zip(layers, path, strict=True)), score, score - rival)


def check_levels(ten: Sequence[Candidate], spacing_mm: float, prior: ChainPrior | None = None) -> Chain | None:
    """Ten candidates whose levels are known, in reading order, or None where they cannot be a spine (reading 17)."""
    best = _Search([[c] for c in ten], spacing_mm, prior or ChainPrior()).best()
    return None if best is None else Chain(tuple(ten), best[0], math.inf)


def assign_top_five(
    candidates: dict[Structure, list[Candidate]], spacing_mm: float, prior: ChainPrior | None = None
) -> Chain | None:
    """The paper's way (reading 16): the five strongest of each, sorted down the spine; None where they do not alternate."""
    ten = strongest_ten(candidates)
    return None if ten is None else check_levels(ten, spacing_mm, prior)


def strongest_ten(candidates: dict[Structure, list[Candidate]]) -> list[Candidate] | None:
    """The five strongest of each structure, down the picture, in reading order; None where there are fewer."""
    five = {s: sorted(sorted(found, key=lambda c: -c.score)[:5], key=lambda c: c.y) for s, found in candidates.items()}
    if any(len(five[landmark.structure]) < 5 for landmark in READING_ORDER):
        return None
    return [five[landmark.structure][i // 2] for i, landmark in enumerate(READING_ORDER)]


class _Search:
    """Second-order Viterbi over candidate layers."""

    def __init__(self, layers: list[list[Candidate]], spacing_mm: float, prior: ChainPrior) -> None:
        self.prior = prior
        self.points = [np.array([(c.x, c.y) for c in layer]) * spacing_mm for layer in layers]
        self.unary = [prior.score_weight * np.log([max(c.score, 1e-3) for c in layer]) for layer in layers]
        self.steps = [b[None] - a[:, None] for a, b in zip(self.points, self.points[1:], strict=False)]  # (A, B, 2)
        self.lengths = [np.maximum(np.linalg.norm(s, axis=2), 1e-6) for s in self.steps]
        self.pair = [self._pair_cost(s, d) for s, d in zip(self.steps, self.lengths, strict=True)]
        self.triple = [self._triple_cost(i) for i in range(len(self.steps) - 1)]

    def _pair_cost(self, step: FloatArray, length: FloatArray) -> FloatArray:
        low, high = self.prior.step_range
        possible = (length >= low) & (length <= high) & (step[..., 1] > 0)
        cost = -0.5 * ((length - self.prior.step_mm) / self.prior.step_sd) ** 2
        return np.where(possible, cost, -np.inf)

    def _triple_cost(self, i: int) -> FloatArray:
        """(A, B, C) cost of the bend and of the change of step at B, the keypoint number i + 1 of the chain."""
        first, second = (np.degrees(np.arctan2(step[..., 0], step[..., 1])) for step in self.steps[i : i + 2])
        bend = second[None] - first[:, :, None]
        ratio = np.log(self.lengths[i + 1][None] / self.lengths[i][:, :, None])
        unusual = (bend - self.prior.bend_deg[i]) / self.prior.bend_sd[i]
        cost = -0.5 * unusual**2 - 0.5 * (ratio / self.prior.ratio_sd) ** 2
        return np.where(np.abs(bend) <= self.prior.max_bend, cost, -np.inf)

    def best(self, start: int | None = None) -> tuple[float, list[int]] | None:
        first = self.unary[0].copy()
        if start is not None:
            first[np.arange(len(first)) != start] = -np.inf
        score = first[:, None] + self.pair[0] + self.unary[1][None]  # (A, B)
        back: list[NDArray[np.intp]] = []
        for i, triple in enumerate(self.triple):
            total = score[:, :, None] + triple  # (A, B, C)
            back.append(total.argmax(axis=0))
            score = total.max(axis=0) + self.pair[i + 1] + self.unary[i + 2][None]
        if not np.isfinite(score).any():
            return None
        b, c = (int(v) for v in np.unravel_index(int(score.argmax()), score.shape))
        path = [c, b]
        for choice in reversed(back):
            path.append(int(choice[path[-1], path[-2]]))
        return float(score.max()), path[::-1]
