"""What the detector must refuse: spoiled exams, test objects, and series of another contrast or anatomy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import MRImageStorage
from scipy import ndimage

from spineone_core.arrays import FloatArray
from spineone_core.detection.preprocessing import INFERIOR, POSTERIOR
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.files import files_by_study
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume, SliceSource
from spineone_core.phantom.config import Contrast, PhantomConfig
from spineone_core.phantom.exam import make_phantom
from trainer.datasets.contrasts import Recoloured, by_growing, recoloured
from trainer.datasets.exam import Exam

Images = NDArray[np.floating]

# Fewer slices are too few for a picture in another plane.
RESLICE_FROM = 9
TEST_OBJECT_PX = 384
# Slices so near the annotated one get another contrast; farther beside it, the spine lies elsewhere.
RECOLOURED_MM = 6.0
# What the phantoms that must be refused show.
FOREIGN_CONTRASTS: tuple[Contrast, ...] = ("t1", "water", "fat")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negative:
    """A volume without a readable sagittal T2 lumbar spine. It was made from ``patient``, by which negatives are split."""

    kind: str
    name: str
    patient: str
    volume: SagittalVolume


# ---------------------------------------------------------------- made from an exam


def spoiled(exam: Exam, seed: int) -> Iterator[Negative]:
    """One negative of each kind that can be made from an exam; the same seed makes the same ones."""
    for kind, change in SPOILERS.items():
        volume = change(exam, rng=np.random.default_rng([seed, *kind.encode()]))
        if volume is not None:
            yield Negative(kind=kind, name=f"{exam.exam_id}/{kind}", patient=exam.patient, volume=volume)


def upside_down(images: Images, spacing_mm: float, rng: np.random.Generator) -> Images:
    """The head is below, the feet above."""
    return images[:, ::-1]


def sideways(images: Images, spacing_mm: float, rng: np.random.Generator) -> Images:
    """The head is at the left, the feet at the right."""
    return images.transpose(0, 2, 1)


def inverted(images: Images, spacing_mm: float, rng: np.random.Generator) -> Images:
    """Dark is bright and bright is dark."""
    return images.max() - images


def heavy_motion(images: Images, spacing_mm: float, rng: np.random.Generator) -> Images:
    """The patient moves by centimetres between blocks of phase-encoding lines."""
    spectrum = np.fft.fft2(images, axes=(1, 2))
    rows, columns = spectrum.shape[1:]
    moves = np.repeat(rng.normal(0, 12 / spacing_mm, (rows // 4 + 1, 2)), 4, axis=0)[:rows]
    turns = np.fft.fftfreq(rows)[:, None] * moves[:, :1] + np.fft.fftfreq(columns)[None] * moves[:, 1:]
    return np.abs(np.fft.ifft2(spectrum * np.exp(2j * np.pi * turns), axes=(1, 2)))


def drowned(images: Images, spacing_mm: float, rng: np.random.Generator) -> Images:
    """Noise three times as strong as the picture."""
    noise = rng.normal(0, 3 * float(images.std()), (2, *images.shape))
    return np.hypot(images + noise[0], noise[1])


# Each takes (slices, H, W) and the spacing of square pixels and gives the spoiled pictures; "sideways" exchanges H and W.
IMAGE_SPOILERS: dict[str, Callable[[Images, float, np.random.Generator], Images]] = {
    "upside down": upside_down,
    "sideways": sideways,
    "inverted greys": inverted,
    "heavy motion": heavy_motion,
    "noise over all": drowned,
}


def _with_images(exam: Exam, kind: str, rng: np.random.Generator) -> SagittalVolume:
    volume = exam.volume
    voxels = IMAGE_SPOILERS[kind](volume.voxels, volume.pixel_spacing[0], rng)
    spacing = volume.pixel_spacing[::-1] if kind == "sideways" else volume.pixel_spacing
    return replace(volume, voxels=np.ascontiguousarray(voxels, dtype=np.float32), pixel_spacing=spacing)


def _recoloured(exam: Exam, contrast: Recoloured, rng: np.random.Generator) -> SagittalVolume | None:
    """The slices near the annotated one in another contrast; by other masks than the domain check learns from."""
    volume = exam.volume
    kept = np.flatnonzero(np.abs(volume.positions - volume.positions[exam.slice_index]) <= RECOLOURED_MM)
    posterior = np.array([volume.row_direction @ POSTERIOR, volume.column_direction @ POSTERIOR])
    # The same draw for every slice of the stack.
    seed, spacing = int(rng.integers(2**32)), volume.pixel_spacing[0]
    slices = [
        recoloured(
            volume.voxels[i],
            exam.point_array,
            spacing,
            contrast,
            np.random.default_rng(seed),
            posterior=posterior,
            masks_by=by_growing,
        )
        for i in kept
    ]
    voxels = [1000 * made for made in slices if made is not None]
    if not voxels:
        return None
    sources = tuple(volume.sources[i] for i in kept)
    return replace(volume, voxels=np.stack(voxels), origins=volume.origins[kept], sources=sources)


def _half_size(exam: Exam, rng: np.random.Generator) -> SagittalVolume:
    """Vertebrae of half the size, like those of a neck."""
    between_rows, between_columns = exam.volume.pixel_spacing
    return replace(exam.volume, pixel_spacing=(between_rows / 2, between_columns / 2))


def _upper_half(exam: Exam, rng: np.random.Generator) -> SagittalVolume | None:
    """Cut through L3 to L4-L5: the sacrum and the lowest levels are out of view."""
    return _cut(exam, str(rng.choice(["L3", "L3-L4", "L4", "L4-L5"])), below=False)


def _lower_half(exam: Exam, rng: np.random.Generator) -> SagittalVolume | None:
    """Cut through L2 to L3-L4: the upper levels are out of view."""
    return _cut(exam, str(rng.choice(["L2", "L2-L3", "L3", "L3-L4"])), below=True)


def _cut(exam: Exam, level: str, *, below: bool) -> SagittalVolume | None:
    """The part of the picture below or above a level's keypoint."""
    if level not in exam.points:
        return None
    volume, point = exam.volume, exam.points[level]
    down, along = float(volume.column_direction @ INFERIOR), float(volume.row_direction @ INFERIOR)
    axis, towards = (1, down) if abs(down) > abs(along) else (0, along)
    place, size = round(point[axis]), volume.voxels.shape[1 if axis == 1 else 2]
    kept = slice(place, size) if below == (towards > 0) else slice(0, place)
    direction = volume.column_direction if axis == 1 else volume.row_direction
    voxels = volume.voxels[:, kept] if axis == 1 else volume.voxels[:, :, kept]
    if min(voxels.shape[1:]) < 16:
        return None
    step = volume.pixel_spacing[0] if axis == 1 else volume.pixel_spacing[1]
    return replace(volume, voxels=np.ascontiguousarray(voxels), origins=volume.origins + kept.start * step * direction)


