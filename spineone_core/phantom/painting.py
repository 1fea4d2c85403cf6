"""Paints a phantom patient on a plane: noise-free signal, and how much of each pixel every disc and body fills.

Everything is painted in order, what lies behind first, with edges softened by about a pixel. So the coverage of a shape is its
partial volume, and the mean of the pixel places, weighted by coverage, is its centroid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spineone_core.arrays import AnyFloats
from spineone_core.phantom.anatomy import Patient
from spineone_core.phantom.canvas import Canvas, Centroids
from spineone_core.phantom.column_tables import STEP, TOP, column_tables, z_of, z_table
from spineone_core.phantom.parts import Body, Disc, Node, Part
from spineone_core.phantom.plane import Plane, Window
from spineone_core.phantom.shapes import (
    body_shape,
    box_distance,
    columns_between,
    covered,
    depth_share,
    disc_distance,
    ellipse_share,
    linear_step,
    with_protrusion,
)
from spineone_core.phantom.textures import Textures
from spineone_core.phantom.tissues import Tissues


class Painter:
    """Paints one patient with one set of tissues on planes of one size."""

    def __init__(self, patient: Patient, tissues: Tissues, textures: Textures, looks: np.random.Generator) -> None:
        self.patient, self.tissues, self.textures = patient, tissues, textures
        self._column = column_tables(patient)
        self._marrow = {b.part.name: float(np.exp(looks.normal(0, 0.07))) for b in patient.bodies}
        self._clutter = float(looks.uniform(0.2, 1.0))
        self._blobs = _pelvic_blobs(looks, patient)
        self._grain = float(looks.uniform(0.05, 0.13))
        self._hydration = float(np.exp(looks.normal(0, 0.3)))

    def paint(self, plane: Plane) -> tuple[AnyFloats, dict[str, tuple[float, float]]]:
        """The signal (rows, columns), about 1 for fat and 0 for air, and the centroid of every disc and body on this plane."""
        canvas = Canvas(plane)
        centroids = Centroids({})
        whole = (slice(0, plane.rows), slice(0, plane.columns))
        y, z = plane.axis(1, *whole), plane.axis(2, *whole)
        index = np.clip((TOP - z) / STEP, 0, len(self._column.back) - 1).astype(np.intp)
        behind = (y - self._column.back[index]) * self._column.cosine[index]
        self._soft_tissue(canvas, y, index, behind)
        self._vessels(canvas, y, index)
        self._canal(canvas, index, behind, columns_between(behind, -8, 34))
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

    # --- soft tissue

    def _soft_tissue(self, canvas: Canvas, y: AnyFloats, index: NDArray[np.intp], behind: AnyFloats) -> None:
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
            amount = linear_step(abs(depth), 16, 26) - linear_step(abs(depth), 44, 54)
            psoas = covered(np.abs(behind + 14) - 17 - 0.4 * self.textures.middle, 3.0) * amount
            canvas.over(tissues.muscle, psoas * np.clip((40 - np.abs(z_of(index) + 45)) / 40 + 1, 0, 1))

    def _belly(self, depth: float) -> AnyFloats:
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
        belly: AnyFloats = fat + (content - fat) * np.clip(rim * 4 + 0.5, 0, 1)
        return belly + (tissues.muscle - belly) * wall

    def _muscle(self, depth: float) -> AnyFloats:
        """Back muscle with streaks of fat; there is more fat near the middle and in fatty patients."""
        tissues = self.tissues
        amount = self.patient.muscle_fat * (0.55 if abs(depth) > 12 else 0.9)
        grain = np.roll(self.textures.streaks, round(depth * 3), axis=0) * 0.2 + 0.18 * self.textures.middle
        # Between the spinous processes lie ligament and fat rather than muscle.
        between = (1 - linear_step(abs(depth), 3, 9)) * 0.25
        return tissues.muscle + (tissues.fat * 0.8 - tissues.muscle) * np.clip(grain + amount * 0.8 + between, 0, 1)

    def _skin(self, canvas: Canvas, y: AnyFloats, index: NDArray[np.intp]) -> None:
        t, pixel = self._column, max(0.8, canvas.plane.pixel)
        out = (y - t.skin[index]) / pixel
        canvas.over(self.tissues.muscle * 1.6, np.clip(1.4 - np.abs(out + 1), 0, 1))
        canvas.over(0.0, np.clip(out + 0.5, 0, 1))
        front = (t.belly[index] - y) / pixel
        canvas.over(self.tissues.fat, np.clip(front + 0.5 + 18 / pixel, 0, 1))
        canvas.over(0.0, np.clip(front + 0.5, 0, 1))

    def _vessels(self, canvas: Canvas, y: AnyFloats, index: NDArray[np.intp]) -> None:
        """Aorta and caval vein in front of the column down to L4; iliac vessels and pelvic organs below."""
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

    def _tube(self, canvas: Canvas, away: AnyFloats, half: float, signal: float, along: AnyFloats) -> None:
        distance = np.abs(away) - half
        canvas.over(self.tissues.vessel_wall, covered(distance - 1.2, canvas.plane.pixel) * along)
        canvas.over(signal, covered(distance, canvas.plane.pixel + 0.6) * along)

    def _blob(self, canvas: Canvas, centre: tuple[float, float], radius: float, inner: float, wall: float) -> None:
        for window in canvas.windows(centre, radius + 5):
            y, z = canvas.yz(window)
            wobble = 0.12 * radius * self.textures.middle[window]
            distance = np.hypot(y - centre[0], (z - centre[1]) * 1.15) - radius + wobble
            canvas.over(wall, covered(distance - 2, canvas.plane.pixel + 0.5), window)
            canvas.over(inner, covered(distance, canvas.plane.pixel + 0.5), window)

    # --- canal

    def _canal(self, canvas: Canvas, index: NDArray[np.intp], behind: AnyFloats, window: Window) -> None:
        """Epidural fat, thecal sac with cord or roots, and the ligaments in front of and behind it."""
        t, patient, plane, tissues = self._column, self.patient, canvas.plane, self.tissues
        pixel = plane.pixel
        x = t.lateral_offset(plane)
        canal = ellipse_share(x, patient.canal_half_width + 2)
        sac = ellipse_share(x, patient.canal_half_width - 1)
        if window[1].start == window[1].stop or not canal.any():
            return
        index, behind = index[window], behind[window]
        depth = t.canal_depth
        fat_front = t.fat_in_front + 0.8
        sac_depth = (depth - fat_front - t.narrowing) * sac
        middle = fat_front + (depth - fat_front - t.narrowing) / 2
        inside = covered(np.abs(behind - (depth / 2)[index]) - (depth / 2 * canal)[index] - 2.2, pixel + 0.4)
        canvas.over(tissues.ligament, inside * (canal > 0)[index], window)
        fat = covered(np.abs(behind - (depth / 2)[index]) - (depth / 2 * canal)[index] + 0.3, pixel + 0.4)
        canvas.over(tissues.fat * 0.85, fat * (canal > 0.05)[index], window)
        from_middle = behind - middle[index]
        edge = np.abs(from_middle) - (sac_depth / 2)[index]
        present = ((sac > 0.05) & (z_table() > t.sac_end))[index]
        canvas.over(tissues.ligament * 2, covered(edge - 0.5, pixel + 0.3) * present, window)
        if present.any():
            self._sac(canvas, index, from_middle, covered(edge, pixel + 0.3) * present, window)

    def _sac(
        self, canvas: Canvas, index: NDArray[np.intp], from_middle: AnyFloats, cover: AnyFloats, window: Window
    ) -> None:
        t, plane, tissues = self._column, canvas.plane, self.tissues
        x = t.lateral_offset(plane)
        fluid = tissues.csf * (1 + 0.03 * self.textures.middle[window])
        canvas.over(fluid, cover, window)
        below = np.clip((self.patient.conus_z - z_table()) / 30, 0, 1)
        cord = 4.2 * np.sqrt(np.clip(1 - below * 1.2, 0, 1)) * ellipse_share(x, 4.8)
        shown = np.clip(cord, 0, 1)[index] * cover
        canvas.over(tissues.cord, covered(np.abs(from_middle + 0.5) - cord[index], plane.pixel + 0.5) * shown, window)
        # The roots lie at the back of the sac (the patient is supine) and thin out downwards; single ones show as streaks.
        share = np.clip(below * 3, 0, 1) * np.clip((z_table() - t.sac_end) / 160, 0.12, 0.75)
        layer = np.clip((from_middle - 0.2) / 3.5, 0, 1) * share[index]
        streaks = np.roll(self.textures.streaks, round(plane.depth * 5), axis=1)[window]
        canvas.over(tissues.roots, layer * np.clip(0.55 + 0.5 * streaks, 0, 1) * cover, window)

    # --- bones and discs

    def _posterior_elements(self, canvas: Canvas, body: Body) -> None:
        part, tissues, patient = body.part, self.tissues, self.patient
        x = abs(self._offset(canvas, part))
        if x > 34:
            return
        half, back, canal = part.height / 2, part.depth / 2, patient.canal_depth
        sacral = part.name.startswith("S")
        length = patient.process_length * (0.45 if sacral else 1.0)
        bone = tissues.marrow * 0.95 * self._marrow[part.name]
        # Centre behind and below, half sizes, tilt, and how much of the shape there is at this lateral offset.
        shapes = [
            (back + canal + 2 + length / 2, 0.5 * half, length / 2, 0.74 * half, 0.2, 1 - linear_step(x, 2.2, 4.5)),
            (back + canal + 2.5, 0.35 * half, 3.0, 0.85 * half, 0.25, linear_step(x, 1.5, 4) - linear_step(x, 11, 14)),
            (
                back + 0.5 * canal,
                -0.38 * half,
                0.65 * canal,
                0.42 * half,
                0.05,
                linear_step(x, 9.5, 12) - linear_step(x, 17, 21),
            ),
            (back + canal * 1.2, 0.95 * half, 4.5, 0.55 * half, 0.3, linear_step(x, 8, 11) - linear_step(x, 19, 22)),
            (back + canal * 1.0, -0.75 * half, 4.0, 0.5 * half, 0.3, linear_step(x, 10, 13) - linear_step(x, 21, 24)),
            (back + 0.8 * canal, -0.3 * half, 5.0, 0.3 * half, 0.1, linear_step(x, 20, 23)),
        ]
        if not sacral:
            self._foramen(canvas, part, x)
        for behind, below, width, height, tilt, amount in shapes:
            if amount > 0.02:
                self._bone(canvas, part, (behind, below, width, height, tilt), bone, amount)

    def _bone(
        self, canvas: Canvas, part: Part, shape: tuple[float, float, float, float, float], signal: float, amount: float
    ) -> None:
        behind, below, width, height, tilt = shape
        centre = part.local_to_anatomy(behind, below)
        pixel = canvas.plane.pixel
        for window in canvas.windows(centre, math.hypot(width, height) + 3):
            p, q = canvas.local(window, centre, part.angle + tilt)
            middle = self.textures.middle[window]
            distance = box_distance(p, q, width, height, min(width, height) * 0.75) + 0.5 * middle
            canvas.over(self.tissues.ligament, covered(distance - 1.1, pixel + 0.8) * amount * 0.85, window)
            value = signal * (1 + 0.1 * self.textures.fine[window] + 0.18 * middle)
            canvas.over(value, covered(distance, pixel + 0.4) * amount, window)

    def _fat_pad(self, canvas: Canvas, part: Part) -> None:
        """The pad of fat behind the sac, between two laminae."""
        amount = 1 - linear_step(abs(self._offset(canvas, part)), 3, 7)
        if amount < 0.02 or part.name.startswith("S"):
            return
        centre = part.local_to_anatomy(part.depth / 2 + self.patient.canal_depth + 1.0, -1.0)
        for window in canvas.windows(centre, 11):
            p, q = canvas.local(window, centre, part.angle + 0.2)
            taper = 3.2 - 0.25 * np.abs(q) + 0.4 * self.textures.middle[window]
            pad = covered(np.maximum(np.abs(p) - taper, np.abs(q) - 9), canvas.plane.pixel + 0.5)
            canvas.over(self.tissues.fat * 0.95, pad * amount, window)

    def _foramen(self, canvas: Canvas, part: Part, x: float) -> None:
        """Fat with the nerve root in it, below the pedicle."""
        amount = linear_step(x, 9.5, 12) - linear_step(x, 19, 23)
        if amount < 0.02:
            return
        centre = part.local_to_anatomy(part.depth / 2 + 4, 0.62 * part.height)
        for window in canvas.windows(centre, 14):
            p, q = canvas.local(window, centre, part.angle)
            fat = covered(box_distance(p, q, 6.5, 9.0, 4.5), canvas.plane.pixel + 0.8)
            canvas.over(self.tissues.fat * 0.9, fat * amount, window)
            nerve = covered(np.hypot(p, q + 4) - 2.6, canvas.plane.pixel + 0.4)
            canvas.over(self.tissues.nerve, nerve * amount, window)

    def _offset(self, canvas: Canvas, part: Part) -> float:
        """Lateral distance of the plane from a part's own middle, in mm."""
        return canvas.plane.x_at(part.y, part.z) - part.lateral

    def _body(self, canvas: Canvas, body: Body, centroids: Centroids) -> None:
        part = body.part
        x = self._offset(canvas, part)
        width = depth_share(x, part.half_width)
        if width <= 0.1:
            return
        for window in canvas.windows((part.y, part.z), 0.62 * math.hypot(part.height, part.depth) + 9):
            p, q = canvas.local(window, (part.y, part.z), part.angle)
            p = p - part.rotation * x
            distance, top, bottom = body_shape(body, p, q, width, x, self.textures.middle[window])
            canvas.over(self.tissues.cortex, covered(distance - 0.5, canvas.plane.pixel + 0.3), window)
            inner = covered(distance + 0.7, canvas.plane.pixel + 0.3)
            canvas.over(self._marrow_signal(body, p, top, bottom, q, x, window), inner, window)
            centroids.add(part.name, covered(distance, canvas.plane.pixel), *window)

    def _marrow_signal(
        self, body: Body, p: AnyFloats, top: AnyFloats, bottom: AnyFloats, q: AnyFloats, x: float, window: Window
    ) -> AnyFloats:
        part = body.part
        fine, middle = self.textures.fine[window], self.textures.middle[window]
        signal: AnyFloats = self.tissues.marrow * self._marrow[part.name] * (1 + self._grain * (fine + middle))
        vein = covered(np.abs(q) - 1.6 - 0.12 * (p - part.depth * 0.18), 1.2) * np.clip(
            (p - part.depth * 0.1) / 4, 0, 1
        )
        vein *= abs(body.vein) * (1 - linear_step(abs(x), 3, 8))
        target = self.tissues.fat * 0.8 if body.vein > 0 else self.tissues.muscle
        signal = signal + (target - signal) * vein * 0.6
        for band in body.bands:
            near = top if band.side < 0 else bottom
            ragged = band.thickness + 0.8 * middle
            cover = covered(near - ragged, 1.5) * covered(np.abs(p - band.centre) - band.half_length, 3.0)
            signal = signal * (1 + (band.signal - 1) * cover)
        return signal

    def _disc(self, canvas: Canvas, disc: Disc, centroids: Centroids) -> None:
        part = disc.part
        x = self._offset(canvas, part)
        width = depth_share(x, part.half_width + 1)
        if width <= 0.1:
            return
        for window in canvas.windows((part.y, part.z), part.depth / 2 + 14):
            p, q = canvas.local(window, (part.y, part.z), part.angle)
            p = p - part.rotation * x
            core = disc_distance(disc, p, q, width)
            distance = with_protrusion(disc, core, p, q, x)
            for node in disc.nodes:
                self._node(canvas, disc, node, p, q, x, window)
            coverage = covered(distance, canvas.plane.pixel + 0.2)
            canvas.over(self.tissues.ligament, covered(distance - 0.6, canvas.plane.pixel + 0.2), window)
            canvas.over(self._disc_signal(disc, p, q, width, x, window), coverage, window)
            # The centroid is that of the disc between the endplates: a protrusion would not move a reader's mark.
            centroids.add(part.name, covered(core, canvas.plane.pixel + 0.2), *window)

    def _disc_signal(self, disc: Disc, p: AnyFloats, q: AnyFloats, width: float, x: float, window: Window) -> AnyFloats:
        part, tissues = disc.part, self.tissues
        half_p, half_q = 0.36 * part.depth * width, max(0.8, part.height * 0.5 + 0.6)
        radius = np.sqrt(((p + 0.03 * part.depth) / half_p) ** 2 + (q / half_q) ** 4)
        inside = np.clip((1.12 - radius) / 0.35, 0, 1) * (
            1 - linear_step(abs(x), 0.5 * part.half_width, 0.8 * part.half_width)
        )
        water = tissues.annulus + (tissues.nucleus * self._hydration - tissues.annulus) * disc.nucleus
        bright = water * (1 + 0.07 * self.textures.middle[window])
        cleft = disc.cleft * disc.nucleus * covered(np.abs(q - 0.3 * self.textures.middle[window]) - 0.7, 1.0)
        signal = tissues.annulus * (1 + 0.25 * self.textures.fine[window]) * (1 + 0.35 * (1 - disc.nucleus))
        signal = signal + (bright * (1 - 0.45 * cleft) - signal) * inside
        if disc.fissure > 0:
            spot = covered(np.hypot(p - part.depth * 0.46, q * 1.2) - 1.3, 1.0) * (1 - linear_step(abs(x), 4, 9))
            signal = signal + (tissues.csf * 0.85 - signal) * spot * disc.fissure
        return signal

    def _node(
        self, canvas: Canvas, disc: Disc, node: Node, p: AnyFloats, q: AnyFloats, x: float, window: Window
    ) -> None:
        lateral = node.radius**2 - (x - node.lateral) ** 2 * 0.4
        if lateral < 1:
            return
        radius = math.sqrt(lateral)
        distance = np.hypot((p - node.centre) / 1.3, q - node.side * disc.part.height * 0.55) - radius
        pixel = canvas.plane.pixel
        canvas.over(self.tissues.marrow * 1.3, covered(distance - 2, 1.5) * 0.5, window)
        canvas.over(self.tissues.cortex, covered(distance - 0.8, pixel + 0.3), window)
        value = self.tissues.annulus + (self.tissues.nucleus - self.tissues.annulus) * disc.nucleus * 0.6
        canvas.over(value, covered(distance, pixel + 0.3), window)


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
