"""Which frames of a series are one kind of picture, by what headers say of matrix, plane, image type, echo and time point.

Frames of two kinds never make one stack, whatever their SeriesInstanceUID says.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from spineone_core.arrays import FloatArray
from spineone_core.imaging.headers import FrameHeader

# Pixel spacings are one where they differ by less than this share (0.6696 and 0.66964286 mm are one).
SAME_SPACING_SHARE = 0.005
# Echo, repetition and inversion times are one within this many ms, or within this share where that is more.
SAME_TIME_MS, SAME_TIME_SHARE = 0.5, 0.01
# Orientations are one where neither the row nor the column direction turns by more than this.
SAME_ORIENTATION_DEGREES = 1.0
SAME_ORIENTATION_COSINE = math.cos(math.radians(SAME_ORIENTATION_DEGREES))

# Values of Image Type that name a kind of picture wherever they stand (PS3.3 C.8.3.1.1.1 and what vendors write):
# parts of a complex image, and what Dixon methods make.
_PARTS_OF_A_COMPLEX_IMAGE = frozenset({"M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY"})
_DIXON_KINDS = frozenset(
    {
        "W",
        "F",
        "IP",
        "OP",
        "WATER",
        "FAT",
        "IN_PHASE",
        "OUT_PHASE",
        "OPP_PHASE",
        "OPPOSED_PHASE",
        "INPHASE",
        "OPPHASE",
        "IN",
        "OUT",
    }
    | {"OPP", "FF", "WF", "FAT_FRACTION", "WATER_FRACTION", "R2_STAR", "T2_STAR"}
)
KIND_WORDS = _PARTS_OF_A_COMPLEX_IMAGE | _DIXON_KINDS
_VALUES_THAT_COUNT = 4
# More frames of reference than this in one series, and than a third of its frames, are one for each slice.
_FRAMES_OF_REFERENCE = 4


def split_by_kind(frames: Sequence[FrameHeader]) -> list[list[FrameHeader]]:
    """Frames of one series in groups of one kind. A value that is absent goes with the only known one, if there is only one."""
    groups = [list(frames)]
    for split in _SPLITS:
        groups = [part for group in groups for part in split(group)]
    return groups


def same_kind(one: FrameHeader, other: FrameHeader) -> bool:
    """Whether two frames of different series are the same kind of picture in every respect that is known of a frame."""
    if any(key(one) != key(other) for key in _EXACT) or key_of_texts(one) != key_of_texts(other):
        return False
    return (
        same_spacing(one, other)
        and same_orientation(one, other)
        and same_time(one.echo_time, other.echo_time)
        and same_time(one.repetition_time, other.repetition_time)
        and same_time(one.inversion_time, other.inversion_time)
    )


def differences(one: FrameHeader, other: FrameHeader) -> list[str]:
    """In which respects two frames differ, in words that quote nothing of the files."""
    facts = {
        "kind of object": (one.modality, one.sop_class_uid) == (other.modality, other.sop_class_uid),
        "matrix": (one.rows, one.columns) == (other.rows, other.columns),
        "pixel spacing": same_spacing(one, other),
        "orientation": same_orientation(one, other),
        "frame of reference": one.frame_of_reference_uid == other.frame_of_reference_uid,
        "image type": kind_of_picture(one) == kind_of_picture(other),
        "echo": one.echo_number == other.echo_number and same_time(one.echo_time, other.echo_time),
        "inversion time": same_time(one.inversion_time, other.inversion_time),
        "time point": one.temporal_position == other.temporal_position,
        "b-value": one.b_value == other.b_value,
    }
    return [name for name, equal in facts.items() if not equal]


# ---------------------------------------------------------------- single facts


def kind_of_picture(header: FrameHeader) -> tuple[str, ...]:
    """Image Type (Frame Type of enhanced images), values 1 to 4, kind words beyond them, and the part of a complex image."""
    values = [value.strip().upper() for value in header.image_type]
    beyond = sorted(KIND_WORDS.intersection(values[_VALUES_THAT_COUNT:]))
    return (*values[:_VALUES_THAT_COUNT], *beyond, header.complex_component.strip().upper())


def key_of_texts(header: FrameHeader) -> tuple[str, ...]:
    """The free texts that one acquisition has in common."""
    return header.series_description, header.protocol_name, header.sequence_name, header.scan_options


def same_spacing(one: FrameHeader, other: FrameHeader) -> bool:
    """Whether both spacings agree within ``SAME_SPACING_SHARE``."""
    if one.pixel_spacing is None or other.pixel_spacing is None:
        return one.pixel_spacing is other.pixel_spacing
    pairs = zip(one.pixel_spacing, other.pixel_spacing, strict=True)
    return all(abs(a - b) <= SAME_SPACING_SHARE * max(abs(a), abs(b)) for a, b in pairs)


def same_orientation(one: FrameHeader, other: FrameHeader) -> bool:
    """Whether row and column directions agree within ``SAME_ORIENTATION_DEGREES``; so the direction of travel does too."""
    if one.orientation is None or other.orientation is None:
        return one.orientation is other.orientation
    return _aligned(np.asarray(one.orientation), np.asarray(other.orientation))


def same_time(one: float | None, other: float | None) -> bool:
    """Whether two times in ms agree within ``SAME_TIME_MS`` or ``SAME_TIME_SHARE``; absent agrees with absent only."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _time_tolerance(min(one, other))


