"""Volume -> network input, and the exact way back: orientation, spacing alignment, slice choice, intensity.

The network always sees posterior to the right and inferior down, in square pixels of one spacing, however the scanner stored
the picture. `Grid` is the in-plane affine map between that picture and source pixels; both have pixel centres at integers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spineone_core.arrays import FloatArray
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.config import SIZE_MULTIPLE

POSTERIOR = np.array([0.0, 1.0, 0.0])
INFERIOR = np.array([0.0, 0.0, -1.0])
CLIP_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessingConfig:
    """How a volume becomes input.

    ``spacing_mm`` is the side of the network's pixels (0.4375 in the paper). ``slices`` are the channels (7 in the paper),
    about ``slice_step_mm`` apart where slices are thinner (reading 21). ``fused`` neighbouring stacks are analysed and
    their maps averaged (1 in the paper). Images larger than ``max_field_mm`` are refused.
    """

    spacing_mm: float = 0.4375
    slices: int = 7
    slice_step_mm: float = 4.5
    fused: int = 1
    max_field_mm: float = 640.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.spacing_mm <= 4:
            raise ValueError(f"spacing_mm {self.spacing_mm} is outside 0.1 to 4")
        if self.slices < 1 or self.fused < 1 or self.fused % 2 == 0:
            raise ValueError(f"slices {self.slices} must be at least 1 and fused {self.fused} odd")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PreprocessingConfig:
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown preprocessing option {', '.join(unknown)}")
        return cls(**data)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The network's picture: its size (rows, columns, before padding) and the affine map to source pixels.

    ``matrix`` is (2, 3): source (column, row) = matrix @ (u, v, 1).
    """

    rows: int
    columns: int
    matrix: FloatArray

    def to_source(self, points: FloatArray) -> FloatArray:
        """(..., 2) network (column, row) -> source (column, row)."""
        return np.asarray(points, dtype=float) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_grid(self, points: FloatArray) -> FloatArray:
        """(..., 2) source (column, row) -> network (column, row)."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        return (np.asarray(points, dtype=float) - self.matrix[:, 2]) @ inverse.T


@dataclass(frozen=True, slots=True)
class Orientation:
    """Which transposition and flips bring a source slice to posterior right, inferior down."""

    transpose: bool
    flip_columns: bool
    flip_rows: bool


def orientation_of(volume: SagittalVolume) -> Orientation:
    """The nearest signed permutation of the image axes; obliquity within the plane stays as it is."""
    row, column = volume.row_direction, volume.column_direction
    straight = abs(row @ POSTERIOR) + abs(column @ INFERIOR)
    crossed = abs(row @ INFERIOR) + abs(column @ POSTERIOR)
    transpose = bool(crossed > straight)
    across, down = (column, row) if transpose else (row, column)
    return Orientation(transpose, bool(across @ POSTERIOR < 0), bool(down @ INFERIOR < 0))


def make_grid(volume: SagittalVolume, spacing_mm: float) -> Grid:
    """The grid that holds the whole image at ``spacing_mm``.

    The edges of the first pixels coincide; the spacing is met to within half a pixel over the whole field.
    """
    orientation = orientation_of(volume)
    source_size = np.array(volume.voxels.shape[1:])[::-1]  # columns, rows
    source_spacing = np.array(volume.pixel_spacing)[::-1]
    if orientation.transpose:
        source_size, source_spacing = source_size[::-1], source_spacing[::-1]
    size = np.maximum(1, np.rint(source_size * source_spacing / spacing_mm)).astype(int)
    factors = source_size / size
    # An oriented pixel is factor * (u + 1/2) - 1/2; flips and transposition follow.
    linear, shift = np.diag(factors), factors / 2 - 0.5
    for axis, flip in enumerate((orientation.flip_columns, orientation.flip_rows)):
        if flip:
            linear[axis] *= -1
            shift[axis] = source_size[axis] - 1 - shift[axis]
    if orientation.transpose:
        linear, shift = linear[::-1], shift[::-1]
    return Grid(int(size[1]), int(size[0]), np.column_stack([linear, shift]))


def resample(image: NDArray[np.float32], orientation: Orientation, grid: Grid) -> NDArray[np.float32]:
    """A source slice (rows, columns) on the grid, anti-aliased where the grid is coarser."""
    if orientation.transpose:
        image = image.T
    if orientation.flip_columns:
        image = image[:, ::-1]
    if orientation.flip_rows:
        image = image[::-1]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    size = (grid.rows, grid.columns)
    resized = F.interpolate(tensor, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0, 0].numpy()


def stack_indices(volume: SagittalVolume, centre: int, count: int, step_mm: float) -> list[int]:
    """Indices of ``count`` slices around ``centre``, about ``step_mm`` apart; slices at the edge repeat (reading 21)."""
    step = volume.slice_step
    stride = max(1, round(step_mm / step)) if step > 0 else 1
    half = count // 2
    last = len(volume.voxels) - 1
    return [min(max(centre + offset * stride, 0), last) for offset in range(-half, count - half)]


def normalise(images: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Clip to the 0.5 and 99.5 percentiles and z-score, over all given slices together (reading 27).

    Parameters
    ----------
    images
        (slices, H, W).
    inside
        (H, W) what of it is picture, for pictures that are padded: only that counts. None where all is picture.
    """
    seen = images if inside is None or not inside.any() else images[:, inside]
    low, high = np.percentile(seen, CLIP_PERCENTILES)
    clipped = np.clip(images, low, high)
    known = np.clip(seen, low, high)
    return ((clipped - known.mean()) / max(float(known.std()), 1e-6)).astype(np.float32)


