"""Signal of each tissue in T1 and T2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Tissues:
    """Signal of each tissue; subcutaneous fat is about 1."""

    fat: float
    marrow: float
    cortex: float
    nucleus: float
    annulus: float
    csf: float
    cord: float
    roots: float
    muscle: float
    vessel: float
    vessel_wall: float
    bowel: float
    ligament: float
    visceral_fat: float
    nerve: float


T2 = Tissues(
    fat=0.92, marrow=0.53, cortex=0.04, nucleus=0.50, annulus=0.08, csf=1.0, cord=0.42, roots=0.45, muscle=0.17,
    vessel=0.04, vessel_wall=0.25, bowel=0.36, ligament=0.06, visceral_fat=0.55, nerve=0.3,
)  # fmt: skip
T1 = Tissues(
    fat=1.0, marrow=0.5, cortex=0.06, nucleus=0.3, annulus=0.22, csf=0.13, cord=0.34, roots=0.28, muscle=0.27,
    vessel=0.05, vessel_wall=0.2, bowel=0.33, ligament=0.09, visceral_fat=0.75, nerve=0.3,
)  # fmt: skip


def vary(tissues: Tissues, rng: np.random.Generator, spread: float) -> Tissues:
    """The tissues with each signal multiplied by a log-normal factor of the given spread."""
    names = Tissues.__dataclass_fields__
    factors = np.exp(rng.normal(0, spread, len(names)))
    return Tissues(**{n: float(getattr(tissues, n) * f) for n, f in zip(names, factors, strict=True)})
