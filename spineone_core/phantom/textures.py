"""Smooth random fields: the grain of fat, muscle, marrow and bowel."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from spineone_core.arrays import AnyFloats


class Textures:
    """Smooth random fields, the same for the same seed. They shift from slice to slice so that neighbours resemble each other."""

    def __init__(self, rng: np.random.Generator, rows: int, columns: int, pixel: float) -> None:
        self._rng, self._shape, self._pixel = rng, (rows, columns), pixel
        self.fine = self.field(1.1)
        self.middle = self.field(3.5)
        self.streaks = 0.75 * self.field(2.2, 14.0) + 0.5 * self.field(1.4, 5.0)
        self._coarse_sources = [rng.normal(size=(5, 40, 40)).astype(np.float32) for _ in range(2)]

    def field(self, across_mm: float, along_mm: float | None = None) -> AnyFloats:
        """A field of zero mean and about unit variance, with detail of the given size across columns and down rows."""
        rows, columns = self._shape
        along_mm = along_mm or across_mm
        small = (
            max(4, min(rows, round(rows * self._pixel / along_mm))),
            max(4, min(columns, round(columns * self._pixel / across_mm))),
        )
        return enlarge(self._rng.normal(size=small).astype(np.float32), rows, columns)

    def coarse(self, which: int, depth: float, cell_mm: float) -> AnyFloats:
        """Blobs of ``cell_mm`` that change over about 20 mm of ``depth`` (x in mm)."""
        rows, columns = self._shape
        source = self._coarse_sources[which]
        place = (depth / 22.0) % len(source)
        low, part = int(place) % len(source), place - int(place)
        angle = part * math.pi / 2
        mixed = source[low] * math.cos(angle) + source[(low + 1) % len(source)] * math.sin(angle)
        height = max(3, min(40, round(rows * self._pixel / cell_mm)))
        width = max(3, min(40, round(columns * self._pixel / cell_mm)))
        return enlarge(mixed[:height, :width], rows, columns)


def enlarge(small: AnyFloats, rows: int, columns: int) -> AnyFloats:
    """A coarse field as a smooth picture of (rows, columns)."""
    picture = Image.fromarray(np.ascontiguousarray(small))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BICUBIC), dtype=np.float32)
