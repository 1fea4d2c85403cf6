"""Real slices in another contrast: as a gradient echo that shows water, as T1 or fat alone, as fat-suppressed or plain T2.

Marrow, discs, the canal and everything around them are found by the ten known points and get new grey values; grain and
shading of the picture stay. Masks are made in two ways, so that what a network learned from one is measured on the other:
by shape (`by_shape`: blocks between the points) and by growing (`by_growing`: what looks like the point, around it). Plain
T2 by masks tells a network that the contrast counts, not the masks' edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spineone_core.arrays import FloatArray

Image = NDArray[np.float32]
Recoloured = Literal["water", "fat", "stir", "t2"]

# Usual distance in mm from a vertebra's middle to the next disc's, and sizes of the block of such a spine.
_STEP_MM = 18.0
_HALF_DEPTH_MM, _DISC_HALF_HEIGHT_MM, _CANAL_HALF_WIDTH_MM, _CANAL_GAP_MM = 16.5, 4.2, 6.5, 9.0
# The sacrum turns backwards by about so much.
_SACRAL_TURN = np.radians(25.0)


@dataclass(frozen=True, slots=True)
class Signals:
    """Grey values from 0 to 1 of tissues; of discs also the share of their own T2 pattern that stays, 0 to 1."""

    marrow: float
    disc: float
    pattern: float
    canal: float
    fat: float
    muscle: float


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """How much of each pixel marrow, discs and canal fill, each (H, W) within 0 to 1."""

    marrow: Image
    disc: Image
    canal: Image


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """The points in order, discs and vertebrae in turn, continued beyond both ends, with the directions at each.

    ``points`` (n, 2) are column and row; ``along`` (n, 2) points down the spine and ``behind`` (n, 2) backwards, both of
    length 1; ``step`` is the distance to the next point in pixels. ``added`` points lie above L1; those after L5-S1 are the
    sacrum's.
    """

    points: FloatArray
    along: FloatArray
    behind: FloatArray
    step: float
    added: int

    def is_disc(self, index: int) -> bool:
        """Whether this point is a disc's."""
        return (index - self.added) % 2 == 1

    def is_sacral(self, index: int) -> bool:
        """Whether this point lies below L5-S1."""
        return index - self.added > 9


def drawn_signals(contrast: Recoloured, rng: np.random.Generator) -> Signals:
    """Grey values of a contrast, drawn at random within what such series show."""
    ranges = {
        "water": ((0.24, 0.52), (0.62, 1.0), (0.0, 0.35), (0.75, 1.0), (0.05, 0.35), (0.22, 0.55)),
        "fat": ((0.45, 0.90), (0.03, 0.42), (0.0, 0.25), (0.02, 0.22), (0.80, 1.0), (0.05, 0.40)),
        "stir": ((0.08, 0.22), (0.35, 0.60), (1.0, 1.0), (0.85, 1.0), (0.05, 0.18), (0.16, 0.30)),
        "t2": ((0.30, 0.60), (0.30, 0.60), (1.0, 1.0), (0.75, 1.0), (0.75, 1.0), (0.08, 0.22)),
    }[contrast]
    return Signals(*(float(rng.uniform(low, high)) for low, high in ranges))


