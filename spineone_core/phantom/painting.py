"""Paints a phantom patient on a plane: noise-free signal, and how much of each pixel every disc and body fills.

Everything is painted in order from the back of the picture forward, with edges softened by about a pixel, so that a
shape's coverage is its partial volume and the coverage-weighted mean of the pixel places is its centroid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spineone_core.phantom.anatomy import Body, Disc, Node, Part, Patient

Floats = NDArray[np.floating[Any]]
Window = tuple[slice, slice]

# Tables along the spine have one row for each of these steps, from TOP downwards (mm).
_STEP = 0.5
_TOP, _BOTTOM = 330.0, -330.0


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
    """Each signal times a log-normal factor of the given spread."""
    names = Tissues.__dataclass_fields__
    factors = np.exp(rng.normal(0, spread, len(names)))
    return Tissues(**{n: float(getattr(tissues, n) * f) for n, f in zip(names, factors, strict=True)})


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


# ---------------------------------------------------------------- painting


class Painter:
    """Paints one patient with one set of tissues on planes of one size."""

    def __init__(self, patient: Patient, tissues: Tissues, textures: Textures, looks: np.random.Generator) -> None:
        self.patient, self.tissues, self.textures = patient, tissues, textures
        self._column = _column_tables(patient)
        self._marrow = {b.part.name: float(np.exp(looks.normal(0, 0.07))) for b in patient.bodies}
        self._clutter = float(looks.uniform(0.2, 1.0))
        self._blobs = _pelvic_blobs(looks, patient)
        self._grain = float(looks.uniform(0.05, 0.13))
        self._hydration = float(np.exp(looks.normal(0, 0.3)))

    def paint(self, plane: Plane) -> tuple[Floats, dict[str, tuple[float, float]]]:
        """Signal (rows, columns), fat about 1, air 0; and the centroid of every disc and body on this plane."""
        canvas = _Canvas(plane)
        centroids = Centroids({})
        whole = (slice(0, plane.rows), slice(0, plane.columns))
        y, z = plane.axis(1, *whole), plane.axis(2, *whole)
        index = np.clip((_TOP - z) / _STEP, 0, len(self._column.back) - 1).astype(np.intp)
        behind = (y - self._column.back[index]) * self._column.cosine[index]
        self._soft_tissue(canvas, y, index, behind)
        self._vessels(canvas, y, index)
        self._canal(canvas, index, behind, _near(behind, -8, 34))
        for disc in self.patient.discs:
            self._fat_pad(canvas, disc.part)
        for body in self.patient.bodies:
            self._posterior_elements(canvas, body)
        for body in self.patient.bodies:
            self._body(canvas, body, centroids)
        for disc in self.patient.discs:
            self._disc(canvas, disc, centroids)
        self._skin(canvas, y, index)
        return np.maximum(canvas.signal, 0), centroids.points

    # -- soft tissue

    def _soft_tissue(self, canvas: _Canvas, y: Floats, index: NDArray[np.intp], behind: Floats) -> None:
        t, plane, tissues = self._column, canvas.plane, self.tissues
        depth = plane.depth
        canvas.signal = self._belly(depth)
        muscle = self._muscle(depth)
        canvas.over(muscle, np.clip((behind - 4) / 4 + 0.5, 0, 1))
        fat = tissues.fat * (1 + 0.05 * self.textures.middle)
        fascia = (y - t.fascia[index]) / max(1.0, plane.pixel)
        canvas.over(tissues.ligament, np.clip(1.2 - np.abs(fascia), 0, 1))
        canvas.over(fat, np.clip(fascia + 0.5, 0, 1))
        if abs(depth) > 16:
            amount = _ramp(abs(depth), 16, 26) - _ramp(abs(depth), 44, 54)
            psoas = _soft(np.abs(behind + 14) - 17 - 0.4 * self.textures.middle, 3.0) * amount
            canvas.over(tissues.muscle, psoas * np.clip((40 - np.abs(z_of(index) + 45)) / 40 + 1, 0, 1))

    def _belly(self, depth: float) -> Floats:
        """Fat with loops of bowel: walls, content and gas, changing slowly from slice to slice."""
        tissues, middle = self.tissues, self.textures.middle
        loops, kinds = self.textures.coarse(0, depth, 24.0), self.textures.coarse(1, depth + 7, 16.0)
        strands = np.roll(self.textures.streaks, round(depth * 2), axis=0)
        fat = tissues.visceral_fat * (1 + 0.15 * kinds + 0.10 * middle + 0.12 * self._clutter * strands)
        content = tissues.bowel * (1 + 0.35 * kinds + 0.18 * middle)
        content += (0.04 - content) * np.clip(3 * (kinds - 0.8), 0, 1)
        content += (tissues.csf * 0.8 - content) * np.clip(3 * (-kinds - 1.2), 0, 1)
        rim = loops + 0.25 * middle - 0.9 + 0.7 * self._clutter
        wall = np.clip(1 - np.abs(rim) * 5, 0, 1) * 0.5
        belly: Floats = fat + (content - fat) * np.clip(rim * 4 + 0.5, 0, 1)
        return belly + (tissues.muscle - belly) * wall

    def _muscle(self, depth: float) -> Floats:
        """Back muscle with streaks of fat, more of it in the middle and in fatty patients."""
        tissues = self.tissues
        amount = self.patient.muscle_fat * (0.55 if abs(depth) > 12 else 0.9)
        grain = np.roll(self.textures.streaks, round(depth * 3), axis=0) * 0.2 + 0.18 * self.textures.middle
        # Between the spinous processes there is ligament and fat rather than muscle.
        between = (1 - _ramp(abs(depth), 3, 9)) * 0.25
        return tissues.muscle + (tissues.fat * 0.8 - tissues.muscle) * np.clip(grain + amount * 0.8 + between, 0, 1)

    def _skin(self, canvas: _Canvas, y: Floats, index: NDArray[np.intp]) -> None:
        t, pixel = self._column, max(0.8, canvas.plane.pixel)
        out = (y - t.skin[index]) / pixel
        canvas.over(self.tissues.muscle * 1.6, np.clip(1.4 - np.abs(out + 1), 0, 1))
        canvas.over(0.0, np.clip(out + 0.5, 0, 1))
        front = (t.belly[index] - y) / pixel
        canvas.over(self.tissues.fat, np.clip(front + 0.5 + 18 / pixel, 0, 1))
        canvas.over(0.0, np.clip(front + 0.5, 0, 1))

    def _vessels(self, canvas: _Canvas, y: Floats, index: NDArray[np.intp]) -> None:
        """Aorta and caval vein in front of the column down to L4, iliac vessels and pelvic organs below."""
        t, patient, plane, tissues = self._column, self.patient, canvas.plane, self.tissues
        depth = plane.depth
        gap = t.front[index] - y
        canvas.over(tissues.ligament, 0.6 * np.clip(1.3 - np.abs(gap - 0.8) / max(0.8, plane.pixel), 0, 1))
        end = patient.body("L4").part.z - 8
        above = np.clip((z_of(index) - end) / 6 + 0.5, 0, 1)
        for lateral, radius, signal in (
            (patient.aorta_lateral, patient.aorta_radius, tissues.vessel),
            (patient.aorta_lateral - 34, patient.aorta_radius * 1.15, tissues.vessel * 2),
        ):
            half = radius**2 - (depth - lateral) ** 2
            if half > 4:
                self._tube(canvas, gap - 3.5 - radius, math.sqrt(half), signal, above)
        for blob_y, blob_z, blob_x, radius, inner, wall in self._blobs:
            half = radius**2 - ((depth - blob_x) * 0.7) ** 2
            if half > 9:
                self._blob(canvas, (blob_y, blob_z), math.sqrt(half), inner, wall)

    def _tube(self, canvas: _Canvas, away: Floats, half: float, signal: float, along: Floats) -> None:
        distance = np.abs(away) - half
        canvas.over(self.tissues.vessel_wall, _soft(distance - 1.2, canvas.plane.pixel) * along)
        canvas.over(signal, _soft(distance, canvas.plane.pixel + 0.6) * along)

    def _blob(self, canvas: _Canvas, centre: tuple[float, float], radius: float, inner: float, wall: float) -> None:
        for window in canvas.windows(centre, radius + 5):
            y, z = canvas.yz(window)
            wobble = 0.12 * radius * self.textures.middle[window]
            distance = np.hypot(y - centre[0], (z - centre[1]) * 1.15) - radius + wobble
            canvas.over(wall, _soft(distance - 2, canvas.plane.pixel + 0.5), window)
            canvas.over(inner, _soft(distance, canvas.plane.pixel + 0.5), window)

    # -- canal

    def _canal(self, canvas: _Canvas, index: NDArray[np.intp], behind: Floats, window: Window) -> None:
        """Epidural fat, thecal sac with cord or roots, and the ligaments in front of and behind it."""
        t, patient, plane, tissues = self._column, self.patient, canvas.plane, self.tissues
        pixel = plane.pixel
        x = t.lateral_offset(plane)
        canal = _half_width(x, patient.canal_half_width + 2)
        sac = _half_width(x, patient.canal_half_width - 1)
        if window[1].start == window[1].stop or not canal.any():
            return
        index, behind = index[window], behind[window]
        depth = t.canal_depth
        fat_front = t.fat_in_front + 0.8
        sac_depth = (depth - fat_front - t.narrowing) * sac
        middle = fat_front + (depth - fat_front - t.narrowing) / 2
        inside = _soft(np.abs(behind - (depth / 2)[index]) - (depth / 2 * canal)[index] - 2.2, pixel + 0.4)
        canvas.over(tissues.ligament, inside * (canal > 0)[index], window)
        fat = _soft(np.abs(behind - (depth / 2)[index]) - (depth / 2 * canal)[index] + 0.3, pixel + 0.4)
        canvas.over(tissues.fat * 0.85, fat * (canal > 0.05)[index], window)
        from_middle = behind - middle[index]
        edge = np.abs(from_middle) - (sac_depth / 2)[index]
        present = ((sac > 0.05) & (z_table() > t.sac_end))[index]
        canvas.over(tissues.ligament * 2, _soft(edge - 0.5, pixel + 0.3) * present, window)
        if present.any():
            self._sac(canvas, index, from_middle, _soft(edge, pixel + 0.3) * present, window)

    def _sac(
        self, canvas: _Canvas, index: NDArray[np.intp], from_middle: Floats, cover: Floats, window: Window
    ) -> None:
        t, plane, tissues = self._column, canvas.plane, self.tissues
        x = t.lateral_offset(plane)
        fluid = tissues.csf * (1 + 0.03 * self.textures.middle[window])
        canvas.over(fluid, cover, window)
        below = np.clip((self.patient.conus_z - z_table()) / 30, 0, 1)
        cord = 4.2 * np.sqrt(np.clip(1 - below * 1.2, 0, 1)) * _half_width(x, 4.8)
        shown = np.clip(cord, 0, 1)[index] * cover
        canvas.over(tissues.cord, _soft(np.abs(from_middle + 0.5) - cord[index], plane.pixel + 0.5) * shown, window)
        # Roots hang at the back of the sac (supine) and thin out downwards; single threads show as streaks.
        share = np.clip(below * 3, 0, 1) * np.clip((z_table() - t.sac_end) / 160, 0.12, 0.75)
        layer = np.clip((from_middle - 0.2) / 3.5, 0, 1) * share[index]
        streaks = np.roll(self.textures.streaks, round(plane.depth * 5), axis=1)[window]
        canvas.over(tissues.roots, layer * np.clip(0.55 + 0.5 * streaks, 0, 1) * cover, window)

    # -- bones

    def _posterior_elements(self, canvas: _Canvas, body: Body) -> None:
        part, tissues, patient = body.part, self.tissues, self.patient
        x = abs(self._offset(canvas, part))
        if x > 34:
            return
        half, back, canal = part.height / 2, part.depth / 2, patient.canal_depth
        sacral = part.name.startswith("S")
        length = patient.process_length * (0.45 if sacral else 1.0)
        bone = tissues.marrow * 0.95 * self._marrow[part.name]
        # centre behind and below, half sizes, tilt, how much of it at this lateral offset
        shapes = [
            (back + canal + 2 + length / 2, 0.5 * half, length / 2, 0.74 * half, 0.2, 1 - _ramp(x, 2.2, 4.5)),
            (back + canal + 2.5, 0.35 * half, 3.0, 0.85 * half, 0.25, _ramp(x, 1.5, 4) - _ramp(x, 11, 14)),
            (back + 0.5 * canal, -0.38 * half, 0.65 * canal, 0.42 * half, 0.05, _ramp(x, 9.5, 12) - _ramp(x, 17, 21)),
            (back + canal * 1.2, 0.95 * half, 4.5, 0.55 * half, 0.3, _ramp(x, 8, 11) - _ramp(x, 19, 22)),
            (back + canal * 1.0, -0.75 * half, 4.0, 0.5 * half, 0.3, _ramp(x, 10, 13) - _ramp(x, 21, 24)),
            (back + 0.8 * canal, -0.3 * half, 5.0, 0.3 * half, 0.1, _ramp(x, 20, 23)),
        ]
        if not sacral:
            self._foramen(canvas, part, x)
        for behind, below, width, height, tilt, amount in shapes:
            if amount > 0.02:
                self._bone(canvas, part, (behind, below, width, height, tilt), bone, amount)

    def _bone(
        self, canvas: _Canvas, part: Part, shape: tuple[float, float, float, float, float], signal: float, amount: float
    ) -> None:
        behind, below, width, height, tilt = shape
        centre = part.local_to_anatomy(behind, below)
        pixel = canvas.plane.pixel
        for window in canvas.windows(centre, math.hypot(width, height) + 3):
            p, q = canvas.local(window, centre, part.angle + tilt)
            middle = self.textures.middle[window]
            distance = _box(p, q, width, height, min(width, height) * 0.75) + 0.5 * middle
            canvas.over(self.tissues.ligament, _soft(distance - 1.1, pixel + 0.8) * amount * 0.85, window)
            value = signal * (1 + 0.1 * self.textures.fine[window] + 0.18 * middle)
            canvas.over(value, _soft(distance, pixel + 0.4) * amount, window)

    def _fat_pad(self, canvas: _Canvas, part: Part) -> None:
        """The pad of fat behind the sac, between two laminae."""
        amount = 1 - _ramp(abs(self._offset(canvas, part)), 3, 7)
        if amount < 0.02 or part.name.startswith("S"):
            return
        centre = part.local_to_anatomy(part.depth / 2 + self.patient.canal_depth + 1.0, -1.0)
        for window in canvas.windows(centre, 11):
            p, q = canvas.local(window, centre, part.angle + 0.2)
            taper = 3.2 - 0.25 * np.abs(q) + 0.4 * self.textures.middle[window]
            pad = _soft(np.maximum(np.abs(p) - taper, np.abs(q) - 9), canvas.plane.pixel + 0.5)
            canvas.over(self.tissues.fat * 0.95, pad * amount, window)

    def _foramen(self, canvas: _Canvas, part: Part, x: float) -> None:
        """Fat with the nerve root in it, below the pedicle."""
        amount = _ramp(x, 9.5, 12) - _ramp(x, 19, 23)
        if amount < 0.02:
            return
        centre = part.local_to_anatomy(part.depth / 2 + 4, 0.62 * part.height)
        for window in canvas.windows(centre, 14):
            p, q = canvas.local(window, centre, part.angle)
            fat = _soft(_box(p, q, 6.5, 9.0, 4.5), canvas.plane.pixel + 0.8)
            canvas.over(self.tissues.fat * 0.9, fat * amount, window)
            nerve = _soft(np.hypot(p, q + 4) - 2.6, canvas.plane.pixel + 0.4)
            canvas.over(self.tissues.nerve, nerve * amount, window)

    def _offset(self, canvas: _Canvas, part: Part) -> float:
        """Lateral distance of the plane from a part's own middle, in mm."""
        return canvas.plane.x_at(part.y, part.z) - part.lateral

    def _body(self, canvas: _Canvas, body: Body, centroids: Centroids) -> None:
        part = body.part
        x = self._offset(canvas, part)
        width = _taper(x, part.half_width)
        if width <= 0.1:
            return
        for window in canvas.windows((part.y, part.z), 0.62 * math.hypot(part.height, part.depth) + 9):
            p, q = canvas.local(window, (part.y, part.z), part.angle)
            p = p - part.rotation * x
            distance, top, bottom = _body_shape(body, p, q, width, x, self.textures.middle[window])
            canvas.over(self.tissues.cortex, _soft(distance - 0.5, canvas.plane.pixel + 0.3), window)
            inner = _soft(distance + 0.7, canvas.plane.pixel + 0.3)
            canvas.over(self._marrow_signal(body, p, top, bottom, q, x, window), inner, window)
            centroids.add(part.name, _soft(distance, canvas.plane.pixel), *window)

    def _marrow_signal(
        self, body: Body, p: Floats, top: Floats, bottom: Floats, q: Floats, x: float, window: Window
    ) -> Floats:
        part = body.part
        fine, middle = self.textures.fine[window], self.textures.middle[window]
        signal: Floats = self.tissues.marrow * self._marrow[part.name] * (1 + self._grain * (fine + middle))
        vein = _soft(np.abs(q) - 1.6 - 0.12 * (p - part.depth * 0.18), 1.2) * np.clip((p - part.depth * 0.1) / 4, 0, 1)
        vein *= abs(body.vein) * (1 - _ramp(abs(x), 3, 8))
        target = self.tissues.fat * 0.8 if body.vein > 0 else self.tissues.muscle
        signal = signal + (target - signal) * vein * 0.6
        for band in body.bands:
            near = top if band.side < 0 else bottom
            ragged = band.thickness + 0.8 * middle
            cover = _soft(near - ragged, 1.5) * _soft(np.abs(p - band.centre) - band.half_length, 3.0)
            signal = signal * (1 + (band.signal - 1) * cover)
        return signal

    def _disc(self, canvas: _Canvas, disc: Disc, centroids: Centroids) -> None:
        part = disc.part
        x = self._offset(canvas, part)
        width = _taper(x, part.half_width + 1)
        if width <= 0.1:
            return
        for window in canvas.windows((part.y, part.z), part.depth / 2 + 14):
            p, q = canvas.local(window, (part.y, part.z), part.angle)
            p = p - part.rotation * x
            core = _disc_shape(disc, p, q, width)
            distance = _with_protrusion(disc, core, p, q, x)
            for node in disc.nodes:
                self._node(canvas, disc, node, p, q, x, window)
            coverage = _soft(distance, canvas.plane.pixel + 0.2)
            canvas.over(self.tissues.ligament, _soft(distance - 0.6, canvas.plane.pixel + 0.2), window)
            canvas.over(self._disc_signal(disc, p, q, width, x, window), coverage, window)
            # The centroid is that of the disc between the endplates: a protrusion does not move a reader's mark.
            centroids.add(part.name, _soft(core, canvas.plane.pixel + 0.2), *window)

    def _disc_signal(self, disc: Disc, p: Floats, q: Floats, width: float, x: float, window: Window) -> Floats:
        part, tissues = disc.part, self.tissues
        half_p, half_q = 0.36 * part.depth * width, max(0.8, part.height * 0.5 + 0.6)
        radius = np.sqrt(((p + 0.03 * part.depth) / half_p) ** 2 + (q / half_q) ** 4)
        inside = np.clip((1.12 - radius) / 0.35, 0, 1) * (
            1 - _ramp(abs(x), 0.5 * part.half_width, 0.8 * part.half_width)
        )
        water = tissues.annulus + (tissues.nucleus * self._hydration - tissues.annulus) * disc.nucleus
        bright = water * (1 + 0.07 * self.textures.middle[window])
        cleft = disc.cleft * disc.nucleus * _soft(np.abs(q - 0.3 * self.textures.middle[window]) - 0.7, 1.0)
        signal = tissues.annulus * (1 + 0.25 * self.textures.fine[window]) * (1 + 0.35 * (1 - disc.nucleus))
        signal = signal + (bright * (1 - 0.45 * cleft) - signal) * inside
        if disc.fissure > 0:
            spot = _soft(np.hypot(p - part.depth * 0.46, q * 1.2) - 1.3, 1.0) * (1 - _ramp(abs(x), 4, 9))
            signal = signal + (tissues.csf * 0.85 - signal) * spot * disc.fissure
        return signal

    def _node(self, canvas: _Canvas, disc: Disc, node: Node, p: Floats, q: Floats, x: float, window: Window) -> None:
        lateral = node.radius**2 - (x - node.lateral) ** 2 * 0.4
        if lateral < 1:
            return
        radius = math.sqrt(lateral)
        distance = np.hypot((p - node.centre) / 1.3, q - node.side * disc.part.height * 0.55) - radius
        pixel = canvas.plane.pixel
        canvas.over(self.tissues.marrow * 1.3, _soft(distance - 2, 1.5) * 0.5, window)
        canvas.over(self.tissues.cortex, _soft(distance - 0.8, pixel + 0.3), window)
        value = self.tissues.annulus + (self.tissues.nucleus - self.tissues.annulus) * disc.nucleus * 0.6
        canvas.over(value, _soft(distance, pixel + 0.3), window)