def _time_tolerance(value: float) -> float:
    return max(SAME_TIME_MS, SAME_TIME_SHARE * abs(value))


def _aligned(one: FloatArray, other: FloatArray) -> bool:
    return bool(min(one[:3] @ other[:3], one[3:] @ other[3:]) > SAME_ORIENTATION_COSINE)


# ---------------------------------------------------------------- splitting

Key = Callable[[FrameHeader], Hashable]
Split = Callable[[list[FrameHeader]], list[list[FrameHeader]]]


def classes_by(frames: Iterable[FrameHeader], key: Key) -> list[list[FrameHeader]]:
    """Frames with the same key together, in the order of their first."""
    classes: dict[Hashable, list[FrameHeader]] = defaultdict(list)
    for frame in frames:
        classes[key(frame)].append(frame)
    return list(classes.values())


def _by(key: Key, *, unknown: Any = None) -> Split:
    """Splits by a key; frames whose value is ``unknown`` go with the others where those have only one value."""

    def split(frames: list[FrameHeader]) -> list[list[FrameHeader]]:
        classes = classes_by(frames, key)
        known = [part for part in classes if key(part[0]) != unknown]
        return [frames] if len(known) == 1 else classes

    return split


def _by_number(value: Callable[[FrameHeader], float | None], tolerance: Callable[[float], float]) -> Split:
    """Splits where, in the order of the values, one is farther from the next than the tolerance."""

    def split(frames: list[FrameHeader]) -> list[list[FrameHeader]]:
        known = sorted({v for f in frames if (v := value(f)) is not None})
        group, groups = 0, dict.fromkeys(known[:1], 0)
        for low, high in pairwise(known):
            group += high - low > tolerance(low)
            groups[high] = group
        return _by(lambda f: None if (v := value(f)) is None else groups[v])(frames)

    return split


def _by_orientation(frames: list[FrameHeader]) -> list[list[FrameHeader]]:
    known: list[FloatArray] = []

    def index(frame: FrameHeader) -> int | None:
        cosines = np.asarray(frame.orientation or np.zeros(6))
        if not np.isclose(cosines @ cosines, 2, atol=0.01):
            return None
        for number, other in enumerate(known):
            if _aligned(cosines, other):
                return number
        known.append(cosines)
        return len(known) - 1

    return classes_by(frames, index)


def _by_frame_of_reference(frames: list[FrameHeader]) -> list[list[FrameHeader]]:
    """A frame of reference of its own for every slice says nothing (some anonymisers write that)."""
    classes = classes_by(frames, lambda f: f.frame_of_reference_uid)
    return [frames] if len(classes) > max(_FRAMES_OF_REFERENCE, len(frames) // 3) else classes


def _spacing_share(value: float) -> float:
    return SAME_SPACING_SHARE * abs(value)


# What must be equal to the letter, also between series that are put together.
_EXACT: tuple[Key, ...] = (
    lambda f: (f.study_uid, f.modality, f.sop_class_uid, f.rows, f.columns),
    lambda f: f.frame_of_reference_uid,
    kind_of_picture,
    lambda f: (f.echo_number, f.temporal_position, f.b_value),
)
_SPLITS: tuple[Split, ...] = (
    lambda frames: classes_by(frames, _EXACT[0]),
    _by_frame_of_reference,
    lambda frames: classes_by(frames, lambda f: f.pixel_spacing is None),
    _by_number(lambda f: f.pixel_spacing and f.pixel_spacing[0], _spacing_share),
    _by_number(lambda f: f.pixel_spacing and f.pixel_spacing[1], _spacing_share),
    _by_orientation,
    _by(lambda f: kind_of_picture(f)[:-1], unknown=()),
    _by(lambda f: kind_of_picture(f)[-1], unknown=""),
    _by(lambda f: f.echo_number),
    _by_number(lambda f: f.echo_time, _time_tolerance),
    _by_number(lambda f: f.inversion_time, _time_tolerance),
    _by(lambda f: f.temporal_position),
    # No b-value often means b = 0, which is another picture than b = 1000.
    lambda frames: classes_by(frames, lambda f: f.b_value),
)
