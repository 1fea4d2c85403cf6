"""Reader of the MICCAI CSI 2014 vertebra localisation data (Table V): CT volumes with centroid landmarks or label masks.

Below the folder lies, at any depth, a volume (``SCAN.nii.gz``, ``.nii``, ``.mha`` or ``.mhd``) for each scan, in the challenge
``patientNNNN/SCAN/SCAN.nii.gz``, and beside it one of

* ``SCAN.lml``: a header line, then for each vertebra a line ``number name x y z``, split by tabs or spaces (``L1_center``);
x, y
  and z are millimetres from the first voxel along the file's own axes;
* ``SCAN_label``, ``SCAN_mask`` or ``SCAN_seg`` in a volume format: each vertebra has a label of its own, whose centroid counts.

A scan belongs to the test part where a folder between the given one and the scan has ``test`` in its name, otherwise to the
training part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spineone_core.arrays import FloatArray
from trainer.datasets.exam import Skipped
from trainer.datasets.volume_files import centroids_of, find_volumes, read_volume, stem_of, values_of
from trainer.volumes.exam import VolumeExam, inside_volume

MASK_ENDINGS = ("_label", "_mask", "_seg")
# A labelled piece smaller than this is a slip of the annotator, not a vertebra.
MINIMUM_MM3 = 200.0


def read(folder: Path) -> Iterator[VolumeExam | Skipped]:
    """Every scan below ``folder``, one at a time; one that cannot be used is yielded as `Skipped`.

    A volume of 512 x 512 x 128 takes 134 MB, so keep what you reduce it to, not the exam itself.

    Raises
    ------
    FileNotFoundError
        If there is no volume at all.
    MissingLibraryError
        If SimpleITK is not installed.
    """
    volumes = [path for path in find_volumes(folder) if not stem_of(path).endswith(MASK_ENDINGS)]
    if not volumes:
        raise FileNotFoundError(f"{folder}: no CT volume (.nii.gz, .nii, .mha, .mhd)")
    for path in volumes:
        exam_id = str(path.relative_to(folder).parent / stem_of(path))
        try:
            yield _read_one(folder, path, exam_id)
        except ValueError as error:
            yield Skipped(exam_id, str(error))


def _read_one(folder: Path, path: Path, exam_id: str) -> VolumeExam:
    image = read_volume(path)
    annotated = _landmarks(path, image) or _mask_centroids(path, image)
    if annotated is None:
        raise ValueError(f"neither {stem_of(path)}.lml nor a mask ({', '.join(MASK_ENDINGS)}) lies beside {path.name}")
    shape = image.GetSize()[::-1]
    outside = sorted(name for name, point in annotated.items() if not inside_volume(point, shape))
    names = tuple(name for name in annotated if name not in outside)
    if not names:
        raise ValueError(f"all {len(outside)} landmarks lie outside the volume")
    parts = path.relative_to(folder).parts[:-1]
    return VolumeExam(
        exam_id=exam_id,
        patient=next((p for p in parts if re.match(r"patient", p, re.IGNORECASE)), stem_of(path)),
        part="test" if any("test" in p.lower() for p in parts) else "train",
        voxels=values_of(image).astype(np.float32),
        spacing_mm=image.GetSpacing(),
        points=np.array([annotated[name] for name in names]),
        names=names,
        notes=(f"left out, outside the volume: {', '.join(outside)}",) if outside else (),
    )


def _landmarks(path: Path, image: Any) -> dict[str, FloatArray] | None:
    """Name -> x, y, z in voxels of the turned image, or None where there is no landmark file."""
    file = path.with_name(f"{stem_of(path)}.lml")
    if not file.is_file():
        return None
    # Landmarks are given along the file's own axes, before these are turned.
    source = read_volume(path, orientation="")
    found: dict[str, FloatArray] = {}
    for name, millimetres in read_landmarks(file).items():
        index = (millimetres / np.array(source.GetSpacing())).tolist()
        place = source.TransformContinuousIndexToPhysicalPoint(index)
        found[name] = np.array(image.TransformPhysicalPointToContinuousIndex(place))
    return found


def read_landmarks(path: Path) -> dict[str, FloatArray]:
    """Vertebra name -> (x, y, z) in mm from the first voxel.

    Raises
    ------
    ValueError
        If a line is not ``number name x y z``, a name comes twice, or there is no landmark.
    """
    found: dict[str, FloatArray] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split()
        if not fields:
            continue
        try:
            name, place = fields[1].removesuffix("_center"), np.array([float(v) for v in fields[2:5]])
        except (IndexError, ValueError):
            name, place = "", np.zeros(0)
        if len(place) != 3 or not np.isfinite(place).all():
            raise ValueError(f"{path.name}, line {number}: not 'number name x y z'")
        if name in found:
            raise ValueError(f"{path.name}, line {number}: {name} is annotated twice")
        found[name] = place
    if not found:
        raise ValueError(f"{path.name}: no landmark")
    return found


def _mask_centroids(path: Path, image: Any) -> dict[str, FloatArray] | None:
    """Label -> x, y, z in voxels, or None where there is no mask."""
    wanted = {stem_of(path) + ending for ending in MASK_ENDINGS}
    mask_path = next((p for p in find_volumes(path.parent) if stem_of(p) in wanted), None)
    if mask_path is None:
        return None
    mask = read_volume(mask_path)
    if mask.GetSize() != image.GetSize():
        raise ValueError(f"{mask_path.name} has {mask.GetSize()} voxels, {path.name} {image.GetSize()}")
    voxel_mm3 = float(np.prod(image.GetSpacing()))
    found = {
        f"label {label}": np.array(centre)
        for label, (centre, count) in centroids_of(values_of(mask)).items()
        if count * voxel_mm3 >= MINIMUM_MM3
    }
    if len(found) < 2:
        raise ValueError(f"{mask_path.name} has {len(found)} labels; each vertebra needs a label of its own")
    return found
