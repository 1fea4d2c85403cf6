"""Hough voting (Eq. 3), and the choice of peaks as candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

# Votes from pixels that are less sure than this change no peak; leaving them out makes voting fast.
MIN_VOTE = 0.01
# How the scores of both classes are combined before peaks are looked for (reading 16).
MERGES = ("sum", "max")


def hough_scores(probability: Tensor, offsets: Tensor | None, radius: float, min_vote: float = MIN_VOTE) -> Tensor:
    """The Hough score map of each class (Eq. 3).

    Every pixel votes with its probability at the place that its offset points to. A vote is spread bilinearly; votes
    outside the image are lost.

    Parameters
    ----------
    probability
        (2, H, W) in [0, 1].
    offsets
        (4, H, W) in units of R. With None, every vote stays where its pixel is.
    radius
        R in pixels.

    Returns
    -------
    (2, H, W); the value is about 1 at a sure keypoint.
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
    """The obvious loop over pixels, for tests: `hough_scores` with ``min_vote=0`` must give the same."""
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
    """A peak of the Hough score: column and row in network pixels, the score of both classes together, P(degenerative).

    The score is about 1 for a keypoint that is found as it was taught, and more where further pixels vote for it too.
    ``category`` is the class channel with the most votes.
    """

    x: float
    y: float
    score: float
    probability: float
    category: int = 0

    @property
    def is_absent(self) -> bool:
        """Whether this stands for a keypoint that was not found."""
        return math.isnan(self.x)


# Stands for a keypoint that was not found, where the others count all the same.
ABSENT = Candidate(math.nan, math.nan, 0.0, 0.5)


def find_candidates(
    scores: Tensor, *, suppression: float, window: float, minimum: float = 0.05, limit: int = 12, merge: str = "sum"
) -> list[Candidate]:
    """The local maxima of the smoothed score, strongest first; none lies nearer than ``suppression`` pixels to a stronger one.

    All votes within ``window`` pixels of the peak decide: their centroid is the place, the share of degenerative votes the
    class.

    Parameters
    ----------
    scores
        (C, H, W) Hough scores, of which channel 0 is that of normal.
    suppression, window
        In pixels.
    minimum
        The least score of a candidate.
    limit
        The largest number of candidates.
    merge
        How the scores of the classes become one. ``sum`` also finds a keypoint whose class is in doubt, where each class
        alone is weak; ``max`` is reading 16.
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
    """The largest value within ``reach`` rows and columns. It goes along rows first, then along columns, which is much faster."""
    along_rows = F.max_pool2d(scores[None, None], (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(along_rows, (2 * reach + 1, 1), stride=1, padding=(reach, 0))[0, 0]


def _smooth(scores: Tensor, window: float) -> Tensor:
    """The sum under a cone of radius ``window``: votes scatter by a pixel or two, and a peak is where they gather."""
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
    by_class = patch[:, inside].sum(axis=1)
    degenerative = float(by_class[1:].sum())
    return Candidate(
        x=float((x * weight).sum() / total),
        y=float((y * weight).sum() / total),
        score=total,
        probability=min(1.0, max(0.0, degenerative / total)),
        category=int(by_class.argmax()),
    )


def find_levels(
    scores: Tensor, classes: Tensor | None, *, window: float, radius: float, minimum: float = 0.05
) -> list[Candidate]:
    """The keypoint of each level, for networks that have a map for every level (reading 15).

    A level to which nothing votes, or whose score is under ``minimum``, is ``ABSENT``: the same bounds as for `find_candidates`.

    Parameters
    ----------
    scores
        (5, H, W) Hough scores, top to bottom. A level's place is the arg-max of its smoothed scores, refined within ``window``
        pixels.
    classes
        (2, H, W) probabilities of the class channels, or None where a second stage classifies (P is one half then). P is the
        degenerative share of the two means within ``radius`` pixels.
    """
    found = []
    for score in scores:
        smooth = _smooth(score, window)
        peak = int(smooth.argmax())
        row, column = divmod(peak, score.shape[1])
        candidate = _refine(score[None].numpy(), column, row, window)
        if float(smooth[row, column]) <= minimum / 2 or candidate.score < minimum:
            found.append(ABSENT)
            continue
        probability = 0.5 if classes is None else _class_share(classes, candidate, radius)
        found.append(replace(candidate, probability=probability, category=int(probability >= 0.5)))
    return found


def _class_share(classes: Tensor, place: Candidate, radius: float) -> float:
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in classes.shape[1:]), indexing="ij")
    inside = (columns - place.x) ** 2 + (rows - place.y) ** 2 <= radius**2
    if not inside.any():
        return 0.5
    normal, degenerative = (float(channel[inside].mean()) for channel in classes)
    return degenerative / max(normal + degenerative, 1e-12)
