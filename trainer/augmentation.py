"""Training pictures: random geometry and appearance, with targets drawn afterwards (reading 25)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.dicom_series import FloatArray
from spineone_core.network import STRUCTURES
from spineone_core.preprocessing import normalise
from spineone_core.targets import Targets, draw_targets

# L1 and L5-S1 stay at least this far inside a crop where it is large enough: levels are counted from the sacrum.
END_MARGIN_MM = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One annotated stack, oriented as the network sees it.

    ``images`` (slices, H, W) uint8; ``spacing_mm`` of its pixels; ``points`` (10, 2) column and row in reading order, NaN
    where a level is not annotated; ``grades`` likewise; ``upper_disc`` (0 or 1, 2) is T12-L1 where it is annotated (reading 18).
    """

    images: NDArray[np.uint8]
    spacing_mm: float
    points: FloatArray
    grades: tuple[Grade | None, ...]
    upper_disc: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """Ranges of the random changes. `PAPER` has flip, zoom and crop only, as the text says."""

    size: tuple[int, int] = (512, 512)
    flip: float = 0.0
    zoom: tuple[float, float] = (0.7, 1.3)
    rotation_deg: float = 0.0
    shift_mm: float = 20.0
    shear: float = 0.0
    gamma: tuple[float, float] = (1.0, 1.0)
    bias: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    border: float = 0.0
    contrast_jitter: float = 0.0


PAPER = AugmentationConfig(flip=0.5)
STRONG = AugmentationConfig(
    size=(320, 256),
    zoom=(0.75, 1.3),
    rotation_deg=12.0,
    shift_mm=35.0,
    shear=0.06,
    gamma=(0.65, 1.5),
    bias=0.9,
    noise=0.06,
    blur=1.2,
    border=0.25,
    contrast_jitter=0.15,
)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Network input (slices, H, W), the targets of both structures, and the ten keypoints in its pixels with their classes."""

    images: NDArray[np.float32]
    targets: dict[Structure, Targets]
    points: FloatArray
    grades: tuple[Grade | None, ...]


def augment(
    picture: Picture,
    spacing_mm: float,
    radius: float,
    config: AugmentationConfig,
    rng: np.random.Generator,
    *,
    heatmap: str = "ocpc",
    ignore_upper_disc: bool = False,
) -> Sample:
    """A random crop at ``spacing_mm``, z-scored, with targets of radius ``radius`` pixels for a heatmap of ``network.HEATMAPS``.

    ``ignore_upper_disc`` takes T12-L1 out of the loss; otherwise it is background (reading 18).
    """
    matrix = _random_affine(picture, spacing_mm, config, rng)
    images = _warp(picture, matrix, config, rng)
    inverse = np.linalg.inv(matrix[:, :2])
    points = (picture.points - matrix[:, 2]) @ inverse.T
    above = (picture.upper_disc - matrix[:, 2]) @ inverse.T
    images = _appearance(images, config, rng)
    targets = {}
    for structure in STRUCTURES:
        chosen = [i for i, landmark in enumerate(READING_ORDER) if landmark.structure is structure]
        grades = [picture.grades[i] for i in chosen]
        ignored = above if ignore_upper_disc and structure is Structure.DISC else None
        targets[structure] = draw_targets(points[chosen], grades, config.size, radius, heatmap=heatmap, ignored=ignored)
    return Sample(images, targets, points, picture.grades)


def _random_affine(
    picture: Picture, spacing_mm: float, config: AugmentationConfig, rng: np.random.Generator
) -> FloatArray:
    """(2, 3): crop (column, row) -> picture (column, row)."""
    height, width = config.size
    zoom = np.exp(rng.uniform(*np.log(config.zoom)))
    scale = spacing_mm / picture.spacing_mm / zoom
    angle = np.radians(rng.uniform(-config.rotation_deg, config.rotation_deg))
    shear = rng.uniform(-config.shear, config.shear)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotation @ np.array([[1.0, shear], [0.0, 1.0]])
    if rng.random() < config.flip:
        linear = linear @ np.diag([-1.0, 1.0])
    centre = _crop_centre(picture, linear, config, rng)
    return np.column_stack([linear, centre - linear @ np.array([(width - 1) / 2, (height - 1) / 2])])


def _crop_centre(
    picture: Picture, linear: FloatArray, config: AugmentationConfig, rng: np.random.Generator
) -> FloatArray:
    """Where the crop's middle lies: near the spine's middle, moved about, along the spine only while its ends stay in view."""
    low, high = np.nanmin(picture.points, axis=0), np.nanmax(picture.points, axis=0)
    middle = (low + high) / 2
    half = (high - low) / 2 + END_MARGIN_MM / picture.spacing_mm
    room = np.array(config.size[::-1]) / 2 * np.abs(np.diag(linear)) - half
    shift = config.shift_mm / picture.spacing_mm
    reach = np.array([max(shift, room[0]), min(shift, max(0.0, room[1]))])
    return middle + rng.uniform(-reach, reach)


def _warp(
    picture: Picture, matrix: FloatArray, config: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    height, width = config.size
    images = torch.from_numpy(picture.images).float()[None] / 255
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    sigma = np.hypot(0.45 * max(0.0, scale - 1), abs(rng.normal(0, config.blur)) * scale * 0.6 if config.blur else 0.0)
    images = _blur(images, float(sigma))
    rows, columns = images.shape[-2:]
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    source = np.stack([u, v], axis=-1) @ matrix[:, :2].T + matrix[:, 2]
    grid = torch.from_numpy(((source + 0.5) * 2 / [columns, rows] - 1).astype(np.float32))[None]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0].numpy()


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian over the last two axes, sigma in pixels."""
    if sigma < 0.3:
        return images
    reach = int(np.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.transpose(0, 1)
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.transpose(0, 1)


def _appearance(
    images: NDArray[np.float32], config: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    images = np.clip(images, 0, 1) ** float(np.exp(rng.uniform(*np.log(config.gamma))))
    if config.bias:
        images = images * _bias_field(images.shape[-2:], config.bias, rng)
    if config.border and rng.random() < config.border:
        images = _darken_border(images, rng)
    if config.noise:
        sigma = config.noise * rng.random() ** 2 * max(float(images.max()), 1e-3)
        noise = rng.normal(0, sigma, (2, *images.shape)).astype(np.float32)
        images = np.hypot(images + noise[0], noise[1])  # Rician
    images = normalise(images.astype(np.float32))
    jitter = config.contrast_jitter
    return (images * rng.uniform(1 - jitter, 1 + jitter) + rng.uniform(-jitter, jitter)).astype(np.float32)


def _bias_field(size: tuple[int, ...], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth positive field: the fall-off of a surface coil behind the back, and a slow random polynomial."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    falloff = rng.uniform(0, strength) * (x - 1) - rng.uniform(0, strength) * 0.7 * (y - rng.uniform(-0.4, 0.4)) ** 2
    a, b, c = rng.normal(0, 0.2 * strength, 3)
    return np.exp(falloff + a * x * y + b * y + c * x).astype(np.float32)


def _darken_border(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Black bands at the edges, as of a picture that ends inside the crop."""
    result = images.copy()
    height, width = images.shape[-2:]
    left, right = (int(rng.uniform(0, 0.15) * width) for _ in range(2))
    top, bottom = (int(rng.uniform(0, 0.06) * height) for _ in range(2))
    result[:, :top] = result[:, height - bottom :] = 0
    result[:, :, :left] = result[:, :, width - right :] = 0
    return result
