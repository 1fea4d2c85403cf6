"""A phantom study with results whose points are the phantom's truth: what a viewer must show is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom

from dicom_node.envelope import to_bytes
from dicom_node.gate import check
from dicom_node.identifiers import ResultKey
from dicom_node.key_object import build_key_object
from dicom_node.overlays import build_overlay
from dicom_node.presentation import build_presentation
from dicom_node.reports import SOP_CLASS, SOP_CLASS_2D, build_report
from spineone_core.anatomy import READING_ORDER, Grade
from spineone_core.dicom_series import SagittalVolume, group_series, load_volume, read_headers
from spineone_core.findings import Detection, Finding, ModelIdentity, Status
from spineone_core.phantom_dicom import WrittenExam, write_exam

MODEL = ModelIdentity(name="phantom-truth", version="1", digest="0" * 64)
CREATED = datetime(2026, 1, 5, 10, 0, 0)  # noqa: DTZ001 (a site's local time)


@dataclass(frozen=True)
class Case:
    """A study on disk, its truth as a detection, and its results."""

    exam: WrittenExam
    detection: Detection
    files: tuple[Path, ...]
    results: dict[str, Path]


def make_case(folder: Path, *, seed: int = 11, companions: bool = False, **options: Any) -> Case:
    """Write study and results below ``folder``; ``options`` as of ``write_exam``."""
    exam = write_exam(folder / "study", seed, companions=companions, **options)
    detection = truth(exam)
    files = tuple(path for group in exam.files.values() for path in group)
    return Case(exam, detection, files, _write_results(folder, exam, detection))


def truth(exam: WrittenExam) -> Detection:
    """The phantom's own points and grades; one level is left undecided, so that all three classes are shown."""
    volume = exam.exam.volume
    findings = []
    for landmark in READING_ORDER:
        x, y = exam.points[landmark.level]
        x_mm, y_mm, z_mm = (float(v) for v in volume.to_patient(volume.middle_index, x, y))
        degenerative = exam.exam.grades[landmark.level] is Grade.DEGENERATIVE
        undecided = landmark.level == "L3"
        findings.append(
            Finding(
                structure=landmark.structure,
                level=landmark.level,
                probability=0.52 if undecided else 0.94 if degenerative else 0.06,
                decided=not undecided,
                x=x,
                y=y,
                xyz_mm=(x_mm, y_mm, z_mm),
                localisation_confidence=1.0,
            )
        )
    return Detection(
        study_uid=exam.study_uid,
        series_uid=exam.series_uid,
        sop_instance_uid=exam.sop_instance_uid,
        model=MODEL,
        status=Status.ANALYSED,
        findings=tuple(findings),
        frame_number=exam.frame_number,
    )


def _write_results(folder: Path, exam: WrittenExam, detection: Detection) -> dict[str, Path]:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in exam.files["t2"]]
    header = next(h for h in headers if h.SOPInstanceUID == detection.sop_instance_uid)
    key = ResultKey(exam.study_uid, ((detection.sop_instance_uid, "0" * 64),), MODEL.digest, "")
    report = {"detection": detection, "header": header, "slice_header": header, "key": key, "created": CREATED}
    volume = {"detection": detection, "header": header, "volume": _as_read(exam), "key": key, "created": CREATED}
    datasets = {
        "sr": build_report(**report, images=headers, sop_class=SOP_CLASS),
        "sr-2d": build_report(**report, images=headers, sop_class=SOP_CLASS_2D),
        "overlay": build_overlay(**volume),
        "gsps": build_presentation(**volume, slice_header=header),
        "ko": build_key_object(detection=detection, header=header, slice_header=header, key=key, created=CREATED),
    }
    paths = {}
    for name, dataset in datasets.items():
        assert check(dataset) == [], name
        paths[name] = folder / f"{name}.dcm"
        paths[name].write_bytes(to_bytes(dataset))
    return paths


def _as_read(exam: WrittenExam) -> SagittalVolume:
    """The T2 series as the node reads it from its files."""
    frames, _ = read_headers(exam.files["t2"])
    (series,) = group_series(frames)
    return load_volume(series)
