"""A slice as an 8-bit picture: which slice, its window, its size and the letters of its directions."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spineone_core.findings import Detection
from spineone_core.imaging.volume import SagittalVolume

IMAGE_HEIGHT = 1000
MAX_IMAGE_SIDE = 2048


def slice_index(volume: SagittalVolume, detection: Detection) -> int:
    """Index of the detection's slice in the volume; the middle slice where a refused study names none."""
    for index, source in enumerate(volume.sources):
        if (source.sop_instance_uid, source.frame_number) == (detection.sop_instance_uid, detection.frame_number):
            return index
    if detection.analysed:
        raise ValueError(f"slice {detection.sop_instance_uid} is not in the volume")
    return volume.middle_index


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """An RGB picture as PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def draw_slice(volume: SagittalVolume, index: int) -> tuple[Image.Image, tuple[float, float]]:
    """The slice, windowed and in square pixels, and its mm between rows and between columns."""
    plane = volume.voxels[index]
    rows, columns = plane.shape
    width, height = _picture_size(rows, columns, volume.pixel_spacing)
    picture = slice_picture(plane, (width, height), display_window(plane, volume.window))
    return picture, (rows * volume.pixel_spacing[0] / height, columns * volume.pixel_spacing[1] / width)


def slice_picture(plane: NDArray[np.float32], size: tuple[int, int], limits: tuple[float, float]) -> Image.Image:
    """A slice as a grey RGB picture of the given width and height; ``limits`` are its darkest and brightest value."""
    resized = Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS)
    return Image.fromarray(_windowed(np.asarray(resized), limits)).convert("RGB")


def _picture_size(rows: int, columns: int, spacing: tuple[float, float]) -> tuple[int, int]:
    """Width and height in pixels: about ``IMAGE_HEIGHT`` high, at least the native resolution, at most ``MAX_IMAGE_SIDE``."""
    height_mm, width_mm = rows * spacing[0], columns * spacing[1]
    per_mm = max(IMAGE_HEIGHT / height_mm, 1 / min(spacing))
    per_mm = min(per_mm, MAX_IMAGE_SIDE / max(height_mm, width_mm))
    return scaled_size((rows, columns), spacing, per_mm)


def scaled_size(shape: tuple[int, ...], spacing: tuple[float, float], per_mm: float) -> tuple[int, int]:
    """Width and height of a slice of (rows, columns) in square pixels, of which a millimetre has ``per_mm``."""
    return max(1, round(shape[1] * spacing[1] * per_mm)), max(1, round(shape[0] * spacing[0] * per_mm))


def display_window(plane: NDArray[np.float32], window: tuple[float, float] | None) -> tuple[float, float]:
    """Lowest and highest value shown: the series' own window (PS3.3 C.11.2.1.2), or percentiles where that shows no picture."""
    low, high = percentile_window(plane)
    if window is not None:
        centre, width = window
        own_low, own_high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        if own_high > own_low and _shows_picture(plane, own_low, own_high, high - low):
            return own_low, own_high
    return low, high


def percentile_window(plane: NDArray[np.float32]) -> tuple[float, float]:
    """From the darkest to nearly the brightest tissue; air and padding do not count."""
    low, top = (float(v) for v in np.percentile(plane, (1, 99.5)))
    tissue = plane[plane > low + 0.05 * (top - low)]
    high = float(np.percentile(tissue, 98.5)) if tissue.size else top
    return (low, high) if high > low else (low, low + 1)


def _shows_picture(plane: NDArray[np.float32], low: float, high: float, value_range: float) -> bool:
    """Whether the window neither clips most of the picture nor crushes it into a few grey levels."""
    clipped_high, clipped_low = float(np.mean(plane >= high)), float(np.mean(plane <= low))
    return clipped_high < 0.25 and clipped_low < 0.9 and value_range > 0.15 * (high - low)


def _windowed(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = limits
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(np.round(255 * share), dtype=np.uint8)


def direction_letters(direction: NDArray[np.float64]) -> str:
    """Patient letters of a direction in LPS (PS3.3 C.7.6.1.1.1), the strongest first; a second one only where it is oblique."""
    names = (("L", "R"), ("P", "A"), ("H", "F"))
    strong = sorted(((abs(v), names[axis][int(v < 0)]) for axis, v in enumerate(direction)), reverse=True)
    return "".join(letter for size, letter in strong[:2] if size > 0.35)
