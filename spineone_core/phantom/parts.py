"""The parts of a phantom patient, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spineone_core.anatomy import VERTEBRAE, Grade

# Enough vertebrae above L1 for a field of view of 400 mm, and the sacrum below L5.
THORACIC = tuple(f"T{n}" for n in range(3, 13))
SACRAL = ("S1", "S2", "S3", "S4", "S5")
COLUMN = (*THORACIC, *VERTEBRAE, *SACRAL)


@dataclass(frozen=True, slots=True)
class Part:
    """Where a body or disc lies: centre (y, z) in mm, angle in radians, sizes and lateral offset in mm, rotation."""

    name: str
    y: float
    z: float
    angle: float
    height: float
    depth: float
    wedge: float
    half_width: float
    lateral: float
    rotation: float

    def local_to_anatomy(self, behind: float, below: float) -> tuple[float, float]:
        """(y, z) of the point that lies ``behind`` mm posterior to the centre and ``below`` mm down the axis."""
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        return self.y + behind * cosine + below * sine, self.z + behind * sine - below * cosine


@dataclass(frozen=True, slots=True)
class Band:
    """A Modic-like change along an endplate: ``side`` -1 upper, +1 lower; signal factor, thickness and centre in mm."""

    side: int
    signal: float
    thickness: float
    centre: float
    half_length: float


@dataclass(frozen=True, slots=True)
class Body:
    """A vertebral body and its changes. Concavity, waist and osteophytes are in mm; vein goes from -1 (dark) to 1 (bright)."""

    part: Part
    concavity: tuple[float, float]
    waist: tuple[float, float]
    osteophytes: tuple[float, float, float, float]
    bands: tuple[Band, ...]
    roughness: float
    vein: float
    grade: Grade


@dataclass(frozen=True, slots=True)
class Node:
    """A Schmorl node into the body above (-1) or below (+1), ``centre`` mm from the disc's middle; radius and lateral in mm."""

    side: int
    centre: float
    radius: float
    lateral: float


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc: the signal of its nucleus relative to a healthy one, bulge and protrusion in mm beyond the body's walls."""

    part: Part
    concavity: tuple[float, float]
    nucleus: float
    cleft: float
    bulge: tuple[float, float]
    protrusion: float
    protrusion_lateral: float
    protrusion_below: float
    fissure: float
    nodes: tuple[Node, ...]
    grade: Grade
