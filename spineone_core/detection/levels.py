"""From candidates to the ten levels, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spineone_core.anatomy import Structure
from spineone_core.detection.chain import Chain, assign_levels, assign_top_five, check_levels, strongest_ten
from spineone_core.detection.level_checks import level_notes
from spineone_core.detection.voting import MERGES, Candidate
from spineone_core.findings import NotAnalysable, Reason

ASSIGNMENTS = ("chain", "top_five")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingConfig:
    """How maps become findings.

    Parameters
    ----------
    radius_px
        R of targets and voting, in network pixels.
    suppression_mm
        Least distance between two keypoints of one structure (reading 16).
    window_mm
        Radius within which votes gather.
    minimum_score
        Least score of a candidate.
    minimum_confidence, minimum_mean_confidence
        Least confidence of each of the ten keypoints, and least mean of all ten.
    margin_warning
        A chain with a smaller lead (in log score) over a shifted one gets a warning.
    undecided_margin
        No class is called within this distance of one half.
    merge, assignment
        How both classes' scores become one (``sum`` or ``max``), and how levels are assigned (``chain``, or the paper's
        ``top_five``): reading 16.
    plausible
        Whether ten points that cannot be a lumbar spine are refused. False, for the paper's tables only, refuses nothing: up
        to five points of each structure are named, the strongest ones inside the picture, and the others are ``ABSENT``.
    """

    radius_px: float = 6.0
    suppression_mm: float = 10.0
    window_mm: float = 3.5
    minimum_score: float = 0.05
    minimum_confidence: float = 0.05
    minimum_mean_confidence: float = 0.3
    margin_warning: float = 2.0
    undecided_margin: float = 0.1
    merge: str = "sum"
    assignment: str = "chain"
    plausible: bool = True

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise ValueError(f"merge {self.merge!r}; allowed: {', '.join(MERGES)}")
        if self.assignment not in ASSIGNMENTS:
            raise ValueError(f"assignment {self.assignment!r}; allowed: {', '.join(ASSIGNMENTS)}")


def choose_chain(candidates: dict[Structure, list[Candidate]], spacing_mm: float, decoding: DecodingConfig) -> Chain:
    """The chain of ten; raises ``NotAnalysable`` with the reason where there is none."""
    if not decoding.plausible:
        return _as_found(strongest_ten(candidates))
    discs, vertebrae = len(candidates[Structure.DISC]), len(candidates[Structure.VERTEBRA])
    if discs < 5 or vertebrae < 5:
        raise NotAnalysable(
            Reason.LEVELS_INCOMPLETE, f"{discs} discs and {vertebrae} vertebrae found; five of each are needed"
        )
    assign = assign_levels if decoding.assignment == "chain" else assign_top_five
    chain = _accept(assign(candidates, spacing_mm), decoding)
    return replace(chain, notes=level_notes(chain, candidates))


def choose_known(ten: Sequence[Candidate], spacing_mm: float, decoding: DecodingConfig) -> Chain:
    """The chain of ten keypoints of known level; raises ``NotAnalysable`` with the reason where they cannot be one."""
    if not decoding.plausible:
        return _as_found(ten)
    absent = sum(candidate.is_absent for candidate in ten)
    if absent:
        raise NotAnalysable(Reason.LEVELS_INCOMPLETE, f"{absent} of ten levels were not found")
    return _accept(check_levels(ten, spacing_mm), decoding)


def _as_found(ten: Sequence[Candidate]) -> Chain:
    """Ten points as they are, some of them ``ABSENT``; whether they can be a spine is not asked."""
    return Chain(tuple(ten), -math.inf, math.inf)


def _accept(chain: Chain | None, decoding: DecodingConfig) -> Chain:
    if chain is None:
        raise NotAnalysable(Reason.LEVELS_IMPLAUSIBLE, "no ten of the points found form a lumbar spine")
    weakest = min(chain.candidates, key=lambda c: c.score)
    if weakest.score < decoding.minimum_confidence:
        raise NotAnalysable(
            Reason.LEVELS_INCOMPLETE, f"a level was found with a confidence of only {weakest.score:.2f}"
        )
    mean = mean_confidence(chain.candidates)
    if mean < decoding.minimum_mean_confidence:
        raise NotAnalysable(
            Reason.NOT_LUMBAR, f"mean confidence {mean:.2f} is under {decoding.minimum_mean_confidence:.2f}"
        )
    return chain


def mean_confidence(candidates: Sequence[Candidate]) -> float:
    """Mean score of the candidates, each counted as at most 1."""
    return sum(min(1.0, c.score) for c in candidates) / len(candidates)
