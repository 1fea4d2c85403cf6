"""The plane that is painted: where its pixels lie in the anatomy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spineone_core.arrays import AnyFloats

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Plane:
    """Where pixels lie: anatomical (x, y, z) of pixel (0, 0) and the steps along a row and down a column, in mm."""

    origin: tuple[float, float, float]
    along_row: tuple[float, float, float]
    along_column: tuple[float, float, float]
    rows: int
    columns: int

    @property
    def pixel(self) -> float:
        """Side of a square pixel of the same area, mm."""
        return math.sqrt(math.hypot(*self.along_row) * math.hypot(*self.along_column))

    @property
    def depth(self) -> float:
        """x where the plane passes the centre of L3, mm."""
        return self.x_at(0.0, 0.0)

    def axis(self, index: int, rows: slice, columns: slice) -> AnyFloats:
        """Coordinate ``index`` (0 x, 1 y, 2 z) of a window's pixel centres."""
        column = np.arange(columns.start, columns.stop, dtype=np.float32) * np.float32(self.along_row[index])
        row = np.arange(rows.start, rows.stop, dtype=np.float32) * np.float32(self.along_column[index])
        return row[:, None] + (column + np.float32(self.origin[index]))[None, :]

    def locate(self, y: float, z: float) -> tuple[float, float]:
        """Column and row of an anatomical (y, z)."""
        ay, az, by, bz = *self.along_row[1:], *self.along_column[1:]
        dy, dz, area = y - self.origin[1], z - self.origin[2], ay * bz - by * az
        return (dy * bz - dz * by) / area, (ay * dz - az * dy) / area

    def x_at(self, y: float, z: float) -> float:
        """x where the plane passes an anatomical (y, z), mm."""
        column, row = self.locate(y, z)
        return self.origin[0] + column * self.along_row[0] + row * self.along_column[0]
