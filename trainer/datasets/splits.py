"""Which patient belongs to which part: a JSON object with a list of PatientIDs for each part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainer.datasets.exam import Exam

PARTS = ("train", "validation", "calibration", "test")


class SplitError(ValueError):
    """A split file is impossible; the message names the patient or the part."""


def read_splits(path: Path) -> dict[str, str]:
    """PatientID -> part.

    Raises
    ------
    SplitError
        If the file is not such an object, or a patient is in two parts.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SplitError(f"{path}: no split file: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(part, []), list) for part in PARTS):
        raise SplitError(f"{path}: no JSON object with lists of PatientID for {', '.join(PARTS)}")
    part_of: dict[str, str] = {}
    for part in PARTS:
        for patient in data.get(part, []):
            if patient in part_of:
                raise SplitError(f"{path}: patient {patient} stands in {part_of[patient]} and in {part}")
            part_of[patient] = part
    return part_of


def own_parts(exams: Iterable[Exam]) -> dict[str, str]:
    """Patient -> part, as the data set itself divides them; exams that name no part are left out.

    Raises
    ------
    SplitError
        If no exam names a part, an exam names an unknown one, or a patient is in two.
    """
    part_of: dict[str, str] = {}
    for exam in exams:
        if not exam.part:
            continue
        if exam.part not in PARTS:
            raise SplitError(f"exam {exam.exam_id}: unknown part {exam.part!r}; allowed: {', '.join(PARTS)}")
        if part_of.setdefault(exam.patient, exam.part) != exam.part:
            raise SplitError(f"exam {exam.exam_id}: its patient stands in {part_of[exam.patient]} and in {exam.part}")
    if not part_of:
        raise SplitError("the exams name no parts; write the split by hand")
    return part_of


def select(exams: Iterable[Exam], part_of: dict[str, str], part: str) -> Sequence[Exam]:
    """The exams of a part.

    Raises
    ------
    SplitError
        If the part is unknown or an exam's patient is in none.
    """
    if part not in PARTS:
        raise SplitError(f"unknown part {part!r}; allowed: {', '.join(PARTS)}")
    chosen = []
    for exam in exams:
        if exam.patient not in part_of:
            raise SplitError(f"exam {exam.exam_id}: its patient stands in no part of the split file")
        if part_of[exam.patient] == part:
            chosen.append(exam)
    return chosen