def _coronal(exam: Exam, rng: np.random.Generator) -> SagittalVolume | None:
    return _resliced(exam, 2)


def _axial(exam: Exam, rng: np.random.Generator) -> SagittalVolume | None:
    return _resliced(exam, 1)


def _resliced(exam: Exam, axis: int) -> SagittalVolume | None:
    """The plane through the spine's middle across ``axis``, in square pixels, shown as if it were sagittal."""
    volume = exam.volume
    if len(volume.voxels) < RESLICE_FROM:
        return None
    middle = np.nanmean(exam.point_array, axis=0)
    plane = np.take(volume.voxels, round(middle[0] if axis == 2 else middle[1]), axis=axis)
    spacing = volume.pixel_spacing[0 if axis == 2 else 1]
    picture = ndimage.zoom(plane, (volume.slice_step / spacing, 1), order=1)
    return made(picture.T if axis == 2 else picture, spacing, volume.series_uid)


SPOILERS: dict[str, Callable[..., SagittalVolume | None]] = {
    **{kind: partial(_with_images, kind=kind) for kind in IMAGE_SPOILERS},
    "water-like": partial(_recoloured, contrast="water"),
    "fat-like": partial(_recoloured, contrast="fat"),
    "half size": _half_size,
    "upper half": _upper_half,
    "lower half": _lower_half,
    "coronal": _coronal,
    "axial": _axial,
}


# ---------------------------------------------------------------- made from nothing


def drawn_objects(seed: int) -> Iterator[Negative]:
    """A picture of noise, a bottle and a head."""
    for kind, draw in OBJECTS.items():
        volume = made(draw(np.random.default_rng([seed, *kind.encode()])), 0.7, f"2.25.{seed}")
        yield Negative(kind=kind, name=f"{kind}/{seed}", patient=f"object-{seed}", volume=volume)