class _Canvas:
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


# ---------------------------------------------------------------- shapes


def _soft(distance: Floats, width: float) -> Floats:
    """1 inside (negative distance), 0 outside, linear over ``width`` mm."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / width), 0, 1)


def _near(behind: Floats, low: float, high: float) -> Window:
    """The columns in which ``behind`` lies between two values somewhere."""
    coarse = behind[::4]
    columns = np.flatnonzero(((coarse > low) & (coarse < high)).any(axis=0))
    span = slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 0)
    return slice(0, behind.shape[0]), span


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _half_width(x: Floats, radius: float) -> Floats:
    """Of an ellipse of half-width ``radius``: the share of its depth that is left at lateral offset ``x``."""
    return np.sqrt(np.clip(1 - (x / np.float32(radius)) ** 2, 0, 1))


def _taper(x: float, half_width: float) -> float:
    """Share of a body's depth at lateral offset ``x`` (a rounded box seen from above); 0 beyond it."""
    ratio = abs(x) / half_width
    return 0.0 if ratio >= 1 else (1 - ratio**2.8) ** (1 / 2.8)


def _box(p: Floats, q: Floats, width: float, height: float, corner: float) -> Floats:
    """Signed distance to a rounded rectangle of the given half sizes."""
    return _rounded(np.abs(p) - width, np.abs(q) - height, corner)


