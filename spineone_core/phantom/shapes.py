"""Signed distances in mm to the outlines of bodies and discs (negative inside), and how much of a pixel they cover."""

from __future__ import annotations

import math

import numpy as np

from spineone_core.arrays import AnyFloats
from spineone_core.phantom.parts import Body, Disc
from spineone_core.phantom.plane import Window


def covered(distance: AnyFloats, width: float) -> AnyFloats:
    """How much of each pixel a shape covers: 1 inside (negative distance), 0 outside, linear over ``width`` mm."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / width), 0, 1)


def columns_between(behind: AnyFloats, low: float, high: float) -> Window:
    """The columns in which ``behind`` lies between two values somewhere."""
    coarse = behind[::4]
    columns = np.flatnonzero(((coarse > low) & (coarse < high)).any(axis=0))
    span = slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 0)
    return slice(0, behind.shape[0]), span


def linear_step(value: float, low: float, high: float) -> float:
    """0 up to ``low``, 1 from ``high`` on, linear between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def ellipse_share(x: AnyFloats, radius: float) -> AnyFloats:
    """The share of an ellipse's depth that is left at lateral offset ``x``; ``radius`` is its half-width."""
    return np.sqrt(np.clip(1 - (x / np.float32(radius)) ** 2, 0, 1))


def depth_share(x: float, half_width: float) -> float:
    """The share of a body's depth at lateral offset ``x`` (a rounded box seen from above); 0 beyond it."""
    ratio = abs(x) / half_width
    return 0.0 if ratio >= 1 else (1 - ratio**2.8) ** (1 / 2.8)


def box_distance(p: AnyFloats, q: AnyFloats, width: float, height: float, corner: float) -> AnyFloats:
    """Signed distance to a rounded rectangle of the given half sizes."""
    return _rounded(np.abs(p) - width, np.abs(q) - height, corner)


def _rounded(over_p: AnyFloats, over_q: AnyFloats, corner: float) -> AnyFloats:
    a, b = over_p + np.float32(corner), over_q + np.float32(corner)
    outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0))
    return outside + np.minimum(np.maximum(a, b), 0) - np.float32(corner)


def body_shape(
    body: Body, p: AnyFloats, q: AnyFloats, width: float, x: float, ragged: AnyFloats
) -> tuple[AnyFloats, AnyFloats, AnyFloats]:
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


def disc_distance(disc: Disc, p: AnyFloats, q: AnyFloats, width: float) -> AnyFloats:
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


def with_protrusion(disc: Disc, distance: AnyFloats, p: AnyFloats, q: AnyFloats, x: float) -> AnyFloats:
    """The distance to a disc, widened by its protrusion where the plane at lateral offset ``x`` cuts it."""
    part, half_depth = disc.part, disc.part.depth / 2
    reach = disc.protrusion * math.exp(-(((x - disc.protrusion_lateral) / 6) ** 2))
    if reach > 0.8:
        nose = np.hypot((p - half_depth) / reach, (q - disc.protrusion_below) / max(2.5, 0.4 * part.height)) - 1
        distance = np.minimum(distance, nose * np.float32(min(reach, 3.0)))
    return distance
