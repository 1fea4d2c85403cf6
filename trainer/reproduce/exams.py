"""The exams of a reproduction: those to train, to choose the best on and to test, and what a title says about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.reproduce import paper
from trainer.volumes import ct_phantoms
from trainer.volumes.exam import VolumeExam

# Test phantoms come from seeds that training never sees.
TEST_SEEDS = 1_000_000

Scans = Callable[[str], Iterator[VolumeExam]]


@dataclass(frozen=True, slots=True, eq=False)
class ExamSet:
    """``name`` names the data; ``scans`` gives the CT scans of a part (train, test) and is None where there are none."""

    name: str
    training: Sequence[Exam]
    validation: Sequence[Exam]
    test: Sequence[Exam]
    scans: Scans | None = None
    scans_name: str = ""
    _digests: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the exams: a training with other data is another training."""
        if "exams" not in self._digests:
            digest = hashlib.sha256()
            for part in (self.training, self.validation, self.test):
                digest.update(b"part")
                for exam in part:
                    digest.update(
                        f"{exam.exam_id} {sorted(exam.points.items())} {sorted(exam.grades.items())}".encode()
                    )
                    digest.update(np.ascontiguousarray(exam.volume.voxels).tobytes())
            self._digests["exams"] = digest.hexdigest()
        return self._digests["exams"]


def split_by_seed(exams: Sequence[Exam], seed: int) -> tuple[list[Exam], list[Exam]]:
    """Training and test exams at random: 400 and 150 of 550 (Section IV-A), of another number in the same proportion.

    No patient is in both, so a patient with several exams can change the numbers a little.
    """
    patients = sorted({exam.patient for exam in exams})
    order = np.random.default_rng([seed, 550]).permutation(len(patients))
    wanted = len(exams) * paper.TRAINING_EXAMS // (paper.TRAINING_EXAMS + paper.TEST_EXAMS)
    count = {patient: sum(exam.patient == patient for exam in exams) for patient in patients}
    chosen: set[str] = set()
    taken = 0
    for index in order:
        if taken >= wanted:
            break
        chosen.add(patients[index])
        taken += count[patients[index]]
    training = [exam for exam in exams if exam.patient in chosen]
    return training, [exam for exam in exams if exam.patient not in chosen]


def keep(exams: Sequence[Exam], most: int | None, seed: int) -> list[Exam]:
    """At most so many exams, chosen at random."""
    if most is None or len(exams) <= most:
        return list(exams)
    chosen = np.random.default_rng([seed, 551]).permutation(len(exams))[:most]
    return [exams[i] for i in sorted(chosen)]


def phantom_set(training: int, test: int, slices: int) -> ExamSet:
    """Phantoms, for ``--smoke`` and for trials without data."""

    def scans(part: str) -> Iterator[VolumeExam]:
        first = 0 if part == "train" else TEST_SEEDS
        return ct_phantoms.read(range(first, first + 2), part)

    return ExamSet(
        name="phantoms",
        training=list(phantoms.read(range(training), slices=slices)),
        validation=[],
        test=list(phantoms.read(range(TEST_SEEDS, TEST_SEEDS + test), slices=slices)),
        scans=scans,
        scans_name="CT phantoms",
    )
