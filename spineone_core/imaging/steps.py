"""Where the slices of one kind lie: on which line, at which places on it, and whether the steps are those of a stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spineone_core.arrays import FloatArray
from spineone_core.imaging.headers import FrameHeader

# Two slices closer than this (mm along the normal) are at the same position.
SAME_POSITION_MM = 0.05
# First pixels of a stack lie on one line within this distance (mm within the plane) ...
SAME_LINE_MM = 0.5
# ... that leaves the normal by no more than this (mm within the plane for each mm along the normal, 45 degrees).
MAX_SLANT = 1.0
# Slices farther apart than this (mm along the normal) are two stacks.
MAX_STEP_MM = 50.0
# Steps are even where each is a whole multiple of the usual one within this share of it, ...
EVEN_STEP_SHARE = 0.1
# ... and not more than this share of them are longer than one.
MISSING_SHARE = 0.25
# Steps shorter than this share of the distance of slices (or thickness) that headers name are two stacks in one another.
CLOSE_STEP_SHARE = 0.75
# No two slices of a stack are nearer than this share of its usual (of two, the upper middle) step.
NEAR_STEP_SHARE = 0.5
# Of stacks that lie in one another, slices of the same one are whole steps apart within this share of a step.
SAME_PLACE_SHARE = 0.02
# From so many slices on, steps say whether slices belong together.
ENOUGH_FOR_STEPS = 3
_TRIALS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A frame with its place: mm along the normal, and mm along row and column direction (of the first pixel's centre)."""

    frame: FrameHeader
    along: float
    within: tuple[float, float]


def has_geometry(frame: FrameHeader) -> bool:
    """Whether orientation, position and spacing are there and the orientation is one (PS3.3 C.7.6.2.1.1)."""
    if frame.orientation is None or frame.position is None or frame.pixel_spacing is None:
        return False
    row, column = np.asarray(frame.orientation[:3]), np.asarray(frame.orientation[3:])
    return bool(np.allclose([row @ row, column @ column], 1, atol=2e-3) and abs(row @ column) <= 1e-3)


def place(frames: Sequence[FrameHeader]) -> list[Placed]:
    """Frames of one orientation, which have geometry, by position along the normal of the first."""
    first = frames[0]
    assert first.orientation is not None
    row, column = np.asarray(first.orientation[:3]), np.asarray(first.orientation[3:])
    axes = np.stack([np.cross(row, column), row, column])
    placed = []
    for frame in frames:
        along, *within = (float(v) for v in axes @ np.asarray(frame.position))
        placed.append(Placed(frame, along, (within[0], within[1])))
    return sorted(
        placed, key=lambda p: (p.along, p.frame.series_uid, p.frame.sop_instance_uid, p.frame.frame_number or 0)
    )


# ---------------------------------------------------------------- lines


def split_by_line(slices: Sequence[Placed]) -> list[list[Placed]]:
    """Slices whose first pixels lie on one line along the normal, or on one that leaves it evenly; then cut at wide gaps."""
    lines = [list(slices)]
    if not on_one_line(slices):
        trials = [_parallel_lines(slices, slant) for slant in _slants(slices)]
        lines = [
            part for line in min(trials, key=len) for part in ([line] if on_one_line(line) else [[one] for one in line])
        ]
    return [part for line in lines for part in _cut_at_gaps(line)]


def on_one_line(slices: Sequence[Placed]) -> bool:
    """Whether the first pixels lie on one line, at most ``MAX_SLANT`` off the normal."""
    within = np.array([one.within for one in slices])
    if np.ptp(within, axis=0).max(initial=0.0) <= SAME_LINE_MM:
        return True
    along = np.array([one.along for one in slices])
    if np.ptp(along) < SAME_POSITION_MM:
        return False
    design = np.stack([along - along.mean(), np.ones_like(along)], axis=1)
    slope = np.linalg.lstsq(design, within, rcond=None)[0]
    residual = np.linalg.norm(within - design @ slope, axis=1).max()
    return bool(residual <= SAME_LINE_MM and np.linalg.norm(slope[0]) <= MAX_SLANT)


def _slants(slices: Sequence[Placed]) -> list[FloatArray]:
    """How lines may leave the normal (mm within the plane for each mm along it): not at all, or as between two near slices."""
    slants = [np.zeros(2)]
    for index, one in enumerate(slices[:_TRIALS]):
        for other in slices[index + 1 : index + 1 + _TRIALS]:
            along = other.along - one.along
            slant = np.subtract(other.within, one.within) / along if along > SAME_POSITION_MM else np.full(2, np.inf)
            if np.linalg.norm(slant) <= MAX_SLANT:
                slants.append(slant)
    return slants


def _parallel_lines(slices: Sequence[Placed], slant: FloatArray) -> list[list[Placed]]:
    lines: list[tuple[FloatArray, list[Placed]]] = []
    for one in slices:
        foot = np.asarray(one.within) - slant * one.along
        line = next((line for start, line in lines if np.abs(foot - start).max() <= SAME_LINE_MM), None)
        if line is None:
            lines.append((foot, [one]))
        else:
            line.append(one)
    few = ENOUGH_FOR_STEPS if slant.any() else 1
    return [part for _, line in lines for part in ([line] if len(line) >= few else [[one] for one in line])]


