"""Volumes among slices of one kind on one line: repeated acquisitions apart, the parts of one acquisition together.

Each decision is for whole volumes. Where nothing tells the pictures at one position apart, there is no volume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from datetime import date as date_of

import numpy as np

from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.kinds import classes_by, key_of_texts
from spineone_core.imaging.steps import (
    ENOUGH_FOR_STEPS,
    Placed,
    all_apart,
    is_joined_stack,
    is_stack,
    nearest_step,
    split_by_lattice,
    steps_of,
    union_of,
)

NOTHING_TELLS_APART = "with several pictures at one position that no attribute tells apart"
_NAMES_OF_A_COPY = frozenset({"path", "sop_instance_uid"})
_FACTS = tuple(field.name for field in fields(FrameHeader) if field.name not in _NAMES_OF_A_COPY)


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Slices of one acquisition, by position; ``fault`` says why they are none. ``copies`` equal slices but for the UID."""

    slices: list[Placed]
    fault: str = ""
    copies: tuple[Placed, ...] = ()

    @property
    def latest(self) -> tuple[float, float]:
        """Acquisition number and moment (s): the greater is the later."""
        numbers = [one.frame.acquisition_number or 0 for one in self.slices]
        moments = [seconds_of(one.frame.acquired_at) or 0.0 for one in self.slices]
        return max(numbers), max(moments)


def volumes_of(slices: Sequence[Placed]) -> list[Volume]:
    """The volumes among the slices of one series, of one kind and on one line."""
    slices, copies = _without_copies(slices)
    parts = _acquisitions(slices)
    if parts is None:
        return [Volume(slices, NOTHING_TELLS_APART, tuple(copies))]
    facts = [{_facts(one.frame): None for one in part} for part in parts]
    kept = [tuple(c for c in copies if _facts(c.frame) in known) for known in facts]
    return [Volume(part, "", mine) for part, mine in zip(parts, kept, strict=True)]


def _facts(frame: FrameHeader) -> tuple[object, ...]:
    return tuple(getattr(frame, name) for name in _FACTS)


def _without_copies(slices: Sequence[Placed]) -> tuple[list[Placed], list[Placed]]:
    """Slices, and those sent again under another UID: every attribute that is read is equal. The first UID stays."""
    kept: dict[Hashable, Placed] = {}
    copies = []
    for one in sorted(slices, key=lambda p: p.frame.sop_instance_uid):
        if kept.setdefault(_facts(one.frame), one) is not one:
            copies.append(one)
    return union_of([list(kept.values())]), copies


def _acquisitions(slices: list[Placed]) -> list[list[Placed]] | None:
    """Slices as volumes; None where that cannot be decided."""
    numbered = _classes(slices, lambda f: f.acquisition_number)
    apart = len(numbered) > 1 and max(map(len, numbered)) > 1
    if is_stack(slices) and (not apart or is_joined_stack(numbered)):
        return [slices]
    if parted := [one for split in (_by_facts, _by_number, _by_moment) if (one := split(slices)) is not None]:
        # The fewer volumes the less is torn; of equal ones the first.
        return min(parted, key=len)
    return split_by_lattice(slices) or ([slices] if all_apart(slices) and not apart else None)


# ---------------------------------------------------------------- what tells volumes apart