def _rounded(over_p: Floats, over_q: Floats, corner: float) -> Floats:
    a, b = over_p + np.float32(corner), over_q + np.float32(corner)
    outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0))
    return outside + np.minimum(np.maximum(a, b), 0) - np.float32(corner)


def _body_shape(
    body: Body, p: Floats, q: Floats, width: float, x: float, ragged: Floats
) -> tuple[Floats, Floats, Floats]:
    """Signed distance to a body, and depth below its upper and above its lower endplate (mm, positive inside)."""
    part = body.part
    half_depth, half = part.depth / 2, part.height / 2
    lateral = 1 + (x / part.half_width) ** 2
    level = np.clip(q / np.float32(half), -1.3, 1.3)
    pinch = np.maximum(1 - level * level, 0)
    front = -half_depth * (2 * width - 1) + body.waist[0] * lateral * pinch
    back = half_depth - body.waist[1] * pinch - (1 - width) * 0.15 * half_depth
    sharp = np.float32(1 / 3.2)
    near_top, near_bottom = np.exp(-(((q + half) * sharp) ** 2)), np.exp(-(((q - half) * sharp) ** 2))
    spur = body.osteophytes
    front = front - spur[0] * near_top - spur[1] * near_bottom
    back = back + spur[2] * near_top + spur[3] * near_bottom
    dish = np.maximum(1 - (p / np.float32(half_depth)) ** 2, 0)
    slope = np.float32(math.tan(part.wedge / 2)) * p
    rough = body.roughness * ragged
    top = q + half - slope - body.concavity[0] * dish - rough
    bottom = half - slope - body.concavity[1] * dish - rough - q
    over_p = np.maximum(front - p, p - back)
    over_q = -np.minimum(top, bottom)
    return _rounded(over_p, over_q, 2.2), top, bottom


