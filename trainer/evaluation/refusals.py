"""How often the whole detector refuses what it must refuse, and what it must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from spineone_core.detection.detector import Detector
from spineone_core.findings import Status
from trainer.datasets.exam import Exam
from trainer.datasets.negatives import Negative, spoiled, test_objects

# The kind of a good exam begins with this word, before its subset.
GOOD = "good "


@dataclass(slots=True)
class Tally:
    """How often one kind of input was refused for each reason, and the names of those that were analysed."""

    reasons: Counter[str] = field(default_factory=Counter)
    analysed: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many inputs there were, refused or analysed."""
        return self.reasons.total() + len(self.analysed)


def trials(good: Iterable[Exam], others: Iterable[Negative], seeds: range) -> Iterator[Negative]:
    """The exams as they are (kind ``good`` and their subset) and spoiled, test objects of ``seeds``, and other series."""
    for number, exam in enumerate(good):
        yield Negative(kind=GOOD + exam.subset, name=exam.exam_id, patient=exam.patient, volume=exam.volume)
        yield from spoiled(exam, number)
    yield from test_objects(seeds)
    yield from others


def count_refusals(detector: Detector, inputs: Iterable[Negative]) -> dict[str, Tally]:
    """What the detector does with volumes that are given to it directly, past series selection; by kind."""
    tallies: dict[str, Tally] = {}
    for item in inputs:
        tally = tallies.setdefault(item.kind, Tally())
        detection = detector.detect(item.volume)
        if detection.status is Status.ANALYSED:
            tally.analysed.append(item.name)
        else:
            tally.reasons[str(detection.reason)] += 1
    return tallies
