"""The patient behind a phantom: a procedural lumbar spine with degenerative changes, as numbers.

Coordinates are anatomical millimetres: x to the patient's left, y to the back, z to the head; the centre of L3 is the
origin. A part with the angle ``a`` has the axis ``(sin a, -cos a)`` in (y, z), which goes down the spine, and the posterior
direction ``(cos a, sin a)``. Sizes and rates follow measurements of 201 annotated exams (SDID-TC): 36.6 +- 2.5 mm from disc
to disc; the discs L1-L2 .. L5-S1 are degenerative in 35, 52, 70, 87 and 76 %, the vertebrae L1 .. L5 in 69, 76, 84, 90, 86 %.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from spineone_core.anatomy import DISCS, VERTEBRAE
from spineone_core.arrays import FloatArray
from spineone_core.phantom.bodies import make_body, make_disc
from spineone_core.phantom.parts import COLUMN, SACRAL, THORACIC, Body, Disc, Part

DISC_RATES = dict(zip(DISCS, (0.35, 0.52, 0.70, 0.87, 0.76), strict=True))
VERTEBRA_RATES = dict(zip(VERTEBRAE, (0.69, 0.76, 0.84, 0.90, 0.86), strict=True))

# Rim height of bodies and discs and their depth from front to back, in mm, for a spine with 36.6 mm from disc to disc.
_BODY_HEIGHT = {"L1": 26.6, "L2": 27.2, "L3": 27.4, "L4": 27.2, "L5": 26.4, "S1": 28.0, "S2": 22.0, "S3": 19.0}
_BODY_DEPTH = {"L1": 31.5, "L2": 32.5, "L3": 33.5, "L4": 34.0, "L5": 34.0, "S1": 29.0, "S2": 18.0, "S3": 13.0}
_DISC_HEIGHT = {"L1": 7.6, "L2": 8.8, "L3": 9.8, "L4": 10.4, "L5": 9.6, "S1": 2.6, "S2": 1.4, "S3": 1.0, "S4": 1.0}
# Wedge of the disc below a body and of the body itself, in degrees; positive is lordotic (open to the front).
_DISC_WEDGE = {"L1": 3.5, "L2": 5.0, "L3": 6.5, "L4": 9.5, "L5": 12.0, "S1": -3.0, "S2": -8.0, "S3": -10.0, "S4": -12.0}
_BODY_WEDGE = {"L1": -2.0, "L2": -0.5, "L3": 1.0, "L4": 2.5, "L5": 8.0, "S1": -4.0, "S2": -6.0, "S3": -6.0}
# What a lumbarised S1 grows into: heights and depths of S1 and S2, the height of the disc between them, and wedges.
_LUMBAR_HEIGHT = {"S1": 27.0, "S2": 26.0}
_LUMBAR_DEPTH = {"S1": 33.0, "S2": 27.0}
_LUMBAR_GAP, _LUMBAR_GAP_WEDGE, _LUMBAR_BODY_WEDGE = 8.5, 7.0, 3.0


@dataclass(frozen=True, slots=True)
class Patient:
    """A whole phantom patient. Lengths in mm."""

    bodies: tuple[Body, ...]
    discs: tuple[Disc, ...]
    canal_depth: float
    canal_half_width: float
    conus_z: float
    fat_behind: float
    muscle_depth: float
    abdomen_depth: float
    aorta_radius: float
    aorta_lateral: float
    process_length: float
    sacral_fat: float
    muscle_fat: float

    def disc(self, name: str) -> Disc:
        """The disc with this name, such as ``L4-L5``."""
        return next(d for d in self.discs if d.part.name == name)

    def body(self, name: str) -> Body:
        """The vertebral body with this name, such as ``L4``."""
        return next(b for b in self.bodies if b.part.name == name)


def make_patient(
    rng: np.random.Generator,
    disc_rates: dict[str, float],
    vertebra_rates: dict[str, float],
    lumbarisation: float = 0.0,
) -> Patient:
    """A random patient.

    Parameters
    ----------
    disc_rates, vertebra_rates
        The chance of each level to be degenerative.
    lumbarisation
        How lumbar S1 looks: 0 is an ordinary sacrum, 1 a square S1 above a tall S1-S2 disc. Names stay as they are.
    """
    age = float(rng.normal())
    severity = {name: _severity(rng, age, rate) for name, rate in {**disc_rates, **vertebra_rates}.items()}
    parts = _column(rng, severity, lumbarisation)
    bodies = [make_body(rng, parts[name], severity.get(name)) for name in COLUMN]
    by_name = {b.part.name: b for b in bodies}
    discs = []
    for upper, lower in itertools.pairwise(COLUMN):
        name = f"{upper}-{lower}"
        rim = (by_name[upper].concavity[1], by_name[lower].concavity[0])
        sacral = (1 - lumbarisation if upper == "S1" else 1.0) if upper in SACRAL else 0.0
        discs.append(make_disc(rng, parts[name], rim, severity.get(name), age, sacral))
    return Patient(bodies=tuple(bodies), discs=tuple(discs), **_surroundings(rng, parts))


def _severity(rng: np.random.Generator, age: float, rate: float) -> float:
    """How far a level lies beyond the threshold of "degenerative", in standard deviations; age links the levels."""
    if rate <= 0 or rate >= 1:
        return math.copysign(0.3 + abs(float(rng.normal())), rate - 0.5)
    latent = 0.65 * age + 0.76 * float(rng.normal())
    return latent - NormalDist().inv_cdf(1 - rate)


def _surroundings(rng: np.random.Generator, parts: dict[str, Part]) -> dict[str, float]:
    return {
        "canal_depth": float(rng.uniform(11.5, 17.5)),
        "canal_half_width": float(rng.uniform(9.5, 12.5)),
        "conus_z": parts["L1"].z + float(rng.normal(-6, 12)),
        "fat_behind": float(rng.gamma(3.0, 9.0) + 5),
        "muscle_depth": float(rng.uniform(34, 52)),
        "abdomen_depth": float(rng.uniform(90, 230)),
        "aorta_radius": float(rng.uniform(6.5, 10)),
        "aorta_lateral": float(rng.uniform(3, 26)),
        "process_length": float(rng.uniform(24, 33)),
        "sacral_fat": float(rng.uniform(1.5, 7)),
        "muscle_fat": float(rng.beta(2, 3)),
    }


# ---------------------------------------------------------------- the column


@dataclass(frozen=True, slots=True)
class _Sizes:
    height: float
    depth: float
    wedge: float
    gap: float
    gap_wedge: float
    slip: float


def _sizes(rng: np.random.Generator, severity: dict[str, float], lumbarisation: float) -> dict[str, _Sizes]:
    scale = float(np.clip(rng.normal(1.055, 0.07), 0.85, 1.26))
    slender = float(rng.normal(1.0, 0.06))
    lordosis = float(np.clip(rng.normal(1.0, 0.35), 0.15, 2.0))
    sizes = {}
    for index, name in enumerate(COLUMN):
        below = COLUMN[index + 1] if index + 1 < len(COLUMN) else ""
        thorax = max(0, len(THORACIC) - index)
        height = _BODY_HEIGHT.get(name, 15.0 if name in SACRAL else 26.2 - 0.75 * thorax)
        depth = _BODY_DEPTH.get(name, 9.0 if name in SACRAL else 31.0 - 0.6 * thorax)
        gap = _DISC_HEIGHT.get(name, 6.8 - 0.35 * thorax)
        gap_wedge, body_wedge = _DISC_WEDGE.get(name, 0.3), _BODY_WEDGE.get(name, -3.2)
        if name in _LUMBAR_HEIGHT:
            height = _mix(height, _LUMBAR_HEIGHT[name], lumbarisation)
            depth = _mix(depth, _LUMBAR_DEPTH[name], lumbarisation)
        if name == "S1":
            gap = _mix(gap, _LUMBAR_GAP, lumbarisation)
            gap_wedge = _mix(gap_wedge, _LUMBAR_GAP_WEDGE, lumbarisation)
            body_wedge = _mix(body_wedge, _LUMBAR_BODY_WEDGE, lumbarisation)
        gap *= _narrowing(rng, severity.get(f"{name}-{below}"))
        height *= _collapse(rng, severity.get(name))
        depth *= scale * slender * float(rng.normal(1, 0.02))
        gap *= scale * float(np.clip(rng.normal(1, 0.08), 0.7, 1.3))
        wedge = math.radians(gap_wedge * lordosis + float(rng.normal(0, 1.5)))
        # A narrow disc cannot have a strong wedge: its lower end keeps two fifths of the height.
        steepest = 2 * math.atan(0.6 * gap / depth)
        sizes[name] = _Sizes(
            height=height * scale * float(rng.normal(1, 0.025)),
            depth=depth,
            wedge=math.radians(body_wedge * (0.5 + 0.5 * lordosis) + float(rng.normal(0, 1.2))),
            gap=gap,
            gap_wedge=float(np.clip(wedge, -steepest, steepest)),
            slip=_slip(rng, name, severity.get(f"{name}-{below}")),
        )
    return sizes


def _mix(first: float, second: float, share: float) -> float:
    return first + share * (second - first)


def _narrowing(rng: np.random.Generator, severity: float | None) -> float:
    if severity is None or severity <= 0:
        return 1.0
    return float(np.clip(1 - rng.uniform(0, 0.35) * severity, 0.28, 1.0))


def _collapse(rng: np.random.Generator, severity: float | None) -> float:
    """Factor of the height: a rare loss of height, as after an old compression fracture."""
    if severity is None or severity <= 0.5 or rng.random() > 0.06:
        return 1.0
    return float(rng.uniform(0.55, 0.88))


def _slip(rng: np.random.Generator, name: str, severity: float | None) -> float:
    """Spondylolisthesis in mm; positive where the part below lies behind the one above."""
    base = float(rng.normal(0, 0.5))
    if severity is None or severity <= 0.3 or name not in ("L3", "L4", "L5"):
        return base
    return base + (float(rng.uniform(2, 8)) if rng.random() < 0.12 else 0.0)


def _column(rng: np.random.Generator, severity: dict[str, float], lumbarisation: float) -> dict[str, Part]:
    """Stack bodies and discs downwards from the topmost, then move the centre of L3 to the origin."""
    sizes = _sizes(rng, severity, lumbarisation)
    parts: dict[str, Part] = {}
    angle, place = 0.0, np.zeros(2)
    for index, name in enumerate(COLUMN):
        size = sizes[name]
        angle += size.wedge / 2 if index else 0.0
        place = place + _down(angle) * size.height / 2
        parts[name] = _part(name, place, angle, size.height, size.depth, size.wedge)
        place, angle = place + _down(angle) * size.height / 2, angle + size.wedge / 2
        if index + 1 == len(COLUMN):
            break
        below = COLUMN[index + 1]
        middle = angle + size.gap_wedge / 2
        place = place + _down(middle) * size.gap / 2 + _back(middle) * size.slip / 2
        depth = (size.depth + sizes[below].depth) / 2
        parts[f"{name}-{below}"] = _part(f"{name}-{below}", place, middle, size.gap, depth, size.gap_wedge)
        place = place + _down(middle) * size.gap / 2 + _back(middle) * size.slip / 2
        angle += size.gap_wedge
    return _posed(rng, parts)


def _part(name: str, place: FloatArray, angle: float, height: float, depth: float, wedge: float) -> Part:
    y, z = map(float, place)
    return Part(name, y, z, angle, height, depth, wedge, 0.72 * depth, 0.0, 0.0)


def _down(angle: float) -> FloatArray:
    return np.array([math.sin(angle), -math.cos(angle)])


def _back(angle: float) -> FloatArray:
    return np.array([math.cos(angle), math.sin(angle)])


def _posed(rng: np.random.Generator, parts: dict[str, Part]) -> dict[str, Part]:
    """Turn the column so that L3 has its usual tilt, put its centre at the origin, add scoliosis and rotation."""
    middle = parts["L3"]
    turn = math.radians(float(rng.normal(0, 3.5))) - middle.angle
    sine, cosine = math.sin(turn), math.cos(turn)
    amplitude = float(rng.normal(0, 2.2))
    phase, wave = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(140, 300))
    twist = float(rng.normal(0, 0.05))
    posed = {}
    for name, part in parts.items():
        y, z = part.y - middle.y, part.z - middle.z
        # Going down, a growing angle turns towards the back: from -z to +y.
        new_y, new_z = cosine * y - sine * z, sine * y + cosine * z
        bend = math.sin(2 * math.pi * new_z / wave + phase) - math.sin(phase)
        posed[name] = Part(
            name=name,
            y=new_y,
            z=new_z,
            angle=part.angle + turn,
            height=part.height,
            depth=part.depth,
            wedge=part.wedge,
            half_width=part.half_width,
            lateral=amplitude * bend,
            rotation=twist * bend,
        )
    return posed
