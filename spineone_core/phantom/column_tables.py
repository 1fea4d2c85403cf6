"""Tables along the spine: walls, depths and angles for each half millimetre of height."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spineone_core.arrays import AnyFloats
from spineone_core.phantom.anatomy import Patient
from spineone_core.phantom.parts import Part
from spineone_core.phantom.plane import Plane

# The tables have a row for each of these steps, from TOP downwards (mm).
STEP = 0.5
TOP, _BOTTOM = 330.0, -330.0


@dataclass(frozen=True, slots=True)
class ColumnTables:
    """Values for each half millimetre of z, from the top: walls, depths and angles (mm)."""

    back: AnyFloats
    front: AnyFloats
    cosine: AnyFloats
    lateral: AnyFloats
    canal_depth: AnyFloats
    fat_in_front: AnyFloats
    narrowing: AnyFloats
    fascia: AnyFloats
    skin: AnyFloats
    belly: AnyFloats
    sac_end: float

    def lateral_offset(self, plane: Plane) -> AnyFloats:
        """How far beside the middle of the canal a plane lies at each height, mm."""
        top, bottom = plane.x_at(0, TOP), plane.x_at(0, _BOTTOM)
        return np.linspace(top, bottom, len(self.lateral), dtype=np.float32) - self.lateral


def z_table() -> AnyFloats:
    """z of each row of the tables, mm."""
    return np.arange(TOP, _BOTTOM, -STEP, dtype=np.float32)


def z_of(index: NDArray[np.intp]) -> AnyFloats:
    """z of the given rows of the tables, mm."""
    return np.float32(TOP) - np.float32(STEP) * index.astype(np.float32)


def column_tables(patient: Patient) -> ColumnTables:
    """The tables of a patient's column, canal and outlines."""
    z = z_table()
    back, front = (_wall(patient, side, z) for side in (1, -1))
    slope = np.gradient(back, -STEP)
    sacrum = patient.body("S1").part
    low = np.clip((sacrum.z + 6 - z) / 30, 0, 1)
    lower = patient.body("S2").part
    sac_end = lower.local_to_anatomy(lower.depth / 2, lower.height * 0.3)[1]
    taper = np.clip((z - sac_end) / 45, 0.0, 1)
    fascia = _smooth(np.maximum(back, back[np.searchsorted(-z, 60.0)]) + patient.canal_depth + patient.muscle_depth, 90)
    fascia = np.minimum(fascia, _smooth(back, 30) + patient.canal_depth + patient.muscle_depth + 4)
    buttock = np.clip((sacrum.z - z) / 70, 0, 1) ** 2 * 22
    skin = _smooth(fascia + patient.fat_behind + buttock, 50)
    return ColumnTables(
        back=back,
        front=front,
        cosine=(1 / np.sqrt(1 + slope**2)).astype(np.float32),
        lateral=np.interp(-z, *_along(patient, lambda part: part.lateral)).astype(np.float32),
        canal_depth=(patient.canal_depth * (0.35 + 0.65 * taper)).astype(np.float32),
        fat_in_front=(patient.sacral_fat * low).astype(np.float32),
        narrowing=_narrowing(patient, z) + ((1 - taper) * 2).astype(np.float32),
        fascia=fascia.astype(np.float32),
        skin=skin.astype(np.float32),
        belly=(_smooth(front, 120) - patient.abdomen_depth).astype(np.float32),
        sac_end=sac_end,
    )


def _along(patient: Patient, value: Callable[[Part], float]) -> tuple[list[float], list[float]]:
    parts = [b.part for b in patient.bodies]
    return [-p.z for p in parts], [value(p) for p in parts]


def _wall(patient: Patient, side: int, z: AnyFloats) -> AnyFloats:
    """y of the column's back (+1) or front (-1) wall for each z."""
    points = []
    for body in patient.bodies:
        part = body.part
        for below in (-0.42, 0.0, 0.42):
            points.append(part.local_to_anatomy(side * (part.depth / 2 - 0.5), below * part.height))
    heights = np.minimum.accumulate([point[1] for point in points])
    wall = np.interp(-z, -heights, [point[0] for point in points])
    return _smooth(wall, 8).astype(np.float32)


def _narrowing(patient: Patient, z: AnyFloats) -> AnyFloats:
    """How much thick ligaments behind degenerate discs take from the sac, mm."""
    total = np.zeros_like(z)
    for disc in patient.discs:
        if disc.part.name.startswith("S"):
            continue
        place = disc.part.local_to_anatomy(disc.part.depth / 2, 0)[1]
        total += (0.8 + 0.9 * max(0.0, disc.bulge[1])) * np.exp(-(((z - place) / 6.5) ** 2))
    return np.minimum(total, patient.canal_depth * 0.45).astype(np.float32)


def _smooth(values: AnyFloats, length_mm: float) -> AnyFloats:
    size = max(1, round(length_mm / STEP)) | 1
    padded = np.pad(values, size // 2, mode="edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    return ((total[size:] - total[:-size]) / size).astype(np.float32)
