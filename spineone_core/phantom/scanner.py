"""What a scanner does to a noise-free picture: coil, noise, wrap-around."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from spineone_core.arrays import AnyFloats
from spineone_core.phantom.config import PhantomConfig
from spineone_core.phantom.plan import Plan
from spineone_core.phantom.plane import Plane
from spineone_core.phantom.textures import enlarge


class Scanner:
    """Coil, blur, ghosts, noise and intensity scale of one exam, drawn at random."""

    def __init__(self, rng: np.random.Generator, plan: Plan, config: PhantomConfig) -> None:
        strength = config.artefacts
        self._plan = plan
        self._blur = float(rng.uniform(0.15, 0.15 + 0.5 * strength)) * min(1.0, 0.8 / plan.spacing)
        self._noise = float(np.exp(rng.uniform(math.log(0.004), math.log(0.004 + 0.035 * strength))))
        self._gamma = float(np.exp(rng.normal(0, 0.18 * min(strength, 1.0))))
        self._scale = float(rng.uniform(700, 1500))
        self._clip = float(rng.uniform(1.0, 1.8))
        self._ghost = float(rng.uniform(0, 0.025)) * strength if rng.random() < 0.4 else 0.0
        self._ghost_shift = int(rng.integers(plan.rows // 8, plan.rows // 2))
        self._wrap = float(rng.uniform(0.1, 0.5)) * strength if rng.random() < 0.1 else 0.0
        self._border = float(rng.uniform(0.01, 0.05)) * strength if rng.random() < 0.25 else 0.0
        self._sensitivity = _coil(rng, plan, strength)

    def image(self, signal: AnyFloats, plane: Plane, noise: np.random.Generator) -> AnyFloats:
        """What the scanner stores for a noise-free slice: (rows, columns) whole numbers >= 0."""
        picture = ndimage.gaussian_filter(signal, self._blur, truncate=2.5) if self._blur > 0.2 else signal
        picture = picture * self._sensitivity
        if self._ghost:
            picture = picture + self._ghost * np.roll(picture, self._ghost_shift, axis=0)
        if self._wrap:
            picture = _wrapped(picture, self._wrap)
        picture = rician(picture, self._noise, noise)
        if self._border:
            picture = picture * _inside(picture.shape, self._border)
        picture = np.minimum(picture, self._clip)
        if abs(self._gamma - 1) > 0.02:
            picture = picture**self._gamma
        return np.round(picture * np.float32(self._scale)).astype(np.float32)


def _coil(rng: np.random.Generator, plan: Plan, strength: float) -> AnyFloats:
    """Sensitivity (rows, columns), about 1 near the spine: a coil behind the back, weak at its ends, often dark in front."""
    plane = plan.plane(plan.slices // 2)
    small = (max(8, plan.rows // 8), max(8, plan.columns // 8))
    rows = np.linspace(0, plan.rows - 1, small[0])[:, None]
    columns = np.linspace(0, plan.columns - 1, small[1])[None, :]
    y = plane.origin[1] + columns * plane.along_row[1] + rows * plane.along_column[1]
    z = plane.origin[2] + columns * plane.along_row[2] + rows * plane.along_column[2]
    reach = float(np.exp(rng.uniform(math.log(55), math.log(400))))
    fall = np.exp(-np.maximum(70 - y, 0) / reach)
    centre, half = float(rng.normal(-45, 25)), float(rng.uniform(110, 330))
    ends = np.exp(-(np.maximum(np.abs(z - centre) / half - 0.35, 0) ** 2) * 1.5)
    waves = 1 + 0.15 * np.sin(
        y / float(rng.uniform(25, 80)) + z / float(rng.uniform(25, 80)) + float(rng.uniform(0, 6))
    )
    field_ = fall * ends * (1 + (waves - 1) * float(rng.random()))
    if rng.random() < 0.45:
        edge = -float(rng.uniform(26, 55)) + float(rng.normal(0, 0.15)) * z
        field_ = field_ * (1 - float(rng.uniform(0.4, 0.95)) * np.clip((edge - y) / float(rng.uniform(6, 25)), 0, 1))
    near = field_[(np.abs(y) < 30) & (np.abs(z) < 90)]
    field_ = np.clip(field_ / np.median(near), 0.005, 3.5) if near.size else field_ / field_.max()
    return np.maximum(enlarge((field_ ** min(strength, 1.0)).astype(np.float32), plan.rows, plan.columns), 0)


def rician(picture: AnyFloats, sigma: float, rng: np.random.Generator) -> AnyFloats:
    """Magnitude of the picture with Gaussian noise in both channels."""
    real = picture + np.float32(sigma) * rng.standard_normal(picture.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.sqrt(real * real + imaginary * imaginary)


def _wrapped(picture: AnyFloats, share: float) -> AnyFloats:
    """The lowest rows fold over onto the uppermost ones."""
    depth = len(picture) // 10
    weight = np.linspace(share, 0, depth, dtype=np.float32)[:, None]
    folded = picture.copy()
    folded[:depth] += picture[-depth:] * weight
    return folded


def _inside(shape: tuple[int, ...], depth: float) -> AnyFloats:
    """1 inside, 0 beyond the curved border that the correction of gradient distortion leaves at top and bottom."""
    rows, columns = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    return (np.abs(rows) < 1 - depth * (0.3 + columns**2)).astype(np.float32)
