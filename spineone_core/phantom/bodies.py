"""Random bodies and discs: osteophytes, marrow bands, bulges, Schmorl nodes."""

from __future__ import annotations

import numpy as np

from spineone_core.anatomy import Grade
from spineone_core.phantom.parts import SACRAL, Band, Body, Disc, Node, Part


def make_body(rng: np.random.Generator, part: Part, severity: float | None) -> Body:
    """A body of the given severity (in standard deviations beyond the threshold; None where nobody grades it)."""
    degenerative = severity is not None and severity > 0
    strength = min(severity, 2.5) if degenerative and severity is not None else 0.0
    base = 0.8 if part.name in SACRAL else 1.6
    return Body(
        part=part,
        concavity=_pair(rng, base * float(rng.uniform(0.5, 1.5)), 0.5),
        waist=(float(rng.uniform(0.8, 2.6)), float(rng.uniform(0.3, 1.4))),
        osteophytes=_osteophytes(rng, strength),
        bands=_bands(rng, part, strength),
        roughness=float(rng.uniform(0.05, 0.4)) * strength,
        vein=float(rng.uniform(-0.7, 1.0)) if part.name not in SACRAL else 0.0,
        grade=Grade.DEGENERATIVE if degenerative else Grade.NORMAL,
    )


def _pair(rng: np.random.Generator, mean: float, spread: float) -> tuple[float, float]:
    first, second = np.clip(rng.normal(mean, spread, 2), 0.0, 4.0)
    return float(first), float(second)


def _osteophytes(rng: np.random.Generator, strength: float) -> tuple[float, float, float, float]:
    """Lengths at the front upper, front lower, back upper and back lower corner, mm."""
    if strength <= 0:
        small = rng.uniform(0, 0.5, 4)
        return float(small[0]), float(small[1]), 0.0, 0.0
    lengths = (1.0 + 1.8 * strength) * rng.gamma(1.6, 0.6, 4) * np.array([1, 1, 0.4, 0.4])
    a, b, c, d = np.clip(lengths, 0, 9)
    return float(a), float(b), float(c), float(d)


def _bands(rng: np.random.Generator, part: Part, strength: float) -> tuple[Band, ...]:
    if strength <= 0:
        return ()
    bands = []
    for side in (-1, 1):
        if rng.random() > 0.15 + 0.2 * strength:
            continue
        signal = float(rng.uniform(1.2, 1.75)) if rng.random() < 0.75 else float(rng.uniform(0.35, 0.7))
        thickness = float(rng.uniform(1.5, 3.0 + 2.5 * strength))
        half = part.depth * float(rng.uniform(0.15, 0.5))
        bands.append(Band(side, signal, thickness, float(rng.uniform(-0.35, 0.35)) * part.depth, half))
    return tuple(bands)


def make_disc(
    rng: np.random.Generator,
    part: Part,
    concavity: tuple[float, float],
    severity: float | None,
    age: float,
    sacral: float,
) -> Disc:
    """A disc of the given severity, as `make_body`; ``sacral`` is 0 for a free disc, 1 for one between fused vertebrae."""
    if severity is None:
        # Neighbours above L1 and below S1 follow the patient's age; nobody grades them.
        severity = 0.6 * age + float(rng.normal(-0.5, 0.6))
    degenerative = severity > 0
    strength = min(severity, 2.5) if degenerative else 0.0
    return Disc(
        part=part,
        concavity=concavity,
        nucleus=_nucleus(rng, strength, degenerative) * (1 - 0.4 * sacral),
        cleft=float(rng.uniform(0.1, 0.7)),
        bulge=_bulge(rng, strength, sacral),
        protrusion=0.0 if sacral else _protrusion(rng, strength),
        protrusion_lateral=float(rng.normal(0, 5)),
        protrusion_below=float(rng.normal(0.5, 2)),
        fissure=float(rng.uniform(0.4, 1.0)) if degenerative and rng.random() < 0.2 else 0.0,
        nodes=_nodes(rng, part, strength) if not sacral else (),
        grade=Grade.DEGENERATIVE if degenerative else Grade.NORMAL,
    )


def _nucleus(rng: np.random.Generator, strength: float, degenerative: bool) -> float:
    """Signal of the nucleus: 1 healthy, 0 as dark as the annulus."""
    if not degenerative:
        return float(rng.uniform(0.62, 1.0))
    if strength < 1 and rng.random() < 0.12:
        return float(rng.uniform(0.6, 0.9))  # called degenerative for its bulge, not for its signal
    return float(np.clip(0.46 - 0.25 * strength + rng.normal(0, 0.12), 0.0, 0.65))


def _bulge(rng: np.random.Generator, strength: float, sacral: float) -> tuple[float, float]:
    """How far the disc bulges beyond the front and the back wall, mm."""
    if sacral:
        return -2.5 * sacral, -1.0 * sacral
    front = float(rng.normal(0.3, 0.5)) + float(rng.uniform(0, 1.2)) * strength
    back = float(rng.normal(0.0, 0.4)) + float(rng.uniform(0.2, 1.6)) * strength
    return front, min(back, 4.5)


def _protrusion(rng: np.random.Generator, strength: float) -> float:
    return float(rng.uniform(2.5, 8)) if strength > 0 and rng.random() < 0.12 + 0.12 * strength else 0.0


def _nodes(rng: np.random.Generator, part: Part, strength: float) -> tuple[Node, ...]:
    """Holes in the endplates: round Schmorl nodes and small erosions."""
    if strength <= 0:
        return ()
    nodes = []
    for side in (-1, 1):
        if rng.random() < 0.1 + 0.12 * strength:
            centre, radius = float(rng.uniform(-0.35, 0.35)) * part.depth, float(rng.uniform(1.5, 5.0))
            nodes.append(Node(side, centre, radius, float(rng.normal(0, 7))))
    return tuple(nodes)
