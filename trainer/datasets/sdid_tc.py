"""Reader of the SDID-TC layout: ``studyN/imageM.dcm`` with all series of a study in one folder, and a JSON of annotations.

The notes of an exam name what its files get wrong; nothing is changed but what the notes say.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineone_core.findings import NotAnalysable
from spineone_core.imaging.headers import FrameHeader, read_headers
from spineone_core.imaging.pixels import decode_file
from spineone_core.imaging.series import Series, group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.imaging.weighting import read_weighting
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.scanner import read_patient, read_scanner
from trainer.datasets.sdid_points import read_points
from trainer.datasets.study_names import StudyNames
from trainer.datasets.tables import DatasetError

# A DICOM image of a spine is never smaller than this; smaller files are left from a broken copy.
TINY_BYTES = 1024
# From so many studies on, one PatientID for all of them is taken for a mistake.
SHARED_FROM = 3
SHARED_NOTE = "all studies have one PatientID: each study counts as a patient of its own"


@dataclass(frozen=True, slots=True)
class _Files:
    """The files below the data set's folder, by series and by study. ``shared_patient``: all studies have one PatientID."""

    folder: Path
    names: StudyNames
    by_series: dict[str, list[FrameHeader]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    shared_patient: bool = False


def read(folder: Path, annotations: Path | None = None, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """Every annotated exam below ``folder`` except those ``known``; one that cannot be used is yielded as `Skipped`.

    Raises
    ------
    FileNotFoundError
        If there is no annotation file.
    DatasetError
        If that file is no JSON list of studies.
    """
    annotations = annotations or find_annotations(folder)
    if annotations is None or not annotations.is_file():
        raise FileNotFoundError(f"{annotations or folder / 'annotation.json'}: no annotation file")
    entries = _read_json(annotations)
    files = _find_files(folder)
    seen: set[str] = set()
    for number, study in enumerate(entries):
        for exam_id, item in _read_study(study, number, files, known):
            if exam_id in seen:
                item = Skipped(exam_id, "annotated more than once; the first annotation is used")
            seen.add(exam_id)
            if item is not None:
                yield item
    studies = {*files.names.all, *files.faults}
    for study_id in sorted(studies - {name.partition("#")[0] for name in seen}):
        yield Skipped(study_id, "; ".join(["no annotation", *files.faults[study_id]]))


def find_annotations(folder: Path) -> Path | None:
    """``annotation.json`` in the folder, or ``FOLDER_annotation.json`` in it or beside it, as the challenge distributes it.

    A file elsewhere is given with ``--annotations``.
    """
    name = f"{folder.resolve().name}_annotation.json"
    candidates = [folder / "annotation.json", folder / name, folder.resolve().parent / name]
    return next((path for path in candidates if path.is_file()), None)


def _read_json(path: Path) -> list[Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, list):
        raise DatasetError(f"{path}: holds no list of studies")
    return data


def _find_files(folder: Path) -> _Files:
    headers, unreadable = read_headers(_dicom_candidates(folder))
    names = StudyNames(folder, headers)
    files = _Files(folder, names, shared_patient=_is_shared(headers))
    for fault in unreadable:
        study = names.of_path(fault.path)
        files.faults[study].append(f"{fault.path.name} cannot be read ({_size(fault.path)}): {fault.why}")
    for header in headers:
        study = names.of(header)
        if header.path.stat().st_size < TINY_BYTES:
            files.faults[study].append(f"{header.path.name} has only {_size(header.path)}: left out")
        else:
            files.by_series[header.series_uid].append(header)
    return files


def _is_shared(headers: Iterable[FrameHeader]) -> bool:
    """Whether several studies all have the same PatientID, as careless anonymisation leaves it."""
    one_of = {header.study_uid: header.path for header in headers}
    return len(one_of) >= SHARED_FROM and len({read_patient(path) for path in one_of.values()}) == 1


def _dicom_candidates(folder: Path) -> list[Path]:
    """The files in the study folders; files beside those folders are no images."""
    places = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    return [p for place in places for p in sorted(place.rglob("*")) if p.is_file()]


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"


def _read_study(
    study: Any, number: int, files: _Files, known: Collection[str]
) -> Iterator[tuple[str, Exam | Skipped | None]]:
    """The exams of a study with their names; None in place of those known."""
    name = str(study.get("studyUid", f"entry {number + 1}")) if isinstance(study, dict) else f"entry {number + 1}"
    try:
        items = _as_list(study["data"])
    except (KeyError, TypeError):
        yield name, Skipped(name, "its annotation has no 'data'")
        return
    for k, item in enumerate(items):
        yield _read_one(item, name, f"#{k + 1}" if k else "", files, known)


def _read_one(
    data: Any, study_name: str, suffix: str, files: _Files, known: Collection[str]
) -> tuple[str, Exam | Skipped | None]:
    """One exam of a study; ``suffix`` tells the exams of a study apart."""
    exam_id = study_name + suffix
    try:
        uid, groups = str(data["instanceUid"]), group_series(files.by_series.get(str(data["seriesUid"]), []))
        series = next((s for s in groups if _holds(s.frames, uid)), None)
        if series is None:
            return exam_id, Skipped(exam_id, "the annotated image is not there")
        exam_id = files.names.of(series.first) + suffix
        return exam_id, None if exam_id in known else _build(data, uid, exam_id, series, groups, files)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return exam_id, Skipped(exam_id, f"its annotation has not the form of SDID-TC: {type(error).__name__} {error}")
    except (NotAnalysable, ValueError) as error:
        return exam_id, Skipped(exam_id, str(error))


def _build(data: dict[str, Any], uid: str, exam_id: str, series: Series, groups: list[Series], files: _Files) -> Exam:
    volume = _load(series)
    # `trainer.curation.importing` adds the frame for multi-frame images, which SDID-TC does not have.
    wanted = uid, data.get("frameNumber")
    index = next((i for i, s in enumerate(volume.sources) if (s.sop_instance_uid, s.frame_number) == wanted), None)
    if index is None:
        raise ValueError("another image lies at the annotated one's position")
    annotations = _as_list(data["annotation"])
    points = _as_list(annotations[0]["data"]["point"])
    annotation = read_points(points)
    path = volume.sources[index].path
    manufacturer, field_strength = read_scanner(path)
    study = exam_id.partition("#")[0]
    is_shared = files.shared_patient and not data.get("patient")
    patient = "" if is_shared else data.get("patient") or read_patient(path)
    return Exam(
        exam_id=exam_id,
        patient=str(patient or study),
        subset=files.folder.name,
        volume=volume,
        slice_index=index,
        points=annotation.points,
        grades=annotation.grades,
        centroids=bool(data.get("centroids", True)),
        manufacturer=manufacturer,
        field_strength_t=field_strength,
        raw=annotation.raw,
        notes=(
            *annotation.notes,
            *_annotation_notes(annotations, points, volume),
            *_series_notes(series, groups),
            *volume.warnings,
            *files.faults[study],
            *([SHARED_NOTE] if is_shared else []),
        ),
    )


def _load(series: Series) -> SagittalVolume:
    try:
        # Training data are trusted, and decoding in this process is faster.
        return load_volume(series, isolate=False)
    except NotAnalysable as error:
        broken = next((f.path for f in series.frames if not _decodes(f.path)), None)
        raise ValueError(f"{broken.name}: {error}" if broken else str(error)) from error


def _decodes(path: Path) -> bool:
    try:
        decode_file(path)
    except NotAnalysable:
        return False
    return True


def _annotation_notes(annotations: list[Any], points: list[dict[str, Any]], volume: SagittalVolume) -> Iterator[str]:
    if len(annotations) > 1:
        yield f"{len(annotations)} annotations; the first is used"
    indices = {point["zIndex"] for point in points if "zIndex" in point}
    if len(indices) > 1:
        yield f"its points name several slices: zIndex {', '.join(map(str, sorted(indices, key=str)))}"
    elif any(not isinstance(z, int) or not 0 <= z < len(volume.voxels) for z in indices):
        yield f"zIndex {indices.pop()} in a series of {len(volume.voxels)} slices"


def _series_notes(series: Series, groups: list[Series]) -> Iterator[str]:
    if len(groups) > 1:
        others = ", ".join(f"{len(g)} of {g.first.columns} x {g.first.rows}" for g in groups if g is not series)
        first = series.first
        yield f"its series mixes images: {len(series)} of {first.columns} x {first.rows} are used, not {others}"
    kind = read_weighting(series.first)
    if kind.kind != "T2":
        yield f"by its {kind.source} the annotated series is {kind.kind}, not T2"
    elif kind.source != "description":
        yield f"known as T2 only by its {kind.source}"


def _holds(frames: Iterable[FrameHeader], uid: str) -> bool:
    return any(frame.sop_instance_uid == uid for frame in frames)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
