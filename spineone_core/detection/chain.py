"""The search for a chain of ten neighbouring keypoints down the spine, which names the levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import READING_ORDER, Structure
from spineone_core.arrays import FloatArray
from spineone_core.detection.voting import ABSENT, Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPrior:
    """What ten neighbouring lumbar keypoints look like.

    ``step_mm`` and ``step_sd`` are mean and deviation of a step between neighbours, ``step_range`` holds the possible
    steps. ``bend_deg`` and ``bend_sd`` describe the turn at each of the eight inner keypoints (L1-L2 to L5), positive
    towards posterior: lordosis and the kink above the sacrum tell levels apart where every disc looks alike. The bends were
    measured on 114 SPIDER exams of training patients (mean bends, SD 6 to 12 degrees) and widened; the step ratios come
    from SDID-TC.
    """

    step_mm: float = 18.0
    step_sd: float = 4.0
    step_range: tuple[float, float] = (9.0, 32.0)
    ratio_sd: float = 0.4
    bend_deg: tuple[float, ...] = (11.9, -9.8, 11.9, -4.0, 11.5, -1.5, 16.3, -2.5)
    bend_sd: tuple[float, ...] = (9.0, 9.0, 9.0, 9.0, 11.0, 11.0, 16.0, 14.0)
    max_bend: float = 60.0
    # How much one unit of log score weighs against the prior's terms.
    score_weight: float = 16.0


@dataclass(frozen=True, slots=True)
class Chain:
    """Ten candidates in reading order.

    ``score`` is the chain's log score, ``margin`` its lead over the best chain that is shifted by a level or more.
    ``notes`` are doubts about the levels (see `level_checks`). ``spread_mm`` holds, for each level, the largest distance
    between the chain's keypoint and that of any test-time view.
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

    Vertebrae and discs alternate. Steps and bends must be possible, and likely ones are preferred. This is a second-order
    Viterbi search over pairs of neighbours; no point is ever invented.
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
    # A chain that is shifted by whole levels starts at another vertebra.
    others = [search.best(start=k) for k in range(len(layers[0])) if k != path[0]]
    rival = max((o[0] for o in others if o is not None), default=-math.inf)
    return Chain(tuple(layer[k] for layer, k in zip(layers, path, strict=True)), score, score - rival)


def check_levels(ten: Sequence[Candidate], spacing_mm: float, prior: ChainPrior | None = None) -> Chain | None:
    """The chain of ten candidates in reading order whose levels are known, or None where they cannot be a spine (reading 17)."""
    best = _Search([[c] for c in ten], spacing_mm, prior or ChainPrior()).best()
    return None if best is None else Chain(tuple(ten), best[0], math.inf)


def assign_top_five(
    candidates: dict[Structure, list[Candidate]], spacing_mm: float, prior: ChainPrior | None = None
) -> Chain | None:
    """The paper's way (reading 16): the five strongest of each structure, down the spine; None where they do not alternate."""
    ten = strongest_ten(candidates)
    return None if any(c.is_absent for c in ten) else check_levels(ten, spacing_mm, prior)


def strongest_ten(candidates: dict[Structure, list[Candidate]]) -> list[Candidate]:
    """The five strongest of each structure in reading order, sorted down the picture.

    Where a structure has fewer, they are named up from the sacrum, as levels are counted, and those above are ``ABSENT``.
    """
    five = {s: sorted(sorted(found, key=lambda c: -c.score)[:5], key=lambda c: c.y) for s, found in candidates.items()}
    named = {s: [ABSENT] * (5 - len(found)) + found for s, found in five.items()}
    return [named[landmark.structure][i // 2] for i, landmark in enumerate(READING_ORDER)]


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
        """(A, B, C) cost of the bend and of the change of step at B, which is keypoint number i + 1 of the chain."""
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
