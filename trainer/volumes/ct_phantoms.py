"""Procedural CT of a spine with known centroids, for tests and short runs of the 3-D variant. It shows no real person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.volumes.exam import VolumeExam

# Hounsfield units.
AIR, FAT, MUSCLE, SPONGIOSA, CORTEX, METAL = -1000.0, -90.0, 50.0, 220.0, 700.0, 3000.0
SPACING_MM = (2.1, 2.1, 2.0)  # x, y, z
SIZE = (96, 128, 128)  # z, y, x


def read(seeds: range, part: str = "train") -> Iterator[VolumeExam]:
    """One scan for each seed; the same seed gives the same voxels."""
    for seed in seeds:
        yield make_volume(seed, part)


def make_volume(seed: int, part: str = "train") -> VolumeExam:
    """A trunk with four to six whole vertebrae on a curve, some with screws."""
    rng = np.random.default_rng([seed, 5])
    z, y, x = np.ogrid[: SIZE[0], : SIZE[1], : SIZE[2]]
    mm = (x * SPACING_MM[0], y * SPACING_MM[1], z * SPACING_MM[2])
    extent = np.array(SIZE[::-1]) * SPACING_MM
    voxels = np.full(SIZE, AIR, np.float32)
    trunk = _ellipse(mm[0] - extent[0] / 2, mm[1] - extent[1] / 2, 0.44 * extent[0], 0.38 * extent[1])
    voxels[np.broadcast_to(trunk < 1, SIZE)] = FAT
    voxels[np.broadcast_to(trunk < 0.75, SIZE)] = MUSCLE
    centres = _centres(rng, extent)
    for centre in centres:
        _paint_vertebra(voxels, mm, centre, rng)
    voxels += rng.normal(0, 25, SIZE).astype(np.float32)
    names = tuple(f"V{n + 1}" for n in range(len(centres)))
    points = centres / np.array(SPACING_MM)
    return VolumeExam(
        exam_id=f"ct-phantom/{seed}",
        patient=f"ct-phantom-{seed}",
        part=part,
        voxels=voxels,
        spacing_mm=SPACING_MM,
        points=points,
        names=names,
    )


def _ellipse(a: NDArray[np.float64], b: NDArray[np.float64], radius_a: float, radius_b: float) -> NDArray[np.float64]:
    return (a / radius_a) ** 2 + (b / radius_b) ** 2


def _centres(rng: np.random.Generator, extent: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 3) x, y, z in mm, from the feet to the head, on a gentle curve behind the middle of the trunk."""
    step = rng.uniform(29, 36)
    heights = np.arange(rng.uniform(17, 32), extent[2] - 15, step)
    phase, bend, lean = rng.uniform(0, 2 * np.pi), rng.uniform(4, 14), rng.uniform(-0.08, 0.08)
    across = extent[0] / 2 + rng.uniform(-10, 10) + lean * (heights - extent[2] / 2)
    deep = extent[1] * 0.6 + bend * np.sin(heights / 70 + phase)
    return np.column_stack([across, deep, heights])


def _paint_vertebra(
    voxels: NDArray[np.float32],
    mm: tuple[NDArray[np.float64], ...],
    centre: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """A body with a dense shell, pedicles and a spinous process behind it, sometimes screws in the pedicles."""
    dx, dy, dz = (axis - place for axis, place in zip(mm, centre, strict=True))
    half = np.array([22.0, 16.0, 12.0]) * rng.uniform(0.9, 1.1)
    body = (np.abs(dx) / half[0]) ** 4 + (np.abs(dy) / half[1]) ** 4 + (np.abs(dz) / half[2]) ** 4
    voxels[body < 1] = CORTEX
    voxels[body < 0.5] = SPONGIOSA * rng.uniform(0.7, 1.3)
    behind = dy - half[1]
    for side in (-1, 1):
        pedicle = _ellipse(dx - side * 13, dz, 4.5, 6) < 1
        voxels[pedicle & (behind > -2) & (behind < 16)] = CORTEX
    spinous = _ellipse(dx, dz, 4, 9) < 1
    voxels[spinous & (behind > 18) & (behind < 42)] = CORTEX
    if rng.random() < 0.15:
        for side in (-1, 1):
            voxels[(_ellipse(dx - side * 13, dz, 2.6, 2.6) < 1) & (behind > -20) & (behind < 18)] = METAL
