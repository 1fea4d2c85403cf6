"""Volumes in ITK's file formats (.mha, .mhd with .raw, .nii, .nii.gz, .nrrd), read by SimpleITK, an optional dependency."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import MRImageStorage

from spineone_core.imaging.volume import SagittalVolume, SliceSource

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
# Columns go towards posterior, rows towards inferior, slices along their cross product.
SAGITTAL = "PIR"


class MissingLibraryError(Exception):
    """SimpleITK is not installed; the message says how to get it."""


def find_volumes(folder: Path) -> list[Path]:
    """All volume files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())


def stem_of(path: Path) -> str:
    """The file's name without its (double) suffix."""
    suffix = next((s for s in SUFFIXES if path.name.endswith(s)), path.suffix)
    return path.name[: -len(suffix)]


def read_volume(path: Path, orientation: str = "LPS") -> Any:
    """A 3-D SimpleITK image whose axes (x, y, z) are turned towards ``orientation``; an empty one leaves them as they are.

    Raises
    ------
    ValueError
        If the file is missing, damaged or not three-dimensional; the message names it.
    MissingLibraryError
        If SimpleITK is not installed.
    """
    try:
        import SimpleITK as sitk  # noqa: N813 (its usual name)
    except ImportError as error:
        raise MissingLibraryError("this format needs SimpleITK: pip install 'spineone-node[train]'") from error
    if not path.is_file():
        raise ValueError(f"{path.name} is not there")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path.name} cannot be read as a volume: {_last_line(error)}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{path.name} is not a three-dimensional volume of one value a voxel")
    return sitk.DICOMOrient(image, orientation) if orientation else image


def sagittal_volume(image: Any, path: Path, *study: object) -> SagittalVolume:
    """An image that `read_volume` turned to ``SAGITTAL`` as a volume; its UIDs are made from ``study`` and the file's name."""
    directions = np.array(image.GetDirection()).reshape(3, 3)
    columns, rows, step = image.GetSpacing()
    count = image.GetSize()[2]
    names = (study[0], stem_of(path)) if len(study) < 3 else (*study[:2], stem_of(path))
    return SagittalVolume(
        voxels=values_of(image).astype(np.float32),
        origins=np.array(image.GetOrigin()) + np.outer(np.arange(count) * step, directions[:, 2]),
        row_direction=directions[:, 0],
        column_direction=directions[:, 1],
        pixel_spacing=(rows, columns),
        sources=tuple(SliceSource(path, name_uid(*names, k), MRImageStorage, None) for k in range(count)),
        study_uid=name_uid(*study),
        series_uid=name_uid(*names),
    )


def name_uid(*names: object) -> str:
    """A UID under 2.25 for files that have none; the same names always give the same."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, ':'.join(['spineone-train', *map(str, names)])).int}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def values_of(image: Any) -> NDArray[Any]:
    """(z, y, x) values of a SimpleITK image."""
    import SimpleITK as sitk  # noqa: N813

    values: NDArray[Any] = sitk.GetArrayFromImage(image)
    return values


def centroids_of(labels: NDArray[Any]) -> dict[int, tuple[tuple[float, float, float], int]]:
    """Label -> (x, y, z) of its centroid in voxels, and its number of voxels; label 0 is background.

    Parameters
    ----------
    labels
        (z, y, x) whole numbers.
    """
    places = np.nonzero(labels)
    found = labels[places]
    result = {}
    for label in np.unique(found):
        mine = found == label
        z, y, x = (float(axis[mine].mean()) for axis in places)
        result[int(label)] = ((x, y, z), int(mine.sum()))
    return result
