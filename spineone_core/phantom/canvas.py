"""What is painted on: the signal of a plane, and the centroids of the shapes painted there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spineone_core.arrays import AnyFloats
from spineone_core.phantom.plane import Plane, Window


@dataclass(slots=True)
class Centroids:
    """The centroid of each named shape in (column, row), pixel centres at integers."""

    points: dict[str, tuple[float, float]]

    def add(self, name: str, coverage: AnyFloats, rows: slice, columns: slice) -> None:
        """Take in a shape by how much of each of the window's pixels it covers; one of at most four pixels does not count."""
        by_column, by_row = coverage.sum(axis=0, dtype=np.float64), coverage.sum(axis=1, dtype=np.float64)
        total = by_column.sum()
        if total > 4:
            x = float(by_column @ np.arange(columns.start, columns.stop) / total)
            y = float(by_row @ np.arange(rows.start, rows.stop) / total)
            self.points[name] = (x, y)


class Canvas:
    """The signal that is painted so far, and the plane it lies on."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.signal: AnyFloats = np.zeros((0, 0), np.float32)

    def over(self, value: AnyFloats | float, cover: AnyFloats, window: Window | None = None) -> None:
        """Paint ``value`` as strongly as ``cover`` (0 to 1) says, on the whole picture or in a window."""
        below = self.signal if window is None else self.signal[window]
        below += (value - below) * cover

    def windows(self, centre: tuple[float, float], radius: float) -> Iterator[Window]:
        """Yields the window that holds a disc of ``radius`` mm around (y, z), nothing where that lies outside the picture."""
        column, row = self.plane.locate(*centre)
        reach_column = radius / math.hypot(*self.plane.along_row) + 1
        reach_row = radius / math.hypot(*self.plane.along_column) + 1
        columns = slice(max(0, int(column - reach_column)), min(self.plane.columns, int(column + reach_column) + 2))
        rows = slice(max(0, int(row - reach_row)), min(self.plane.rows, int(row + reach_row) + 2))
        if columns.start < columns.stop and rows.start < rows.stop:
            yield rows, columns

    def yz(self, window: Window) -> tuple[AnyFloats, AnyFloats]:
        """Anatomical y and z of a window's pixel centres, mm."""
        return self.plane.axis(1, *window), self.plane.axis(2, *window)

    def local(self, window: Window, centre: tuple[float, float], angle: float) -> tuple[AnyFloats, AnyFloats]:
        """How far each pixel lies behind and below ``centre``, in mm, for a part whose axis has the given angle."""
        y, z = self.yz(window)
        y, z = y - np.float32(centre[0]), z - np.float32(centre[1])
        sine, cosine = np.float32(math.sin(angle)), np.float32(math.cos(angle))
        return y * cosine + z * sine, y * sine - z * cosine
