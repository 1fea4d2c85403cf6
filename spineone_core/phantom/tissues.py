"""Signal of each tissue in every contrast that a phantom can have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spineone_core.phantom.config import Contrast


@dataclass(frozen=True, slots=True)
class Tissues:
    """Signal of each tissue; the brightest is about 1."""

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
STIR = Tissues(
    fat=0.10, marrow=0.14, cortex=0.03, nucleus=0.62, annulus=0.10, csf=1.0, cord=0.45, roots=0.48, muscle=0.22,
    vessel=0.05, vessel_wall=0.22, bowel=0.40, ligament=0.05, visceral_fat=0.09, nerve=0.42,
)  # fmt: skip
WATER = Tissues(
    fat=0.14, marrow=0.36, cortex=0.05, nucleus=0.92, annulus=0.72, csf=0.95, cord=0.82, roots=0.85, muscle=0.42,
    vessel=0.55, vessel_wall=0.35, bowel=0.30, ligament=0.12, visceral_fat=0.15, nerve=0.55,
)  # fmt: skip
FAT = Tissues(
    fat=1.0, marrow=0.62, cortex=0.04, nucleus=0.07, annulus=0.05, csf=0.04, cord=0.06, roots=0.06, muscle=0.08,
    vessel=0.03, vessel_wall=0.06, bowel=0.08, ligament=0.04, visceral_fat=0.75, nerve=0.10,
)  # fmt: skip
# The signals of a contrast, and how widely they vary from exam to exam (log-normal); of gradient echoes most.
TISSUES: dict[Contrast, tuple[Tissues, float]] = {
    "t2": (T2, 0.14),
    "t1": (T1, 0.14),
    "stir": (STIR, 0.14),
    "water": (WATER, 0.22),
    "fat": (FAT, 0.22),
}


def vary(tissues: Tissues, rng: np.random.Generator, spread: float) -> Tissues:
    """The tissues with each signal multiplied by a log-normal factor of the given spread."""
    names = Tissues.__dataclass_fields__
    factors = np.exp(rng.normal(0, spread, len(names)))
    return Tissues(**{n: float(getattr(tissues, n) * f) for n, f in zip(names, factors, strict=True)})
