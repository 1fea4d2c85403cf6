"""Training pictures with random geometry and appearance; the targets are drawn afterwards (reading 25)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.arrays import FloatArray
from spineone_core.network.config import STRUCTURES
from trainer.datasets.categories import Categories
from trainer.samples.appearance import AppearanceConfig, change_appearance
from trainer.samples.targets import GRADES, Marks

# L1 and L5-S1 stay at least this far inside a crop that is large enough, as levels are counted from the sacrum.
END_MARGIN_MM = 12.0
# A blur of less than so many pixels is left out; one reaches so many times its sigma.
_LEAST_BLUR, _BLUR_REACH = 0.3, 2.5
# Column and row that stand for a keypoint no crop shows.
OUT_OF_VIEW = -1e4


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One annotated stack, oriented as the network sees it.

    ``images`` (slices, H, W) are normalised, with pixels of ``spacing_mm``. ``points`` (10, 2) are column and row in reading
    order, NaN where a level is not annotated; ``grades`` are their classes. ``upper_disc`` (0 or 1, 2) is T12-L1 where it
    is annotated (reading 18). ``categories`` are as in `trainer.datasets.categories`.
    """

    images: NDArray[np.float16]
    spacing_mm: float
    points: FloatArray
    grades: tuple[Grade | None, ...]
    upper_disc: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    categories: Categories = (None,) * len(READING_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig(AppearanceConfig):
    """Ranges of the random changes. `PAPER` has only flip, zoom and crop, as the paper says.

    ``size`` is rows and columns of the crops; a share ``tall`` of the batches has ``tall_size`` instead, as a long field of
    view shows half of the thoracic spine. Crops move by up to ``shift_mm`` across the spine and ``slide_mm`` along it, but
    only so far that its ends stay in view; a share ``partial`` cuts some levels off. A share ``mirrored`` of the pictures
    continues at the top with its mirror image: so there are more vertebrae than in a short field of view, and the lumbar
    ones must be told by counting from the sacrum. With a ``canvas``, the middle of the picture is cut or padded to
    ``canvas`` x ``canvas`` pixels, and the crop lies anywhere in that, whatever it shows of the spine (reading 5). ``zoom`` is
    uniform in its logarithm (``zoom_by`` ratio) or in itself (factor).
    """

    size: tuple[int, int] = (512, 512)
    tall_size: tuple[int, int] = (512, 512)
    tall: float = 0.0
    canvas: int = 0
    flip: float = 0.0
    zoom: tuple[float, float] = (0.7, 1.3)
    zoom_by: str = "ratio"
    rotation_deg: float = 0.0
    shift_mm: float = 20.0
    slide_mm: float = 20.0
    partial: float = 0.0
    mirrored: float = 0.0
    shear: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        if self.zoom_by not in ("ratio", "factor"):
            raise ValueError(f"zoom_by {self.zoom_by!r}; allowed: ratio, factor")


PAPER = AugmentationConfig(canvas=640, flip=0.5, zoom_by="factor")
STRONG = AugmentationConfig(
    size=(320, 256),
    tall_size=(448, 288),
    tall=0.45,
    zoom=(0.75, 1.3),
    rotation_deg=12.0,
    shift_mm=35.0,
    slide_mm=120.0,
    partial=0.1,
    mirrored=0.3,
    shear=0.06,
    gamma=(0.65, 1.5),
    bias=0.9,
    noise=0.06,
    blur=1.2,
    border=0.25,
    contrast_jitter=0.15,
    tone=0.5,
    coarse=0.15,
    wrap=0.08,
    metal=0.06,
    saturation=0.2,
)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A network input (slices, H, W), what both structures' targets are drawn from, and the ten keypoints with their classes.

    ``points`` (10, 2) are in its pixels. The targets themselves are large; the training draws them on its device.
    """

    images: NDArray[np.float32]
    marks: dict[Structure, Marks]
    points: FloatArray
    grades: tuple[Grade | None, ...]


def augment(
    picture: Picture,
    spacing_mm: float,
    config: AugmentationConfig,
    rng: np.random.Generator,
    *,
    heatmap: str = "ocpc",
    ignore_upper_disc: bool = False,
) -> Sample:
    """A random crop at ``spacing_mm``, with what the targets for a heatmap as in ``HEATMAPS`` are drawn from.

    Outside the picture it has the darkest value, as padding has at work. Its grey values are those of the normalised picture;
    where ``config`` changes them, what the crop shows of the picture is normalised again.
    ``ignore_upper_disc`` takes T12-L1 out of the loss; otherwise it counts as background (reading 18).
    """
    if config.mirrored and rng.random() < config.mirrored:
        picture = _mirrored_above(picture)
    if config.canvas:
        picture = centre_cut(picture, config.canvas * spacing_mm)
    matrix = _random_affine(picture, spacing_mm, config, rng)
    images, inside = _warp(picture, matrix, config, rng)
    inverse = np.linalg.inv(matrix[:, :2])
    points = (picture.points - matrix[:, 2]) @ inverse.T
    above = (picture.upper_disc - matrix[:, 2]) @ inverse.T
    if config.changes_grey_values:
        known = points[np.isfinite(points).all(axis=1)]
        images = change_appearance(_from_zero_to_one(images, picture), known, spacing_mm, config, rng, inside)
    # Without the lowest disc nobody can count, so no level of such a crop has a name. The paper does not do this.
    nameless = points[-1, 1] > config.size[0] - 1 and not config.canvas
    drawn = np.full_like(points, OUT_OF_VIEW) if nameless else points
    nothing = np.full((1, 2), np.nan)
    ignored = {Structure.DISC: above if ignore_upper_disc and len(above) else nothing, Structure.VERTEBRA: nothing}
    kinds = picture.categories if heatmap == "categories" else [_class(grade) for grade in picture.grades]
    marks = {}
    for structure in STRUCTURES:
        chosen = [i for i, landmark in enumerate(READING_ORDER) if landmark.structure is structure]
        classes = np.array([-1 if kinds[i] is None else kinds[i] for i in chosen], dtype=np.int64)
        marks[structure] = Marks(drawn[chosen], classes, ignored[structure])
    return Sample(images, marks, points, picture.grades)


def _class(grade: Grade | None) -> int | None:
    return None if grade is None else GRADES.index(grade)


def _mirrored_above(picture: Picture) -> Picture:
    """The picture with the part above L1 mirrored on top of it."""
    rows = int(np.nanmin(picture.points[:, 1]) - END_MARGIN_MM / picture.spacing_mm)
    if rows < 2:
        return picture
    images = np.concatenate([picture.images[:, rows:0:-1], picture.images], axis=1)
    down = np.array([0.0, rows])
    return replace(picture, images=images, points=picture.points + down, upper_disc=picture.upper_disc + down)


def centre_cut(picture: Picture, side_mm: float) -> Picture:
    """The middle ``side_mm`` x ``side_mm`` of a picture; a smaller picture stays as it is, and warping pads it with black."""
    height, width = picture.images.shape[-2:]
    side = round(side_mm / picture.spacing_mm)
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    corner = np.array([left, top])
    images = picture.images[:, top : top + side, left : left + side]
    return replace(picture, images=images, points=picture.points - corner, upper_disc=picture.upper_disc - corner)


def _random_affine(
    picture: Picture, spacing_mm: float, config: AugmentationConfig, rng: np.random.Generator
) -> FloatArray:
    """(2, 3): crop (column, row) -> picture (column, row)."""
    height, width = config.size
    zoom = rng.uniform(*config.zoom) if config.zoom_by == "factor" else np.exp(rng.uniform(*np.log(config.zoom)))
    scale = spacing_mm / picture.spacing_mm / zoom
    angle = np.radians(rng.uniform(-config.rotation_deg, config.rotation_deg))
    shear = rng.uniform(-config.shear, config.shear)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotation @ np.array([[1.0, shear], [0.0, 1.0]])
    if rng.random() < config.flip:
        linear = linear @ np.diag([-1.0, 1.0])
    if config.canvas:
        canvas = config.canvas * spacing_mm / picture.spacing_mm
        centre = _anywhere(picture, canvas, scale * np.array([width, height]), rng)
    else:
        centre = _crop_centre(picture, linear, config, rng)
    return np.column_stack([linear, centre - linear @ np.array([(width - 1) / 2, (height - 1) / 2])])


def _crop_centre(
    picture: Picture, linear: FloatArray, config: AugmentationConfig, rng: np.random.Generator
) -> FloatArray:
    """The middle of the crop: near the middle of the spine, moved at random while the ends of the spine stay in view."""
    low, high = np.nanmin(picture.points, axis=0), np.nanmax(picture.points, axis=0)
    middle, length = (low + high) / 2, high - low
    half = length / 2 + END_MARGIN_MM / picture.spacing_mm
    room = np.array(config.size[::-1]) / 2 * np.abs(np.diag(linear)) - half
    shift, slide = config.shift_mm / picture.spacing_mm, config.slide_mm / picture.spacing_mm
    reach = np.array([max(shift, room[0]), min(slide, max(0.0, room[1]))])
    moved = rng.uniform(-reach, reach)
    if config.partial and rng.random() < config.partial:
        cut = max(0.0, room[1]) + rng.uniform(0.15, 0.6) * length[1]
        moved[1] = cut if rng.random() < 0.5 else -cut
    return middle + moved


def _anywhere(picture: Picture, canvas: float, crop: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The middle of a crop that lies anywhere on the canvas; a crop larger than the canvas is centred (reading 25).

    ``canvas`` is its side and ``crop`` is (width, height), both in picture pixels.
    """
    height, width = picture.images.shape[-2:]
    room = np.maximum(0.0, (canvas - crop) / 2)
    return np.array([(width - 1) / 2, (height - 1) / 2]) + rng.uniform(-room, room)


def _from_zero_to_one(images: NDArray[np.float32], picture: Picture) -> NDArray[np.float32]:
    low, high = float(picture.images.min()), float(picture.images.max())
    return (images - low) / max(high - low, 1e-6)


def _warp(
    picture: Picture, matrix: FloatArray, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The crop, and (H, W) what of it lies in the picture."""
    height, width = config.size
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    sigma = np.hypot(0.45 * max(0.0, scale - 1), abs(rng.normal(0, config.blur)) * scale * 0.6 if config.blur else 0.0)
    u, v = np.arange(width), np.arange(height)[:, None]
    x, y = (row[0] * u + row[1] * v + row[2] for row in matrix)
    rows, columns = picture.images.shape[-2:]
    inside: NDArray[np.bool_] = (x >= -0.5) & (x <= columns - 0.5) & (y >= -0.5) & (y <= rows - 0.5)
    # Only what the crop shows is blurred and sampled, with as much around it as both reach.
    reach = 2 + (int(_BLUR_REACH * sigma + 0.5) if sigma > _LEAST_BLUR else 0)
    across, down = _seen(x, columns, reach), _seen(y, rows, reach)
    darkest = darkest_of(picture.images)
    pixels = picture.images[:, down, across].astype(np.float32)
    if sigma > _LEAST_BLUR:
        pixels = ndimage.gaussian_filter(pixels, float(sigma), axes=(1, 2), truncate=_BLUR_REACH, mode="nearest")
    grid = np.empty((1, height, width, 2), np.float32)
    grid[0, ..., 0] = (x - across.start + 0.5) * (2 / pixels.shape[2]) - 1
    grid[0, ..., 1] = (y - down.start + 0.5) * (2 / pixels.shape[1]) - 1
    pixels -= np.float32(darkest)
    source = torch.from_numpy(pixels)[None]
    warped = F.grid_sample(source, torch.from_numpy(grid), mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped[0].numpy() + np.float32(darkest), inside


def _seen(places: FloatArray, length: int, reach: int) -> slice:
    """The pixels of an axis that a crop with these places on it can show; at least one."""
    first = min(max(0, int(np.floor(places.min())) - reach), length - 1)
    return slice(first, max(first + 1, min(length, int(np.ceil(places.max())) + reach + 1)))


def darkest_of(images: NDArray[np.float16]) -> float:
    """The least of finite half-precision values. Their bits, as whole numbers, are found many times faster."""
    bits = images.view(np.uint16)
    # With a sign, larger bits are a smaller number; without one they are a larger number.
    largest = bits.max()
    return float((largest if largest >= 0x8000 else bits.min()).view(np.float16))