def _disc_shape(disc: Disc, p: Floats, q: Floats, width: float) -> Floats:
    """Signed distance to a disc without its protrusion."""
    part = disc.part
    half_depth = part.depth / 2
    dish = np.maximum(1 - (p / np.float32(half_depth)) ** 2, 0)
    slope = np.float32(math.tan(part.wedge / 2)) * p
    upper = part.height / 2 - 0.6 - slope + disc.concavity[0] * dish
    lower = part.height / 2 - 0.6 - slope + disc.concavity[1] * dish
    over_q = np.maximum(-q - upper, q - lower)
    front = -half_depth * (2 * width - 1) - disc.bulge[0]
    back = half_depth + disc.bulge[1] - (1 - width) * 0.15 * half_depth
    return _rounded(np.maximum(front - p, p - back), over_q, min(2.5, part.height * 0.4))


def _with_protrusion(disc: Disc, distance: Floats, p: Floats, q: Floats, x: float) -> Floats:
    part, half_depth = disc.part, disc.part.depth / 2
    reach = disc.protrusion * math.exp(-(((x - disc.protrusion_lateral) / 6) ** 2))
    if reach > 0.8:
        nose = np.hypot((p - half_depth) / reach, (q - disc.protrusion_below) / max(2.5, 0.4 * part.height)) - 1
        distance = np.minimum(distance, nose * np.float32(min(reach, 3.0)))
    return distance


