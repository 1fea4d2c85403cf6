"""Readers of label maps: data sets of nnU-Net, results of TotalSpineSeg and of SPINEPS.

A keypoint is the centroid of its structure's largest piece on the slice that shows most of the ten structures. Label maps know no
classes; ``classes.csv`` in the folder (columns ``image``, ``level``, ``class``) may give them. ``labels.json`` in the folder, an
object from label to level (``{"41": "L1"}``), replaces the numbers below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import DISCS, READING_ORDER, UPPER_DISC, VERTEBRAE
from spineone_core.findings import NotAnalysable
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.names import grade_named, level_named
from trainer.datasets.pieces import keypoints_of
from trainer.datasets.tables import DatasetError, read_table
from trainer.datasets.volume_files import SAGITTAL, SUFFIXES, read_volume, sagittal_volume, stem_of, values_of

Numbers = dict[int, str]

# Vertebrae 41 to 45; discs 91 (T12-L1) to 95 (L4-L5) and 100 (L5-S).
TOTALSPINESEG: Numbers = dict(enumerate(VERTEBRAE, start=41)) | {
    **dict(enumerate((UPPER_DISC, *DISCS[:-1]), start=91)),
    100: DISCS[-1],
}
# Vertebrae count from C1: 19 is T12, 20 to 24 are L1 to L5. A disc has 100 more than the vertebra above it.
SPINEPS: Numbers = dict(enumerate(VERTEBRAE, start=20)) | dict(enumerate((UPPER_DISC, *DISCS), start=119))

_CLASSES, _LABELS = "classes.csv", "labels.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """A label map and the image that it belongs to."""

    name: str
    image: Path
    labels: Path


def is_nnunet(folder: Path) -> bool:
    """Whether the folder is a data set in nnU-Net's layout."""
    return (folder / "dataset.json").is_file() and (folder / "labelsTr").is_dir()


def is_totalspineseg(folder: Path) -> bool:
    """Whether the folder holds TotalSpineSeg's results."""
    return (folder / "step2_output").is_dir()


def is_spineps(folder: Path) -> bool:
    """Whether results of SPINEPS lie below the folder."""
    return next(folder.rglob("*_seg-vert_msk.nii.gz"), None) is not None


