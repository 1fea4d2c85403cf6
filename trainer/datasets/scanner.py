"""What a DICOM header says about patient and scanner; exams are grouped by these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom

from trainer.datasets.exam import Exam
from trainer.datasets.tables import number_in


def _tags(path: Path, *keywords: str) -> Any:
    return pydicom.dcmread(path, specific_tags=list(keywords), stop_before_pixels=True, force=True)


def read_scanner(path: Path) -> tuple[str, float | None]:
    """Manufacturer ("" where unknown) and field strength in tesla (None where unknown or impossible)."""
    dataset = _tags(path, "Manufacturer", "MagneticFieldStrength")
    field = number_in(str(dataset.get("MagneticFieldStrength") or ""))
    if field is not None and field > 100:
        field /= 10_000  # some devices write gauss
    return str(dataset.get("Manufacturer") or "").strip(), field if field is not None and 0 < field < 15 else None


def read_patient(path: Path) -> str:
    """PatientID, by which exams are split; "" where there is none."""
    return str(_tags(path, "PatientID").get("PatientID") or "").strip()


def scanner_of(exam: Exam) -> str:
    """Manufacturer and field strength of an exam, as text for people."""
    field_strength = "field unknown" if exam.field_strength_t is None else f"{exam.field_strength_t:g} T"
    return f"{exam.manufacturer or 'maker unknown'}, {field_strength}"
