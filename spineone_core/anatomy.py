"""Levels, structures and classes of the lumbar spine, in reading order (top to bottom)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Structure(StrEnum):
    """What a keypoint is the centroid of."""

    DISC = "disc"
    VERTEBRA = "vertebra"


class Grade(StrEnum):
    """Pathological class of a keypoint. Every two-class map has its channels in this order."""

    NORMAL = "normal"
    DEGENERATIVE = "degenerative"


VERTEBRAE: tuple[str, ...] = ("L1", "L2", "L3", "L4", "L5")
DISCS: tuple[str, ...] = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")

# This disc is annotated in SDID-TC and in SPIDER but is not a target of the paper (reading 18).
UPPER_DISC = "T12-L1"


@dataclass(frozen=True, slots=True)
class Landmark:
    """One of the ten keypoints: a structure and its level."""

    structure: Structure
    level: str

    def __post_init__(self) -> None:
        allowed = levels_of(self.structure)
        if self.level not in allowed:
            allowed_text = ", ".join(allowed)
            raise ValueError(f"{self.level!r} is not a {self.structure.value} level; allowed: {allowed_text}")

    @property
    def name(self) -> str:
        """Unambiguous short name, e.g. ``"L4"`` or ``"L4-L5"``."""
        return self.level


def levels_of(structure: Structure) -> tuple[str, ...]:
    """The five levels of a structure, top to bottom."""
    return DISCS if Structure(structure) is Structure.DISC else VERTEBRAE


# L1, L1-L2, L2, ..., L5, L5-S1: the order in which a reader goes down the spine.
READING_ORDER: tuple[Landmark, ...] = tuple(
    landmark
    for vertebra, disc in zip(VERTEBRAE, DISCS, strict=True)
    for landmark in (Landmark(Structure.VERTEBRA, vertebra), Landmark(Structure.DISC, disc))
)
