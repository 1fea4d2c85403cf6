"""Reader of reviews: what people at a hospital confirmed or corrected in the node's results (format: docs/training.md).

Each study has a folder, at any depth, with ``review.json`` beside the study's de-identified DICOM files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from spineone_core.anatomy import Grade, Landmark, Structure
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.scanner import read_scanner
from trainer.datasets.tables import DatasetError

FILE = "review.json"
FORMAT, VERSION = "spineone-review", 1
CONFIRMED, CORRECTED, REJECTED, PROPOSED = "confirmed", "corrected", "rejected", "proposed"
VERDICTS = (CONFIRMED, CORRECTED, REJECTED, PROPOSED)


def read(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """Every reviewed study below ``folder`` except those ``known``; one that is rejected, unusable or only proposed by the
    node is yielded as `Skipped`.

    Raises
    ------
    DatasetError
        If there is no review at all.
    """
    reviews = sorted(folder.rglob(FILE))
    if not reviews:
        raise DatasetError(f"{folder}: no {FILE} in it")
    for path in reviews:
        exam_id = f"{folder.name}/{path.parent.relative_to(folder)}"
        if exam_id in known:
            continue
        try:
            yield _read_one(path, exam_id, folder.name)
        except (NotAnalysable, ValueError) as error:
            yield Skipped(exam_id, str(error))


def _read_one(path: Path, exam_id: str, subset: str) -> Exam:
    review = _read_review(path)
    if review["verdict"] == REJECTED:
        raise ValueError(f"rejected: {review.get('reason') or 'no reason given'}")
    volume, index = _annotated_slice(path.parent, review)
    if review["verdict"] == PROPOSED:
        raise ValueError("not reviewed yet: the points are the model's own proposal")
    points, grades, unmoved = _points(review["points"])
    manufacturer, field_strength = read_scanner(volume.sources[index].path)
    notes = [*volume.warnings]
    if unmoved:
        notes.append(f"{unmoved} of {len(points)} points are the model's own, confirmed but not moved")
    return Exam(
        exam_id=exam_id,
        patient=str(review["patient"]),
        subset=subset,
        volume=volume,
        slice_index=index,
        points=points,
        grades=grades,
        manufacturer=manufacturer,
        field_strength_t=field_strength,
        raw={level: str(grade or "unknown") for level, grade in grades.items()},
        notes=tuple(notes),
    )


def _read_review(path: Path) -> dict[str, Any]:
    """The JSON object, once its keys and its verdict are checked."""
    try:
        review = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{FILE} is no JSON: {error}") from error
    if not isinstance(review, dict) or (review.get("format"), review.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{FILE} is not of format {FORMAT}, version {VERSION}")
    missing = [key for key in ("patient", "series_uid", "sop_instance_uid", "verdict", "points") if key not in review]
    if missing:
        raise ValueError(f"{FILE} has no {', '.join(missing)}")
    if review["verdict"] not in VERDICTS:
        raise ValueError(f"verdict {review['verdict']!r}; allowed: {', '.join(VERDICTS)}")
    return review


def _annotated_slice(folder: Path, review: dict[str, Any]) -> tuple[SagittalVolume, int]:
    """The series of the reviewed slice as a volume, and the index of the slice in it."""
    headers, unreadable = read_headers(p for p in folder.rglob("*") if p.is_file() and p.name != FILE)
    wanted = str(review["sop_instance_uid"]), review.get("frame_number")
    uids = [str(uid) for uid in review.get("series_uids") or [review["series_uid"]]]
    for series in group_series(h for h in headers if h.series_uid in uids):
        if any((f.sop_instance_uid, f.frame_number) == wanted for f in series.frames):
            volume = load_volume(series)
            sources = [(s.sop_instance_uid, s.frame_number) for s in volume.sources]
            if wanted in sources:
                return volume, sources.index(wanted)
    faults = f" ({len(unreadable)} files cannot be read, the first {unreadable[0].path.name})" if unreadable else ""
    raise ValueError(f"the reviewed image is not there{faults}")


def _points(items: Any) -> tuple[dict[str, tuple[float, float]], dict[str, Grade | None], int]:
    """Points and classes by level, and how many of the points are the model's own."""
    points: dict[str, tuple[float, float]] = {}
    grades: dict[str, Grade | None] = {}
    unmoved = 0
    for item in items:
        try:
            level = Landmark(Structure(item["structure"]), item["level"]).level
            point, said = (float(item["x"]), float(item["y"])), item["class"]
            grade = None if said is None else Grade(said)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"point {item!r} is not understood: {error}") from error
        if level in points:
            raise ValueError(f"{level} has two points")
        points[level], grades[level] = point, grade
        unmoved += item.get("source") == "model"
    return points, grades, unmoved
