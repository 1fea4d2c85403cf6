"""The slice plan of a phantom's scanner: matrix, field of view and position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spineone_core.anatomy import DISCS, UPPER_DISC, VERTEBRAE
from spineone_core.arrays import FloatArray
from spineone_core.phantom.anatomy import Patient
from spineone_core.phantom.config import PhantomConfig
from spineone_core.phantom.plane import Plane

# Room between the outermost centres and the border of the picture, across and down (mm): no level may be cut off.
_MARGIN_MM = (27.0, 17.0)
# Room below the lowest of them: who plans a lumbar exam has the first sacral vertebra in view.
_SACRUM_MM = 38.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Where the slices lie in the patient, and the pose of the anatomy in patient space. Lengths are in mm."""

    rows: int
    columns: int
    spacing: float
    slices: int
    step: float
    thickness: float
    row_direction: FloatArray
    column_direction: FloatArray
    corner: FloatArray
    pose: FloatArray
    shift: FloatArray

    @property
    def normal(self) -> FloatArray:
        """Unit vector (3,) across the slices, in patient coordinates."""
        return np.cross(self.row_direction, self.column_direction)

    def origin(self, index: int) -> FloatArray:
        """Patient coordinates of the first pixel's centre of a slice."""
        return self.corner + self.normal * self.step * (index - (self.slices - 1) / 2)

    def plane(self, index: int) -> Plane:
        """The slice in anatomical coordinates."""
        return self.to_anatomy(
            self.origin(index), self.row_direction * self.spacing, self.column_direction * self.spacing
        )

    def to_anatomy(self, origin: FloatArray, along_row: FloatArray, along_column: FloatArray) -> Plane:
        start, row, column = self.pose.T @ (origin - self.shift), self.pose.T @ along_row, self.pose.T @ along_column
        return Plane(_triple(start), _triple(row), _triple(column), self.rows, self.columns)


def _triple(values: FloatArray) -> tuple[float, float, float]:
    x, y, z = map(float, values)
    return x, y, z


def make_plan(rng: np.random.Generator, patient: Patient, config: PhantomConfig) -> Plan:
    """Draw matrix, field of view, slices and pose at random so that all points lie inside the picture."""
    rows = int(rng.choice(config.matrix))
    pose = _turn(rng, config.tilt / 2 if rng.random() < 0.7 else config.tilt, config.obliquity / 2)
    plane_turn = _turn(rng, config.tilt / 4, config.obliquity / 2)
    row, column = plane_turn @ np.array([0.0, 1.0, 0.0]), plane_turn @ np.array([0.0, 0.0, -1.0])
    across, down = _extent(patient, pose.T @ row, pose.T @ column)
    across, down = _widened(across, _MARGIN_MM[0]), _widened(down, _MARGIN_MM[1])
    below = _SACRUM_MM - _MARGIN_MM[1]
    needed = max(across[1] - across[0], down[1] - down[0] + below)
    view = max(float(rng.uniform(*config.field_of_view)), needed)
    spacing = round(float(np.clip(view / rows, *config.spacing)), 4)
    while rows * spacing < needed:
        rows += 32
    columns = rows
    if rng.random() < 0.3:
        share = max(float(rng.uniform(0.6, 1.0)), (across[1] - across[0]) / (rows * spacing))
        columns = min(rows, math.ceil(rows * share / 8) * 8)
    left = _place(rng, across, columns * spacing, 0.18)
    top = max(_place(rng, down, rows * spacing, 0.10), down[1] + below - rows * spacing)
    shift = rng.normal(0, (8, 20, 25))
    beside = float(rng.normal(0, 2.0))
    normal = np.cross(row, column)
    step = float(rng.choice(config.step))
    return Plan(
        rows=rows,
        columns=columns,
        spacing=spacing,
        slices=int(rng.choice(config.slices)),
        step=step,
        thickness=round(step * float(rng.choice([0.8, 0.9, 0.9, 1.0])), 2),
        row_direction=row,
        column_direction=column,
        corner=shift + row * left + column * top + normal * beside,
        pose=pose,
        shift=shift,
    )


def _turn(rng: np.random.Generator, in_plane: float, out_of_plane: float) -> FloatArray:
    """A rotation: up to ``in_plane`` degrees about x, up to ``out_of_plane`` about y and z."""
    angles = np.radians(rng.uniform(-1, 1, 3) * np.array([in_plane, out_of_plane, out_of_plane]))
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def _extent(patient: Patient, row: FloatArray, column: FloatArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """The first and last place of the landmarks along the picture's rows and along its columns, mm from the anatomy's origin."""
    parts = [patient.disc(n).part for n in (UPPER_DISC, *DISCS)] + [patient.body(n).part for n in VERTEBRAE]
    places = np.array([(part.lateral, part.y, part.z) for part in parts])
    across, down = places @ row, places @ column
    return (float(across.min()), float(across.max())), (float(down.min()), float(down.max()))


def _widened(extent: tuple[float, float], margin: float) -> tuple[float, float]:
    return extent[0] - margin, extent[1] + margin


def _place(rng: np.random.Generator, extent: tuple[float, float], length: float, spread: float) -> float:
    """Where the picture begins, so that ``extent`` lies inside it, usually near the middle."""
    earliest, latest = extent[1] - length, extent[0]
    usual = (extent[0] + extent[1]) / 2 - length * float(rng.normal(0.5, spread))
    return float(np.clip(usual, earliest, max(earliest, latest)))
