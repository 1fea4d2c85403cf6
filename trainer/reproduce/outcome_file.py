"""The outcomes of a test set on disk, so that a table can be written again without running a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spineone_core.anatomy import Grade
from spineone_core.arrays import FloatArray
from trainer.evaluation.outcomes import Outcome
from trainer.volumes.evaluation import VolumeOutcome


def write(path: Path, outcomes: Sequence[Outcome] | Sequence[VolumeOutcome]) -> None:
    """Replace the file in one step. Patients are hashed, as intervals only need to know which exams belong together."""
    entries = [_volume_entry(o) if isinstance(o, VolumeOutcome) else _entry(o) for o in outcomes]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(entries), encoding="utf-8")
    part.replace(path)


def read(path: Path) -> list[Outcome]:
    """The outcomes of exams that `write` wrote."""
    return [_outcome(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def read_volumes(path: Path) -> list[VolumeOutcome]:
    """The outcomes of CT scans that `write` wrote."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [
        VolumeOutcome(e["exam"], e["patient"], np.reshape(e["truth"], (-1, 3)), np.reshape(e["found"], (-1, 3)))
        for e in entries
    ]


def _entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "exam": outcome.exam_id,
        "patient": _hashed(outcome.patient),
        "truth": _list(outcome.truth),
        "grades": [None if grade is None else grade.value for grade in outcome.grades],
        "predicted": _list(outcome.predicted),
        "probabilities": _list(outcome.probabilities),
        "true_categories": list(outcome.true_categories),
        "categories": None if outcome.categories is None else outcome.categories.tolist(),
    }


def _volume_entry(outcome: VolumeOutcome) -> dict[str, Any]:
    truth, found = outcome.truth.tolist(), outcome.found.tolist()
    return {"exam": outcome.exam_id, "patient": _hashed(outcome.patient), "truth": truth, "found": found}


def _outcome(entry: dict[str, Any]) -> Outcome:
    predicted, probabilities, categories = entry["predicted"], entry["probabilities"], entry["categories"]
    return Outcome(
        exam_id=entry["exam"],
        patient=entry["patient"],
        truth=np.array(entry["truth"], dtype=float),  # null -> NaN
        grades=tuple(None if grade is None else Grade(grade) for grade in entry["grades"]),
        predicted=None if predicted is None else np.array(predicted, dtype=float),
        probabilities=None if probabilities is None else np.array(probabilities, dtype=float),
        true_categories=tuple(entry["true_categories"]),
        categories=None if categories is None else np.array(categories),
    )


def _list(values: FloatArray | None) -> list[Any] | None:
    """The values as lists; NaN, which JSON does not have, becomes null."""
    if values is None:
        return None
    if values.ndim == 2:
        return [_list(row) for row in values]
    return [None if np.isnan(v) else round(float(v), 4) for v in values]


def _hashed(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()[:16]
