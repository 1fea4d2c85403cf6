"""Fingerprints of exams, by which a package says what it was trained on without naming anybody.

An exam is known by its StudyInstanceUID, or by its pixels where a copy has other UIDs. Patient ids are not hashed: there are
so few of them that they can be guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.datasets.exam import Exam

# 128 bits: no two exams share them by chance.
_DIGITS = 32


@dataclass(frozen=True, slots=True)
class ExamHashes:
    """SHA-256 values, cut to 128 bits, of StudyInstanceUIDs (``studies``) and of pixels (``pixels``)."""

    studies: frozenset[str] = frozenset()
    pixels: frozenset[str] = frozenset()

    def __or__(self, other: ExamHashes) -> ExamHashes:
        return ExamHashes(self.studies | other.studies, self.pixels | other.pixels)

    def __and__(self, other: ExamHashes) -> ExamHashes:
        return ExamHashes(self.studies & other.studies, self.pixels & other.pixels)

    def __bool__(self) -> bool:
        return bool(self.studies or self.pixels)

    def to_json(self) -> dict[str, list[str]]:
        """As plain JSON values, in an order that says nothing."""
        return {"study_uid_hashes": sorted(self.studies), "pixel_hashes": sorted(self.pixels)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExamHashes:
        """What `to_json` wrote."""
        return cls(frozenset(data["study_uid_hashes"]), frozenset(data["pixel_hashes"]))


def hashes_of(exam: Exam) -> ExamHashes:
    """The fingerprints of one exam. That of its pixels does not depend on UIDs, nor on the order of the slices."""
    planes = sorted(hashlib.sha256(np.asarray(p, np.float32).tobytes()).digest() for p in exam.volume.voxels)
    pixels = hashlib.sha256(b"".join(planes)).hexdigest()[:_DIGITS]
    uid = exam.volume.study_uid
    studies = frozenset([hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]]) if uid else frozenset()
    return ExamHashes(studies, frozenset([pixels]))


def hashes_of_all(exams: Iterable[Exam]) -> ExamHashes:
    """The fingerprints of several exams together."""
    found = ExamHashes()
    for exam in exams:
        found |= hashes_of(exam)
    return found
