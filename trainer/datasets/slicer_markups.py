"""Reader of 3D Slicer's markups: ``NAME.mrk.json`` beside ``NAME.nrrd`` (or .nii.gz, .mha), the only volume, or a DICOM series.

Control points are labelled with levels, a class may stand in their description. Positions are in mm, in the coordinate system
that the file names: LPS as in DICOM, or RAS, whose first two axes run the other way.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spineone_core.arrays import FloatArray
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.names import level_named
from trainer.datasets.point_table import read_rows
from trainer.datasets.slice_images import patient_and_scanner
from trainer.datasets.tables import DatasetError
from trainer.datasets.volume_files import SAGITTAL, SUFFIXES, read_volume, sagittal_volume, stem_of

END = ".mrk.json"
# Old files number the systems as the program does.
_TO_LPS = {"LPS": (1, 1, 1), "1": (1, 1, 1), "RAS": (-1, -1, 1), "0": (-1, -1, 1)}


def read(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """One exam for each markups file below the folder except those ``known``; one that cannot be used is yielded as `Skipped`.

    Raises
    ------
    DatasetError
        If there is no such file.
    MissingLibraryError
        If SimpleITK is not installed.
    """
    files = sorted(folder.rglob(f"*{END}"))
    if not files:
        raise DatasetError(f"{folder}: no {END} file in it")
    for path in files:
        exam_id = f"{folder.name}/{path.relative_to(folder).as_posix().removesuffix(END)}"
        if exam_id in known:
            continue
        try:
            yield _exam(exam_id, path, folder)
        except (KeyError, TypeError, IndexError) as error:
            yield Skipped(exam_id, f"{path.name} has not the form of markups: {type(error).__name__} {error}")
        except (NotAnalysable, ValueError) as error:
            yield Skipped(exam_id, str(error))


def _exam(exam_id: str, path: Path, folder: Path) -> Exam:
    labels, places, classes = _control_points(path)
    volume = _volume_beside(path)
    notes: list[str] = []
    index = _nearest_slice(volume, places, notes)
    rows = []
    for label, place, said in zip(labels, places, classes, strict=True):
        x, y = volume.from_patient(place, index)
        rows.append({"level": label, "x": str(x), "y": str(y), "class": said})
    points, grades, raw = read_rows(rows, notes)
    patient, manufacturer, field = patient_and_scanner(volume, index, exam_id)
    return Exam(
        exam_id=exam_id,
        patient=patient,
        subset=folder.name,
        volume=volume,
        slice_index=index,
        points=points,
        grades=grades,
        manufacturer=manufacturer,
        field_strength_t=field,
        raw=raw,
        notes=(*notes, *volume.warnings),
    )


def _control_points(path: Path) -> tuple[list[str], FloatArray, list[str]]:
    """Labels, places (K, 3) in LPS mm and descriptions of the points that name a level and are placed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    labels, places, classes = [], [], []
    for markup in content["markups"]:
        system = str(markup.get("coordinateSystem"))
        if system not in _TO_LPS:
            raise ValueError(f"{path.name}: coordinate system {system}; known: LPS, RAS")
        for point in markup["controlPoints"]:
            if level_named(str(point["label"])) and point.get("positionStatus", "defined") == "defined":
                labels.append(str(point["label"]))
                places.append(np.array(point["position"], dtype=float) * _TO_LPS[system])
                classes.append(_class_in(point))
    if not places:
        raise ValueError(f"{path.name}: no control point is labelled with a level")
    return labels, np.array(places), classes


def _class_in(point: dict[str, Any]) -> str:
    return str(point.get("description") or "").strip()


def _volume_beside(path: Path) -> SagittalVolume:
    volumes = [p for p in sorted(path.parent.iterdir()) if p.name.endswith(SUFFIXES)]
    stem = path.name.removesuffix(END)
    same = [p for p in volumes if stem_of(p) == stem] or volumes
    if len(same) == 1:
        return sagittal_volume(read_volume(same[0], SAGITTAL), same[0], "slicer", path.parent.name)
    if same:
        raise ValueError(f"{path.name}: {len(same)} volumes beside it, none of them {stem}")
    headers, _ = read_headers(sorted(p for p in path.parent.rglob("*") if p.is_file() and p != path))
    groups = group_series(headers)
    if len(groups) != 1:
        raise ValueError(f"{path.name}: {len(groups)} series beside it; one is needed")
    return load_volume(groups[0], isolate=False)


def _nearest_slice(volume: SagittalVolume, places: FloatArray, notes: list[str]) -> int:
    """The slice nearest to the middle of all points; points beside it are moved there along the normal."""
    normal = np.cross(volume.row_direction, volume.column_direction)
    away = np.array([(places - origin) @ normal for origin in volume.origins])  # (slices, K)
    index = int(np.abs(np.median(away, axis=1)).argmin())
    moved = int((np.abs(away[index]) > 0.5 * max(volume.slice_step, 1e-3) + 1e-3).sum())
    if moved:
        notes.append(f"{moved} points lie on other slices and are moved to one along its normal")
    return index
