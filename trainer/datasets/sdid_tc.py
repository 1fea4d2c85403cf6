"""Reader of the SDID-TC layout: ``studyN/imageM.dcm`` beside ``annotation.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom

from spineone_core.anatomy import DISCS, UPPER_DISC, VERTEBRAE, Grade
from spineone_core.dicom_series import FrameHeader, SeriesError, group_series, load_volume, read_headers
from trainer.datasets.exam import Exam, Skipped

# Spellings of the upper disc met in real files.
_UPPER_DISC_NAMES = {"T12-L1", "T11-T12", "T12"}


def read(folder: Path, annotations: Path | None = None) -> Iterator[Exam | Skipped]:
    """Every annotated exam below ``folder``; one that cannot be used is yielded as `Skipped`, never dropped silently.

    Raises
    ------
    FileNotFoundError
        If there is no annotation file.
    """
    annotations = annotations or folder / "annotation.json"
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations}: no annotation file")
    headers, _ = read_headers([folder])
    by_series: dict[str, list[FrameHeader]] = {}
    for header in headers:
        by_series.setdefault(header.series_uid, []).append(header)
    for study in json.loads(annotations.read_text(encoding="utf-8")):
        for data in _as_list(study["data"]):
            yield _read_one(str(study["studyUid"]), data, by_series, folder)


def _read_one(
    study_uid: str, data: dict[str, Any], by_series: dict[str, list[FrameHeader]], folder: Path
) -> Exam | Skipped:
    headers = by_series.get(str(data["seriesUid"]), [])
    series = next((s for s in group_series(headers) if _holds(s.frames, str(data["instanceUid"]))), None)
    if series is None:
        return Skipped(study_uid, "the annotated image is not there")
    try:
        # Training data are trusted; decoding in this process is faster.
        volume = load_volume(series, isolate=False)
        index = next(i for i, s in enumerate(volume.sources) if s.sop_instance_uid == str(data["instanceUid"]))
        points, grades = read_points(_as_list(data["annotation"])[0]["data"]["point"])
        path = volume.sources[index].path
        return Exam(
            exam_id=f"{folder.name}/{path.parent.name}",
            patient=read_patient(path),
            subset=folder.name,
            volume=volume,
            slice_index=index,
            points=points,
            grades=grades,
        )
    except (SeriesError, StopIteration, KeyError, ValueError) as error:
        return Skipped(study_uid, str(error) or "the annotated image is a duplicate slice")


def read_patient(path: Path) -> str:
    """PatientID, by which splits go; the study's folder name where it is empty."""
    dataset = pydicom.dcmread(path, specific_tags=["PatientID"], stop_before_pixels=True, force=True)
    return str(dataset.get("PatientID") or path.parent.name)


def _holds(frames: Iterable[FrameHeader], uid: str) -> bool:
    return any(frame.sop_instance_uid == uid for frame in frames)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def read_points(raw: list[dict[str, Any]]) -> tuple[dict[str, tuple[float, float]], dict[str, Grade | None]]:
    """Points and grades by level name; the tag is read under the key that the identification implies (reading 20).

    Raises
    ------
    ValueError
        If an identification is unknown or given twice.
    """
    points: dict[str, tuple[float, float]] = {}
    grades: dict[str, Grade | None] = {}
    for item in raw:
        tag = item["tag"]
        name = str(tag["identification"]).strip()
        level = UPPER_DISC if name in _UPPER_DISC_NAMES else name
        if level not in (*VERTEBRAE, *DISCS, UPPER_DISC):
            raise ValueError(f"unknown identification {name!r}")
        if level in points:
            raise ValueError(f"{level} is annotated twice")
        column, row = item["coord"]
        points[level] = (float(column), float(row))
        grades[level] = read_grade(str(tag.get("vertebra" if level in VERTEBRAE else "disc") or ""))
    return points, grades


def read_grade(codes: str) -> Grade | None:
    """``v1`` is normal, anything else degenerative, nothing unknown."""
    values = {code.strip() for code in codes.split(",") if code.strip()}
    if not values:
        return None
    return Grade.NORMAL if values == {"v1"} else Grade.DEGENERATIVE