def read_nnunet(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """``labelsTr/CASE.nii.gz`` with ``imagesTr/CASE_0000.nii.gz``; ``dataset.json`` says what the labels mean. See `read`."""
    return read(folder, partial(_nnunet_numbers, folder), _by_name(folder, ("labelsTr",), ("imagesTr",)), known)


def read_totalspineseg(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """``step2_output/NAME.nii.gz`` with ``input/NAME.nii.gz`` or ``images/``. See `read`."""
    pairs = _by_name(folder, ("step2_output", "labels"), ("input", "images"))
    return read(folder, lambda: TOTALSPINESEG, pairs, known)


def read_spineps(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """``NAME_seg-vert_msk.nii.gz`` below the folder with the image ``NAME`` beside it or one folder above. See `read`."""
    return read(folder, lambda: SPINEPS, _spineps_pairs(folder), known)


def read(
    folder: Path, numbers: Callable[[], Numbers], pairs: Iterable[Pair | Skipped], known: Collection[str]
) -> Iterator[Exam | Skipped]:
    """One exam for each pair except those ``known``; one that cannot be used is yielded as `Skipped`.

    Raises
    ------
    DatasetError
        If there is no label map, or what labels mean cannot be read or names no level.
    MissingLibraryError
        If SimpleITK is not installed.
    """
    own = folder / _LABELS
    level_of = _levels(_read_json(own).items(), own) if own.is_file() else numbers()
    classes = read_table(folder / _CLASSES, ("image", "level", "class")) if (folder / _CLASSES).is_file() else []
    found = list(pairs)
    if not found:
        raise DatasetError(f"{folder}: no label map")
    for pair in found:
        if isinstance(pair, Skipped):
            yield pair
        elif f"{folder.name}/{pair.name}" not in known:
            yield _exam(folder, pair, level_of, [row for row in classes if row["image"] == pair.name])


def _exam(folder: Path, pair: Pair, level_of: Numbers, classes: list[dict[str, str]]) -> Exam | Skipped:
    exam_id, notes = f"{folder.name}/{pair.name}", list[str]()
    try:
        image, mask = read_volume(pair.image, SAGITTAL), read_volume(pair.labels, SAGITTAL)
        if image.GetSize() != mask.GetSize():
            raise ValueError(f"the label map has {mask.GetSize()} voxels, the image {image.GetSize()}")
        volume = sagittal_volume(image, pair.image, "labels", folder.name)
        index, points = _best_slice(values_of(mask).astype(np.int32), volume.pixel_spacing, level_of)
        absent = [landmark.level for landmark in READING_ORDER if landmark.level not in points]
        if absent:
            notes.append(f"not on the slice that shows most levels, so without a point: {', '.join(absent)}")
        said = {level: row["class"] for row in classes if (level := level_named(row["level"]))}
        return Exam(
            exam_id=exam_id,
            patient=_patient(pair.name),
            subset=folder.name,
            volume=volume,
            slice_index=index,
            points=points,
            grades={level: grade_named(said.get(level, ""), level, notes) for level in points},
            raw=said,
            notes=tuple(notes),
        )
    except (NotAnalysable, ValueError) as error:
        return Skipped(exam_id, str(error))


def _best_slice(
    labels: NDArray[Any], spacing: tuple[float, float], level_of: Numbers
) -> tuple[int, dict[str, tuple[float, float]]]:
    """The slice with most structures, of several the middle one, and its keypoints."""
    found = [keypoints_of(plane, spacing, level_of) if plane.any() else {} for plane in labels]
    counts = np.array([sum(landmark.level in points for landmark in READING_ORDER) for points in found])
    best = np.flatnonzero(counts == counts.max())
    index = int(best[len(best) // 2])
    return index, found[index]


def _patient(name: str) -> str:
    """The subject of a BIDS name; of another one the whole name."""
    subject = re.search(r"sub-[A-Za-z0-9]+", name)
    return subject[0] if subject else name


# ---------------------------------------------------------------- what labels mean


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: holds no object")
    return content


def _nnunet_numbers(folder: Path) -> Numbers:
    path = folder / "dataset.json"
    return _levels(_read_json(path).get("labels", {}).items(), path)


def _levels(items: Iterable[tuple[str, Any]], path: Path) -> Numbers:
    """Label -> level, from pairs in either order; names that are no level are passed over."""
    found: Numbers = {}
    for a, b in items:
        number, name = (a, b) if str(a).isdigit() else (b, a)
        level = level_named(str(name))
        if level is not None and str(number).isdigit():
            found[int(number)] = level
    if not found:
        raise DatasetError(f"{path}: no label is named after a level, such as L1, disc_L1_L2 or L5-S1")
    return found


# ---------------------------------------------------------------- which image belongs to which label map


def _by_name(folder: Path, labels: Collection[str], images: Collection[str]) -> Iterator[Pair | Skipped]:
    """Label maps with the image of the same name, or of that with nnU-Net's ``_0000``."""
    for place in labels:
        for path in sorted(p for p in (folder / place).glob("*") if p.name.endswith(SUFFIXES)):
            name = stem_of(path)
            wanted = [
                folder / where / f"{stem}{end}"
                for where in images
                for stem in (name, f"{name}_0000")
                for end in SUFFIXES
            ]
            image = next((p for p in wanted if p.is_file()), None)
            if image is None:
                yield Skipped(f"{folder.name}/{name}", f"no image of that name in {' or '.join(images)}")
            else:
                yield Pair(name, image, path)


def _spineps_pairs(folder: Path) -> Iterator[Pair | Skipped]:
    for path in sorted(folder.rglob("*_seg-vert_msk.nii.gz")):
        name = path.name.partition("_seg-vert")[0]
        stem, _, modality = name.partition("_mod-")
        places = (path.parent, path.parent.parent)
        images = [p for place in places for p in sorted(place.glob(f"{stem}*")) if _is_image(p, stem, modality)]
        if images:
            yield Pair(name, images[0], path)
        else:
            yield Skipped(f"{folder.name}/{name}", f"no image {stem} beside its label map")


def _is_image(path: Path, stem: str, modality: str) -> bool:
    ends = (stem, f"{stem}_{modality}") if modality else (stem, f"{stem}_T2w")
    return path.name.endswith(SUFFIXES) and stem_of(path) in ends