def _cut_at_gaps(line: list[Placed]) -> list[list[Placed]]:
    parts = [line[:1]]
    for before, after in pairwise(line):
        if after.along - before.along > MAX_STEP_MM:
            parts.append([])
        parts[-1].append(after)
    return parts


# ---------------------------------------------------------------- steps


def union_of(parts: Iterable[Sequence[Placed]]) -> list[Placed]:
    """All slices of some parts, by position."""
    return sorted((one for part in parts for one in part), key=lambda p: (p.along, p.frame.sop_instance_uid))


def steps_of(slices: Sequence[Placed]) -> FloatArray:
    """Distances of neighbours, mm; (slices - 1,)."""
    return np.diff([one.along for one in slices])


def all_apart(slices: Sequence[Placed]) -> bool:
    """Whether no two slices are at the same position, or as good as."""
    steps = np.sort(steps_of(slices))
    return len(steps) == 0 or bool(steps[0] >= max(SAME_POSITION_MM, NEAR_STEP_SHARE * steps[len(steps) // 2]))


def nearest_step(slices: Sequence[Placed]) -> float:
    """Slices of one acquisition are not nearer than this (mm), by what all of their headers say of their distance."""
    spacing = _declared(slices, thickness=False)
    return SAME_POSITION_MM if spacing is None else max(SAME_POSITION_MM, CLOSE_STEP_SHARE * spacing)


def usual_step(slices: Sequence[Placed]) -> float:
    """The middle one of the distances, the lower of two; mm."""
    steps = np.sort(steps_of(slices))
    return float(steps[(len(steps) - 1) // 2])


def is_stack(slices: Sequence[Placed]) -> bool:
    """Whether the slices are apart and evenly spaced (some may be missing), no nearer than the header says."""
    if not all_apart(slices):
        return False
    if len(slices) > 1 and usual_step(slices) < nearest_step(slices):
        return False
    if len(slices) < ENOUGH_FOR_STEPS:
        return True
    multiples = _multiples(slices)
    return multiples is not None and int((multiples > 1).sum()) <= max(1, int(MISSING_SHARE * len(multiples)))


def is_joined_stack(parts: Sequence[Sequence[Placed]]) -> bool:
    """Whether parts of several acquisitions or series are one stack.

    They are where all slices are apart, evenly spaced with no more than one missing, on one line, and not nearer than headers say
    of their distance, or else of their thickness. Where they say neither, the parts must not lie in one another.
    """
    slices = union_of(parts)
    if not (all_apart(slices) and on_one_line(slices)):
        return False
    if len(slices) < ENOUGH_FOR_STEPS:
        return False
    multiples = _multiples(slices)
    if multiples is None or multiples.max() > 2 or int((multiples > 1).sum()) > 1:
        return False
    declared = _declared(slices, thickness=True)
    if declared is None:
        return not _interleaved(parts)
    return usual_step(slices) >= CLOSE_STEP_SHARE * declared


def _multiples(slices: Sequence[Placed]) -> FloatArray | None:
    """How many usual steps each step is; None where one is no whole number of them."""
    usual = usual_step(slices)
    shares = steps_of(slices) / usual
    multiples = np.maximum(1, np.rint(shares))
    return multiples if (np.abs(shares - multiples) <= EVEN_STEP_SHARE).all() else None


def _declared(slices: Sequence[Placed], *, thickness: bool) -> float | None:
    """The least SpacingBetweenSlices in mm where all have it, else (if asked) the least thickness; None where unknown."""
    names = ("spacing_between_slices", "slice_thickness") if thickness else ("spacing_between_slices",)
    for name in names:
        values = [getattr(one.frame, name) for one in slices]
        if all(value is not None and value > 0 for value in values):
            return float(min(values))
    return None


def _interleaved(parts: Sequence[Sequence[Placed]]) -> bool:
    spans = sorted((part[0].along, part[-1].along) for part in parts if len(part) > 1)
    return any(low < before_high for (_, before_high), (low, _) in pairwise(spans))


def split_by_lattice(slices: Sequence[Placed]) -> list[list[Placed]] | None:
    """Two or three even stacks that lie in one another, told apart by their positions alone; None where there are none."""
    along = np.array([one.along for one in slices])
    spacing = _declared(slices, thickness=False)
    periods = [] if spacing is None else [spacing]
    periods += [float(np.median(along[n:] - along[:-n])) for n in (2, 3) if len(along) >= n * ENOUGH_FOR_STEPS]
    for period in periods:
        classes = _residue_classes(slices, period)
        if 2 <= len(classes) <= 3 and all(_fills(part, period) for part in classes):
            return classes
    return None


def _residue_classes(slices: Sequence[Placed], period: float) -> list[list[Placed]]:
    classes: list[list[Placed]] = []
    for one in slices:
        for part in classes:
            share = (one.along - part[-1].along) / period
            if abs(share - round(share)) <= SAME_PLACE_SHARE:
                part.append(one)
                break
        else:
            classes.append([one])
    return classes


def _fills(slices: Sequence[Placed], period: float) -> bool:
    if len(slices) < ENOUGH_FOR_STEPS or not is_stack(slices):
        return False
    return abs(usual_step(slices) - period) <= EVEN_STEP_SHARE * period