def _by_facts(slices: list[Placed]) -> list[list[Placed]] | None:
    """Apart by what one acquisition has in common, if every class is a volume, or falls into volumes."""
    for key in _FACTS_OF_A_VOLUME:
        classes = _classes(slices, key)
        if not 2 <= len(classes) <= max(2, len(slices) // 2):
            continue
        if min(map(len, classes)) < ENOUGH_FOR_STEPS and all_apart(slices):
            continue
        parts = [_acquisitions(part) for part in classes]
        if all(part is not None for part in parts):
            return [volume for part in parts if part is not None for volume in part]
    return None


def _by_number(slices: list[Placed]) -> list[list[Placed]] | None:
    """Apart by Acquisition Number; acquisitions in succession that fill one another's gaps are together."""
    classes = _classes(slices, lambda f: f.acquisition_number)
    if len(classes) < 2 or _count_two_things(classes):
        return None
    classes.sort(key=lambda part: -1 if (n := part[0].frame.acquisition_number) is None else n)
    parts: list[list[Placed]] = []
    for one in classes:
        volumes = _acquisitions(one)
        if volumes is None:
            return None
        parts += volumes
    if len(parts) == len(classes) and (joined := in_succession(parts)) is not None:
        return joined
    # Numbers that count slices are no acquisitions.
    return parts if max(map(len, parts)) >= ENOUGH_FOR_STEPS else None


def _by_moment(slices: list[Placed]) -> list[list[Placed]] | None:
    """Apart by the time of acquisition, which may differ from slice to slice."""
    moments = {id(one): seconds_of(one.frame.acquired_at) for one in slices}
    if (
        any(moment is None for moment in moments.values())
        or len({len(one.frame.acquired_at) > 13 for one in slices}) > 1
    ):
        return None
    classes = sorted(
        _classes(slices, lambda f: seconds_of(f.acquired_at)), key=lambda part: moments[id(part[0])] or 0.0
    )
    if len(classes) < 2 or _count_two_things(classes) or not all(all_apart(part) for part in classes):
        return None
    return in_succession(classes, [moments[id(part[0])] or 0.0 for part in classes])


def _count_two_things(classes: Sequence[Sequence[Placed]]) -> bool:
    """Whether a value is that of a slice or two here and that of a volume there; then slices of two volumes may share it."""
    few = sum(len(part) < ENOUGH_FOR_STEPS for part in classes)
    return few >= ENOUGH_FOR_STEPS and max(map(len, classes)) >= ENOUGH_FOR_STEPS


_FACTS_OF_A_VOLUME: tuple[Callable[[FrameHeader], Hashable], ...] = (
    lambda f: (f.image_type, f.complex_component, f.echo_number, f.temporal_position, f.echo_time is None),
    key_of_texts,
    lambda f: (f.scanning_sequence, f.sequence_variant, f.echo_kind, f.inversion_recovery, f.suppression),
    lambda f: (f.repetition_time, f.inversion_time, f.flip_angle, f.echo_train),
    lambda f: (f.slice_thickness, f.spacing_between_slices, f.body_part, f.manufacturer),
)


def _classes(slices: Sequence[Placed], key: Callable[[FrameHeader], Hashable]) -> list[list[Placed]]:
    by_frame = {id(one.frame): one for one in slices}
    return [[by_frame[id(frame)] for frame in part] for part in classes_by((one.frame for one in slices), key)]


# ---------------------------------------------------------------- parts in succession


def in_succession(parts: list[list[Placed]], moments: Sequence[float] | None = None) -> list[list[Placed]] | None:
    """Parts in the order in which they were acquired, joined to volumes: a volume ends before a position repeats.

    Parameters
    ----------
    moments
        When each part was acquired, in s. Where a volume may end in several places, the longest pause decides; every pause
        between volumes must be longer than all within them. Without moments each volume must have only one end.

    Returns
    -------
    The volumes, each of which is a stack; None where they cannot be told.
    """
    latest = _ends(parts)
    earliest = sorted(len(parts) - end for end in _ends(parts[::-1]))
    if moments is None:
        ends, sure = latest, latest == earliest
    else:
        pauses = [float("inf"), *np.diff(moments)]
        ends = [max(range(low, high + 1), key=pauses.__getitem__) for low, high in zip(earliest, latest, strict=True)]
        within = [pause for k, pause in enumerate(pauses) if k and k not in ends]
        sure = all(pauses[end] > max(within, default=0.0) for end in ends)
    if not sure:
        return None
    groups = [parts[a:b] for a, b in zip([0, *ends], [*ends, len(parts)], strict=True)]
    if all(len(group) == 1 or is_joined_stack(group) for group in groups):
        return [union_of(group) for group in groups]
    return None


def _ends(parts: Sequence[Sequence[Placed]]) -> list[int]:
    """Index of each part that begins a new volume, if volumes are as long as they can be."""
    ends: list[int] = []
    volume: list[Placed] = []
    near = nearest_step(union_of(parts))
    for index, part in enumerate(parts):
        if volume and (steps_of(union_of([volume, part])) < near).any():
            ends.append(index)
            volume = []
        volume.extend(part)
    return ends


def seconds_of(text: str) -> float | None:
    """Date and time of an acquisition in seconds (of the day where there is no date); None where it is no time (PS3.5 6.2)."""
    match = re.fullmatch(r"(\d{8})?(\d\d)(\d\d)(\d\d)(\.\d{1,6})?(?:[+-]\d{4})?", text.strip())
    if match is None:
        return None
    date, hours, minutes, seconds, fraction = match.groups()
    try:
        days = date_of(int(date[:4]), int(date[4:6]), int(date[6:])).toordinal() if date else 0
    except ValueError:
        return None
    return days * 86400.0 + int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(fraction or 0)