def used_slices(volume: SagittalVolume, middle: int, config: PreprocessingConfig) -> tuple[list[list[int]], list[int]]:
    """The stacks that are analysed around the index ``middle``, as indices of their slices, and all these indices once."""
    centres = stack_indices(volume, middle, config.fused, config.slice_step_mm)
    stacks = [stack_indices(volume, centre, config.slices, config.slice_step_mm) for centre in centres]
    return stacks, sorted({index for stack in stacks for index in stack})


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Network input of one volume.

    ``images`` (fused, slices, H, W) are z-scored and padded to multiples of 32. Findings lie on slice ``slice_index``.
    """

    images: NDArray[np.float32]
    grid: Grid
    slice_index: int


def prepare(volume: SagittalVolume, config: PreprocessingConfig, middle: int | None = None) -> Prepared:
    """Bring the slices around the index ``middle`` to the network's form; None takes the middle of the stack.

    Raises
    ------
    NotAnalysable
        ``field_of_view_too_large``, or ``unreadable_pixels`` where the middle slices are blank or not finite.
    """
    field_mm = np.array(volume.voxels.shape[1:]) * np.array(volume.pixel_spacing)
    if field_mm.max() > config.max_field_mm:
        raise NotAnalysable(
            Reason.FIELD_OF_VIEW_TOO_LARGE,
            f"field of view {field_mm.max():.0f} mm exceeds {config.max_field_mm:.0f} mm",
        )
    middle = volume.middle_index if middle is None else middle
    stacks, used = used_slices(volume, middle, config)
    grid, orientation = make_grid(volume, config.spacing_mm), orientation_of(volume)
    resampled = np.stack([resample(volume.voxels[index], orientation, grid) for index in used])
    if not np.isfinite(resampled).all() or resampled.max() <= resampled.min():
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, "the middle slices are blank or hold values that are not finite")
    planes = dict(zip(used, normalise(resampled), strict=True))
    images = np.stack([np.stack([planes[index] for index in stack]) for stack in stacks])
    return Prepared(pad(images), grid, middle)


def pad(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pad at the right and below with the darkest value, to multiples of 32."""
    rows, columns = images.shape[-2:]
    amounts = [(0, 0)] * (images.ndim - 2) + [(0, -rows % SIZE_MULTIPLE), (0, -columns % SIZE_MULTIPLE)]
    return np.pad(images, amounts, constant_values=float(images.min()))
