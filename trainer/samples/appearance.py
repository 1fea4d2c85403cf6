"""Random changes of a training picture's grey values, as other scanners, coils, protocols and implants would show it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spineone_core.arrays import FloatArray
from spineone_core.detection.preprocessing import normalise

Images = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceConfig:
    """Ranges and shares; the defaults change nothing.

    ``gamma`` is the range of exponents, ``tone`` the strength of a random rising grey curve, ``bias`` that of coil fall-off,
    ``noise`` the largest Rician sigma as a share of the maximum, ``contrast_jitter`` a change after z-scoring. The others are
    shares of pictures: with a black ``border``, with ``coarse`` pixels, with ``wrap``-around across the spine, with the signal
    void of ``metal``, with a dark ``saturation`` band in front of or behind the spine.
    """

    gamma: tuple[float, float] = (1.0, 1.0)
    tone: float = 0.0
    bias: float = 0.0
    border: float = 0.0
    noise: float = 0.0
    contrast_jitter: float = 0.0
    coarse: float = 0.0
    wrap: float = 0.0
    metal: float = 0.0
    saturation: float = 0.0

    @property
    def changes_grey_values(self) -> bool:
        """Whether anything here differs from the defaults."""
        return any(getattr(self, f.name) != f.default for f in fields(AppearanceConfig))


def change_appearance(
    images: Images,
    points: FloatArray,
    spacing_mm: float,
    config: AppearanceConfig,
    rng: np.random.Generator,
    inside: NDArray[np.bool_] | None = None,
) -> Images:
    """The picture with a changed appearance, z-scored; its keypoints stay where they are.

    Parameters
    ----------
    images
        (slices, H, W), from 0 to 1.
    points
        (K, 2) column and row of the keypoints: implants lie near them, saturation bands keep away from them.
    spacing_mm
        Side of a pixel.
    inside
        (H, W) what of it is picture; None where all is.
    """
    images = np.clip(images, 0, 1) ** float(np.exp(rng.uniform(*np.log(config.gamma))))
    if config.tone:
        images = tone_curve(images, config.tone, rng)
    if rng.random() < config.metal:
        images = _with_metal(images, points, spacing_mm, rng)
    if config.bias:
        images = images * _bias_field(images.shape[-2:], config.bias, rng)
    if rng.random() < config.saturation:
        images = images * _saturation_band(images.shape[-1], points, spacing_mm, rng)
    if rng.random() < config.wrap:
        images = images + np.float32(rng.uniform(0.1, 0.35)) * np.roll(
            images, _half_turn(images.shape[-1], rng), axis=-1
        )
    if rng.random() < config.coarse:
        images = _coarse(images, spacing_mm, rng)
    if rng.random() < config.border:
        images = _darken_border(images, rng)
    if config.noise:
        images = _rician(images, config.noise, rng)
    images = normalise(images.astype(np.float32), inside)
    jitter = config.contrast_jitter
    return (images * rng.uniform(1 - jitter, 1 + jitter) + rng.uniform(-jitter, jitter)).astype(np.float32)


def tone_curve(images: Images, strength: float, rng: np.random.Generator, knots: int = 6) -> Images:
    """Grey values from 0 to 1, sent through a random rising curve that keeps both ends."""
    steps = np.exp(rng.normal(0, strength, knots - 1))
    curve = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    return np.interp(images, np.linspace(0, 1, knots), curve).astype(np.float32)


def _with_metal(images: Images, points: FloatArray, spacing_mm: float, rng: np.random.Generator) -> Images:
    """A signal void with a bright rim near a keypoint, as screws or a cage cause."""
    x, y = points[int(rng.integers(len(points)))] + rng.normal(0, 18 / spacing_mm, 2)
    radii = rng.uniform(4, 16, 2) / spacing_mm
    rows, columns = np.mgrid[: images.shape[-2], : images.shape[-1]]
    distance = np.hypot((columns - x) / radii[0], (rows - y) / radii[1])
    void = np.clip((distance - 0.8) / 0.4, 0, 1)
    rim = rng.uniform(0, 0.8) * np.exp(-(((distance - 1.15) / 0.12) ** 2))
    return (images * void + rim).astype(np.float32)


def _bias_field(size: tuple[int, ...], strength: float, rng: np.random.Generator) -> Images:
    """A smooth positive field: the fall-off of a surface coil behind the back, and a slow random polynomial."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    falloff = rng.uniform(0, strength) * (x - 1) - rng.uniform(0, strength) * 0.7 * (y - rng.uniform(-0.4, 0.4)) ** 2
    a, b, c = rng.normal(0, 0.2 * strength, 3)
    return np.exp(falloff + a * x * y + b * y + c * x).astype(np.float32)


def _saturation_band(width: int, points: FloatArray, spacing_mm: float, rng: np.random.Generator) -> Images:
    """(W,) factors: dark from a soft edge 15 to 60 mm beside the spine to the picture's border."""
    away, soft = rng.uniform(15, 60) / spacing_mm, rng.uniform(3, 15) / spacing_mm
    depth, columns = rng.uniform(0.05, 0.6), np.arange(width)
    ahead = rng.random() < 0.5
    inside = columns - (points[:, 0].min() - away) if ahead else points[:, 0].max() + away - columns
    return (depth + (1 - depth) / (1 + np.exp(-np.clip(inside / soft * 4, -30, 30)))).astype(np.float32)


def _half_turn(width: int, rng: np.random.Generator) -> int:
    return int(rng.uniform(0.35, 0.65) * width)


def _coarse(images: Images, spacing_mm: float, rng: np.random.Generator) -> Images:
    """The picture as if scanned with pixels of 1.1 to 1.8 mm, not always square, and interpolated."""
    factors = spacing_mm / (rng.uniform(1.1, 1.8) * np.exp(rng.normal(0, 0.1, 2)))
    size = [max(8, round(n * min(1.0, f))) for n, f in zip(images.shape[-2:], factors, strict=True)]
    small = F.interpolate(torch.from_numpy(images)[None], size=size, mode="area")
    return F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)[0].numpy()


def _darken_border(images: Images, rng: np.random.Generator) -> Images:
    """Black bands at the edges, as if the picture ended inside the crop."""
    result = images.copy()
    height, width = images.shape[-2:]
    left, right = (int(rng.uniform(0, 0.15) * width) for _ in range(2))
    top, bottom = (int(rng.uniform(0, 0.06) * height) for _ in range(2))
    result[:, :top] = result[:, height - bottom :] = 0
    result[:, :, :left] = result[:, :, width - right :] = 0
    return result


def _rician(images: Images, strength: float, rng: np.random.Generator) -> Images:
    sigma = strength * rng.random() ** 2 * max(float(images.max()), 1e-3)
    noise = np.float32(sigma) * rng.standard_normal((2, *images.shape), dtype=np.float32)
    return np.hypot(images + noise[0], noise[1])
