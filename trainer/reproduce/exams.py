"""The exams of a reproduction: what is trained on, chosen on and tested on, and how that reads in a title."""

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
    """``name`` says the data; ``scans`` gives the CT scans of a part (train, test), None where there are none."""

    name: str
    training: Sequence[Exam]
    validation: Sequence[Exam]
    test: Sequence[Exam]
    scans: Scans | None = None
    scans_name: str = ""
    _digests: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that training and test exams hold: other data are another training."""
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
    """400 training and 150 test exams of 550 at random (Section IV-A), of another number in the same proportion; never a patient
    in both, so a patient of several exams can move the border by a few.
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
    """At most so many exams at random."""
    if most is None or len(exams) <= most:
        return list(exams)
    chosen = np.random.default_rng([seed, 551]).permutation(len(exams))[:most]
    return [exams[i] for i in sorted(chosen)]


def phantom_set(training: int, test: int, slices: int) -> ExamSet:
    """Phantoms, for the smoke form and for a try without data."""

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