def test_objects(seeds: range) -> Iterator[Negative]:
    """For each seed what `drawn_objects` gives, a blank picture and a phantom of every other contrast."""
    for seed in seeds:
        yield from drawn_objects(seed)
        blank = made(np.full((TEST_OBJECT_PX, TEST_OBJECT_PX), float(seed % 1000)), 0.7, f"2.25.{seed}")
        yield Negative(kind="blank", name=f"blank/{seed}", patient=f"object-{seed}", volume=blank)
        for contrast in FOREIGN_CONTRASTS:
            phantom = make_phantom(seed, config=PhantomConfig(contrast=contrast), slices=3)
            kind = f"{contrast.upper() if contrast == 't1' else contrast} phantom"
            yield Negative(kind=kind, name=f"{kind}/{seed}", patient=f"phantom-{seed}", volume=phantom.volume)


def _noise(rng: np.random.Generator) -> FloatArray:
    """Of any grain."""
    white = rng.normal(0, 1, (TEST_OBJECT_PX, TEST_OBJECT_PX))
    return 100 + 100 * ndimage.gaussian_filter(white, rng.uniform(0, 20))


def _bottle(rng: np.random.Generator) -> FloatArray:
    """A bright cylinder seen from the side, with an air bubble."""
    y, x = _millimetres()
    half_width, half_height = rng.uniform(40, 75), rng.uniform(60, 120)
    inside = (np.abs(x) < half_width) & (np.abs(y) < half_height)
    inside &= np.hypot(x - rng.uniform(-20, 20), y + half_height) > rng.uniform(5, 30)
    shade = np.exp(-np.hypot(x, y) / rng.uniform(150, 600))
    return ndimage.gaussian_filter(800 * inside * shade, 1.0) + np.abs(rng.normal(0, 15, x.shape))


def _head(rng: np.random.Generator) -> FloatArray:
    """Scalp, skull, liquor, folded brain and ventricle as ellipses."""
    y, x = _millimetres()
    deep, tall = rng.uniform(80, 98), rng.uniform(65, 85)
    radius = np.hypot(x / deep, (y + 20) / tall)
    folds = ndimage.gaussian_filter(rng.normal(0, 1, x.shape), 4)
    brain = 420 + 160 * folds / folds.std()
    picture = np.select([radius < 0.82, radius < 0.87, radius < 0.94, radius < 1.0], [brain, 900.0, 60.0, 500.0], 15.0)
    ventricle = np.hypot(x / rng.uniform(18, 30), (y + 22) / rng.uniform(8, 14)) < 1
    neck = (np.abs(x - 20) < 45) & (y > 40)
    picture = np.where(ventricle, 950, np.where(neck & (radius >= 1), 300 + 80 * folds / folds.std(), picture))
    return ndimage.gaussian_filter(picture, 0.8) + np.abs(rng.normal(0, 15, x.shape))


def _millimetres() -> tuple[FloatArray, FloatArray]:
    """Rows and columns in mm from the picture's middle."""
    y, x = (np.mgrid[:TEST_OBJECT_PX, :TEST_OBJECT_PX] - TEST_OBJECT_PX / 2) * 0.7
    return y, x


OBJECTS: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "noise": _noise,
    "bottle": _bottle,
    "head": _head,
}


def made(picture: NDArray[np.floating], spacing_mm: float, uid: str) -> SagittalVolume:
    """A volume of one upright sagittal slice."""
    return SagittalVolume(
        voxels=np.ascontiguousarray(picture, dtype=np.float32)[None],
        origins=np.zeros((1, 3)),
        row_direction=np.array([0.0, 1.0, 0.0]),
        column_direction=np.array([0.0, 0.0, -1.0]),
        pixel_spacing=(spacing_mm, spacing_mm),
        sources=(SliceSource(Path("made.dcm"), f"{uid}.1", MRImageStorage, None),),
        study_uid=uid,
        series_uid=uid,
    )


# ---------------------------------------------------------------- read from files


def series_in(folder: Path) -> Iterator[Negative]:
    """Every series below a folder that can be read as parallel slices, whatever it is; the folder's name is the kind."""
    studies, _ = files_by_study([folder])
    for paths in studies.values():
        headers, _ = read_headers(paths)
        for series in group_series(headers):
            try:
                volume = load_volume(series)
            except NotAnalysable:
                continue
            patient = str(pydicom.dcmread(paths[0], specific_tags=["PatientID"]).get("PatientID", ""))
            yield Negative(kind=folder.name, name=f"{folder.name}/{series.uid}", patient=patient, volume=volume)
