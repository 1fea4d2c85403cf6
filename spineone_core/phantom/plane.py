"""The plane that is painted, what lies under the brush, and random texture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]
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
        return math.sqrt(math.hypot(*self.along_row) * math.hypot(*self.along_column))

    @property
    def depth(self) -> float:
        """x where the plane passes the centre of L3, mm."""
        return self.x_at(0.0, 0.0)

    def axis(self, index: int, rows: slice, columns: slice) -> Floats:
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
        column, row = self.locate(y, z)
        return self.origin[0] + column * self.along_row[0] + row * self.along_column[0]


@dataclass(slots=True)
class Centroids:
    """Sums over a shape's coverage: the centroid of each named shape in (column, row), pixel centres at integers."""

    points: dict[str, tuple[float, float]]

    def add(self, name: str, coverage: Floats, rows: slice, columns: slice) -> None:
        by_column, by_row = coverage.sum(axis=0, dtype=np.float64), coverage.sum(axis=1, dtype=np.float64)
        total = by_column.sum()
        if total > 4:
            x = float(by_column @ np.arange(columns.start, columns.stop) / total)
            y = float(by_row @ np.arange(rows.start, rows.stop) / total)
            self.points[name] = (x, y)


class Textures:
    """Smooth random fields, the same for a seed, shifted from slice to slice so that neighbours resemble each other."""

    def __init__(self, rng: np.random.Generator, rows: int, columns: int, pixel: float) -> None:
        self._rng, self._shape, self._pixel = rng, (rows, columns), pixel
        self.fine = self.field(1.1)
        self.middle = self.field(3.5)
        self.streaks = 0.75 * self.field(2.2, 14.0) + 0.5 * self.field(1.4, 5.0)
        self._coarse_sources = [rng.normal(size=(5, 40, 40)).astype(np.float32) for _ in range(2)]

    def field(self, across_mm: float, along_mm: float | None = None) -> Floats:
        """Zero mean, about unit variance; detail of the given size across columns and down rows."""
        rows, columns = self._shape
        along_mm = along_mm or across_mm
        small = (
            max(4, min(rows, round(rows * self._pixel / along_mm))),
            max(4, min(columns, round(columns * self._pixel / across_mm))),
        )
        return enlarge(self._rng.normal(size=small).astype(np.float32), rows, columns)

    def coarse(self, which: int, depth: float, cell_mm: float) -> Floats:
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


def enlarge(small: Floats, rows: int, columns: int) -> Floats:
    """A coarse field as a smooth picture of (rows, columns)."""
    picture = Image.fromarray(np.ascontiguousarray(small))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BICUBIC), dtype=np.float32)


class Canvas:
    """The signal under the brush and the plane it lies on."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.signal: Floats = np.zeros((0, 0), np.float32)

    def over(self, value: Floats | float, cover: Floats, window: Window | None = None) -> None:
        """Paint ``value`` where ``cover`` (0 to 1) says, on the whole picture or in a window."""
        below = self.signal if window is None else self.signal[window]
        below += (value - below) * cover

    def windows(self, centre: tuple[float, float], radius: float) -> Iterator[Window]:
        """The window that holds a disc of ``radius`` mm around (y, z), or nothing where it lies outside."""
        column, row = self.plane.locate(*centre)
        reach_column = radius / math.hypot(*self.plane.along_row) + 1
        reach_row = radius / math.hypot(*self.plane.along_column) + 1
        columns = slice(max(0, int(column - reach_column)), min(self.plane.columns, int(column + reach_column) + 2))
        rows = slice(max(0, int(row - reach_row)), min(self.plane.rows, int(row + reach_row) + 2))
        if columns.start < columns.stop and rows.start < rows.stop:
            yield rows, columns

    def yz(self, window: Window) -> tuple[Floats, Floats]:
        return self.plane.axis(1, *window), self.plane.axis(2, *window)

    def local(self, window: Window, centre: tuple[float, float], angle: float) -> tuple[Floats, Floats]:
        """How far behind and below ``centre`` each pixel lies, along an axis of ``angle``, in mm."""
        y, z = self.yz(window)
        y, z = y - np.float32(centre[0]), z - np.float32(centre[1])
        sine, cosine = np.float32(math.sin(angle)), np.float32(math.cos(angle))
        return y * cosine + z * sine, y * sine - z * cosine
