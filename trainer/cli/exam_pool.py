"""The exams that a training has: each is read once for its pictures, and those that are measured on are read again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.cli.arguments import stream_exams, with_centroids
from trainer.datasets import formats
from trainer.datasets.exam import Exam
from trainer.datasets.exam_hashes import ExamHashes, hashes_of
from trainer.samples.augmentation import Picture
from trainer.samples.pictures import pictures_of
from trainer.training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class PooledExam:
    """What stays in memory of an exam: its pictures and fingerprints, and the source and annotation file it comes from."""

    source: str
    exam_id: str
    patient: str
    pictures: Sequence[Picture]
    hashes: ExamHashes
    annotations: Path | None = None


def read_pool(
    sources: Sequence[str], recipe: Recipe, wanted: Callable[[Exam], bool], annotations: Path | None = None
) -> list[PooledExam]:
    """The wanted exams with centroids of all data sets; what cannot be used is printed with the reason."""
    return [
        pooled(source, exam, recipe, annotations)
        for source in sources
        for exam in with_centroids(stream_exams([source], annotations=annotations))
        if wanted(exam)
    ]


def pooled(source: str, exam: Exam, recipe: Recipe, annotations: Path | None = None) -> PooledExam:
    """An exam of a source, as a training keeps it."""
    pictures = pictures_of(exam, recipe.preprocessing, recipe.slice_reach_mm)
    return PooledExam(source, exam.exam_id, exam.patient, pictures, hashes_of(exam), annotations)


def hashes_of_pool(pool: Sequence[PooledExam]) -> ExamHashes:
    """The fingerprints of all exams together."""
    found = ExamHashes()
    for exam in pool:
        found |= exam.hashes
    return found


def read_again(pool: Sequence[PooledExam], chosen: Collection[PooledExam]) -> Iterator[Exam]:
    """The chosen exams with their volumes, one at a time; the others are not loaded."""
    places = {(exam.source, exam.exam_id) for exam in chosen}
    for source, file in dict.fromkeys((exam.source, exam.annotations) for exam in pool):
        known = [e.exam_id for e in pool if e.source == source and (source, e.exam_id) not in places]
        for item in formats.read(source, known=known, annotations=file):
            if isinstance(item, Exam) and (source, item.exam_id) in places:
                yield item
