"""Exams that a package is measured on although it was trained on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainer.datasets.exam import Exam
from trainer.datasets.exam_hashes import hashes_of
from trainer.training.provenance import exams_seen

# So many exams are named in a warning.
_NAMED = 5


class Overlap:
    """Compares the exams that pass by with those that a package, or one that it was begun with, was trained on.

    Parameters
    ----------
    training
        The manifest's ``training``.
    """

    def __init__(self, training: Mapping[str, Any]) -> None:
        self._seen, self._unknown = exams_seen(training)
        self._by_uid: list[str] = []
        self._by_pixels: list[str] = []

    def watch(self, exams: Iterable[Exam]) -> Iterator[Exam]:
        """The same exams."""
        for exam in exams:
            if self._seen:
                common = hashes_of(exam) & self._seen
                if common.studies:
                    self._by_uid.append(exam.exam_id)
                elif common.pixels:
                    self._by_pixels.append(exam.exam_id)
            yield exam

    def warnings(self) -> list[str]:
        """What a reader of the figures must know; empty if no exam was seen in training."""
        found = [
            f"{len(exams)} of these exams were in the training data ({how}), so their figures mean nothing: {_names(exams)}"
            for exams, how in ((self._by_uid, "same StudyInstanceUID"), (self._by_pixels, "same pixels, other UIDs"))
            if exams
        ]
        if self._unknown:
            found.append(f"no fingerprints of the training data in {', '.join(self._unknown)}: overlap cannot be seen")
        return found

    def to_json(self) -> dict[str, Any]:
        """The exams by how they were recognised, and the packages whose training data are not known."""
        return {"same_study_uid": self._by_uid, "same_pixels": self._by_pixels, "not_known": self._unknown}


def _names(exams: list[str]) -> str:
    more = f" and {len(exams) - _NAMED} more" if len(exams) > _NAMED else ""
    return ", ".join(exams[:_NAMED]) + more