# ---------------------------------------------------------------- tables along the column


@dataclass(frozen=True, slots=True)
class _Tables:
    """Values for each half millimetre of z, from the top: walls, depths and angles (mm)."""

    back: Floats
    front: Floats
    cosine: Floats
    lateral: Floats
    canal_depth: Floats
    fat_in_front: Floats
    narrowing: Floats
    fascia: Floats
    skin: Floats
    belly: Floats
    sac_end: float

    def lateral_offset(self, plane: Plane) -> Floats:
        """How far beside the canal's middle a plane runs at each height."""
        top, bottom = plane.x_at(0, _TOP), plane.x_at(0, _BOTTOM)
        return np.linspace(top, bottom, len(self.lateral), dtype=np.float32) - self.lateral


def z_table() -> Floats:
    """z of each row of the tables, mm."""
    return np.arange(_TOP, _BOTTOM, -_STEP, dtype=np.float32)


def z_of(index: NDArray[np.intp]) -> Floats:
    return np.float32(_TOP) - np.float32(_STEP) * index.astype(np.float32)


def _column_tables(patient: Patient) -> _Tables:
    z = z_table()
    back, front = (_wall(patient, side, z) for side in (1, -1))
    slope = np.gradient(back, -_STEP)
    sacrum = patient.body("S1").part
    low = np.clip((sacrum.z + 6 - z) / 30, 0, 1)
    lower = patient.body("S2").part
    sac_end = lower.local_to_anatomy(lower.depth / 2, lower.height * 0.3)[1]
    taper = np.clip((z - sac_end) / 45, 0.0, 1)
    fascia = _smooth(np.maximum(back, back[np.searchsorted(-z, 60.0)]) + patient.canal_depth + patient.muscle_depth, 90)
    fascia = np.minimum(fascia, _smooth(back, 30) + patient.canal_depth + patient.muscle_depth + 4)
    buttock = np.clip((sacrum.z - z) / 70, 0, 1) ** 2 * 22
    skin = _smooth(fascia + patient.fat_behind + buttock, 50)
    return _Tables(
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


def _wall(patient: Patient, side: int, z: Floats) -> Floats:
    """y of the column's back (+1) or front (-1) wall for each z."""
    points = []
    for body in patient.bodies:
        part = body.part
        for below in (-0.42, 0.0, 0.42):
            points.append(part.local_to_anatomy(side * (part.depth / 2 - 0.5), below * part.height))
    heights = np.minimum.accumulate([point[1] for point in points])
    wall = np.interp(-z, -heights, [point[0] for point in points])
    return _smooth(wall, 8).astype(np.float32)


def _narrowing(patient: Patient, z: Floats) -> Floats:
    """How much thick ligaments behind degenerate discs take from the sac, mm."""
    total = np.zeros_like(z)
    for disc in patient.discs:
        if disc.part.name.startswith("S"):
            continue
        place = disc.part.local_to_anatomy(disc.part.depth / 2, 0)[1]
        total += (0.8 + 0.9 * max(0.0, disc.bulge[1])) * np.exp(-(((z - place) / 6.5) ** 2))
    return np.minimum(total, patient.canal_depth * 0.45).astype(np.float32)


def _smooth(values: Floats, length_mm: float) -> Floats:
    size = max(1, round(length_mm / _STEP)) | 1
    padded = np.pad(values, size // 2, mode="edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    return ((total[size:] - total[:-size]) / size).astype(np.float32)


def _pelvic_blobs(rng: np.random.Generator, patient: Patient) -> list[tuple[float, float, float, float, float, float]]:
    """Bowel, bladder and vessels in front of the sacrum and of the column: (y, z, x, radius, signal, wall signal)."""
    blobs = []
    sacrum = patient.body("S1").part
    for _ in range(int(rng.integers(4, 13))):
        y, z = sacrum.local_to_anatomy(-sacrum.depth / 2 - float(rng.uniform(14, 80)), float(rng.uniform(-10, 90)))
        signal = float(rng.choice([0.03, 0.05, 0.35, 0.9], p=[0.35, 0.25, 0.25, 0.15]))
        blobs.append((y, z, float(rng.normal(0, 14)), float(rng.uniform(5, 17)), signal, float(rng.uniform(0.2, 0.7))))
    for _ in range(int(rng.integers(0, 6))):
        y = -sacrum.depth - float(rng.uniform(15, 70))
        place = float(rng.uniform(-40, 120))
        blobs.append(
            (y, place, float(rng.normal(0, 20)), float(rng.uniform(3, 11)), 0.05, float(rng.uniform(0.2, 0.6)))
        )
    return blobs