def spine_of(points: FloatArray, posterior: FloatArray, size: tuple[int, int]) -> Spine | None:
    """The spine through ten points (10, 2) in reading order, continued to the picture's borders; None if one is unknown.

    ``posterior`` (2,) is the backward direction in columns and rows.
    """
    if not np.isfinite(points).all():
        return None
    step = float(np.median(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    chain = [*points]
    upwards, added = chain[0] - chain[2], 0
    while _inside(chain[0], size) and added < 10:
        chain.insert(0, chain[0] + upwards / 2)
        added += 1
    down = chain[-1] - chain[-3]
    side = 1.0 if down[0] * posterior[1] - down[1] * posterior[0] > 0 else -1.0
    for turn in (0.6, 1.0, 1.2, 1.3):
        cosine, sine = np.cos(turn * _SACRAL_TURN), np.sin(turn * _SACRAL_TURN) * side
        turned = np.array([down[0] * cosine - down[1] * sine, down[0] * sine + down[1] * cosine])
        chain.append(chain[-1] + turned / np.linalg.norm(turned) * 0.85 * step)
    places = np.array(chain)
    along = np.gradient(places, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    behind = np.column_stack([-along[:, 1], along[:, 0]])
    behind[(behind @ posterior) < 0] *= -1
    return Spine(places, along, behind, step, added)


def by_shape(image: Image, spine: Spine, spacing_mm: float, rng: np.random.Generator) -> Masks:
    """Rounded blocks between the points, of a random size and softness; the canal is a band behind them."""
    scale = spine.step * spacing_mm / _STEP_MM / spacing_mm
    depth = _HALF_DEPTH_MM * scale * rng.uniform(0.9, 1.1)
    disc = _DISC_HALF_HEIGHT_MM * scale * rng.uniform(0.8, 1.25)
    soft = rng.uniform(0.7, 1.8) / spacing_mm
    masks = {True: np.zeros_like(image), False: np.zeros_like(image)}
    for index in range(len(spine.points)):
        is_disc = spine.is_disc(index)
        half = (depth, disc if is_disc else spine.step - disc)
        if spine.is_sacral(index):  # narrow remnants of discs, small bodies
            half = (0.6 * depth, 0.35 * disc) if is_disc else (0.75 * depth, 0.85 * half[1])
        _add_block(masks[is_disc], spine, index, half, soft)
    away = _distance_from_line(spine, depth + _CANAL_GAP_MM * scale, image.shape)
    canal = _soft(_CANAL_HALF_WIDTH_MM * scale * rng.uniform(0.8, 1.2) - away, soft)
    return _disjoint(masks[False], masks[True], canal)


def by_growing(image: Image, spine: Spine, spacing_mm: float, rng: np.random.Generator) -> Masks:
    """The connected pixels around each point that are about as bright as it; the canal is the bright band behind them."""
    smooth = ndimage.gaussian_filter(image, 0.6 / spacing_mm)
    reach = 1.15 * _HALF_DEPTH_MM * spine.step / _STEP_MM
    grown = {True: np.zeros(image.shape, dtype=bool), False: np.zeros(image.shape, dtype=bool)}
    for index in range(len(spine.points)):
        is_disc = spine.is_disc(index)
        if is_disc and spine.is_sacral(index):
            continue
        half = (reach, (0.42 if is_disc else 0.85) * spine.step)
        _grow(grown[is_disc], smooth, spine, index, half, float(rng.uniform(0.4, 0.6)))
    away = _distance_from_line(spine, 1.55 * reach, image.shape)
    band = away < 0.5 * reach
    bright = band & (smooth > np.percentile(smooth[band], 55)) if band.any() else band
    edge = 0.5 / spacing_mm
    marrow, disc, canal = (
        ndimage.gaussian_filter(mask.astype(np.float32), edge) for mask in (grown[False], grown[True], bright)
    )
    return _disjoint(marrow, disc, canal)


MaskMaker = Callable[[Image, Spine, float, np.random.Generator], Masks]


def recoloured(
    image: NDArray[np.floating],
    points: FloatArray,
    spacing_mm: float,
    contrast: Recoloured,
    rng: np.random.Generator,
    *,
    posterior: FloatArray,
    masks_by: MaskMaker = by_shape,
) -> Image | None:
    """A T2 slice as it might look in another contrast, with grey values from 0 to about 1; None if a point is unknown.

    Parameters
    ----------
    image
        (H, W), any scale.
    points
        (10, 2) column and row in reading order.
    spacing_mm
        Side of a pixel; pixels are square.
    posterior
        (2,) backward direction in columns and rows.
    masks_by
        `by_shape` or `by_growing`.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    spine = spine_of(points, posterior, image.shape)
    if spine is None:
        return None
    masks = masks_by(grey, spine, spacing_mm, rng)
    signals = drawn_signals(contrast, rng)
    grain = _grain(grey, spacing_mm, float(rng.uniform(0.3, 0.9)))
    # Discs keep some of their own pattern, relative to the brightest of them.
    own = grey / max(float(np.percentile(grey[masks.disc > 0.5], 95)) if (masks.disc > 0.5).any() else 1.0, 1e-3)
    disc = signals.disc * ((1 - signals.pattern) * grain + signals.pattern * np.clip(own, 0, 1.2))
    rest = np.clip(1 - masks.marrow - masks.disc - masks.canal, 0, 1)
    made = (
        masks.marrow * signals.marrow * grain
        + masks.disc * disc
        + masks.canal * signals.canal * grain**0.5
        + rest * _surroundings(grey, rest, signals)
    )
    shading = ndimage.gaussian_filter(grey, 35 / spacing_mm) + 0.05
    usual = float(np.median(shading[masks.marrow > 0.5])) if (masks.marrow > 0.5).any() else 1.0
    made = made * np.clip(shading / usual, 0.3, 1.6) ** rng.uniform(0.2, 0.7)
    strength = rng.uniform(0.8, 1.0)
    return (strength * made + (1 - strength) * grey).astype(np.float32)


def _surroundings(grey: Image, rest: Image, signals: Signals) -> Image:
    """Air, muscle and fat told by their T2 brightness: a curve that may fall as well as rise."""
    outside = grey[rest > 0.5]
    fat = float(np.percentile(outside, 93)) if outside.size else 1.0
    knots = np.array([0.0, 0.06, 0.28, 0.55, 0.9]) * max(fat, 1e-3)
    between = (signals.muscle + signals.fat) / 2
    return np.interp(grey, knots, [0.0, 0.3 * signals.muscle, signals.muscle, between, signals.fat]).astype(np.float32)


def _grain(grey: Image, spacing_mm: float, power: float) -> Image:
    """Fine structure of the picture, about 1 everywhere."""
    local = ndimage.gaussian_filter(grey, 5 / spacing_mm)
    return (np.clip((grey + 0.03) / (local + 0.03), 0.5, 1.6) ** power).astype(np.float32)


def _add_block(mask: Image, spine: Spine, index: int, half: tuple[float, float], soft: float) -> None:
    window, across, down = _local(spine, index, max(half) + 3 * soft, mask.shape)
    if across.size:
        radius = ((np.abs(across) / half[0]) ** 6 + (np.abs(down) / half[1]) ** 6) ** (1 / 6)
        block = _soft((1 - radius) * min(half), soft)
        mask[window] = np.maximum(mask[window], block)


def _grow(
    grown: NDArray[np.bool_], smooth: Image, spine: Spine, index: int, half: tuple[float, float], tolerance: float
) -> None:
    window, across, down = _local(spine, index, max(half), smooth.shape)
    near = np.hypot(across, down) < 0.2 * spine.step
    if not near.any():  # outside the picture
        return
    patch = smooth[window]
    usual = float(np.median(patch[near]))
    alike = (np.abs(patch - usual) < tolerance * usual + 0.05) & (np.abs(across) < half[0]) & (np.abs(down) < half[1])
    labels, _ = ndimage.label(alike)
    kept = np.isin(labels, np.unique(labels[near & alike]))
    grown[window] |= ndimage.binary_fill_holes(ndimage.binary_closing(kept & alike, iterations=2))


def _local(
    spine: Spine, index: int, reach: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], FloatArray, FloatArray]:
    """The window around a point, and in it the distances backwards and downwards from the point, in pixels."""
    x, y = spine.points[index]
    low, high = np.array([y, x]) - reach, np.array([y, x]) + reach + 1
    rows, columns = (slice(*np.clip([a, b], 0, n).astype(int)) for a, b, n in zip(low, high, shape, strict=True))
    v, u = np.mgrid[rows, columns]
    behind, along = spine.behind[index], spine.along[index]
    across = (u - x) * behind[0] + (v - y) * behind[1]
    return (rows, columns), across, (u - x) * along[0] + (v - y) * along[1]


def _distance_from_line(spine: Spine, behind: float, shape: tuple[int, ...]) -> FloatArray:
    """(H, W): distance in pixels from the line that runs so far behind the points."""
    line = spine.points + behind * spine.behind
    places = np.linspace(0, len(line) - 1, 60 * len(line))
    columns, rows = (np.interp(places, np.arange(len(line)), line[:, axis]) for axis in (0, 1))
    free = np.ones(shape, dtype=bool)
    u, v = np.rint(columns).astype(int), np.rint(rows).astype(int)
    inside = (u >= 0) & (v >= 0) & (u < shape[1]) & (v < shape[0])
    free[v[inside], u[inside]] = False
    return ndimage.distance_transform_edt(free) if inside.any() else np.full(shape, np.inf)


def _soft(depth: FloatArray, soft: float) -> Image:
    """1 deep inside, 0 outside, one half at the edge; ``depth`` in pixels."""
    return np.clip(depth / (2 * soft) + 0.5, 0, 1).astype(np.float32)


def _disjoint(marrow: Image, disc: Image, canal: Image) -> Masks:
    """The masks without what a nearer one has already: discs before marrow before the canal."""
    marrow = np.minimum(marrow, 1 - disc)
    return Masks(marrow, disc, np.minimum(canal, 1 - disc - marrow))


def _inside(point: FloatArray, size: tuple[int, ...]) -> bool:
    return bool(0 <= point[0] < size[1] and 0 <= point[1] < size[0])
