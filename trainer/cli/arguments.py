"""Options and checks that several commands of ``spineone-train`` share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from trainer.datasets import formats, phantoms
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.sdid_tc import SHARED_NOTE
from trainer.datasets.splits import read_splits, select

console = Console(stderr=True)
T = TypeVar("T")

# Phantoms for validation and tests have seeds that training never sees.
EVALUATION_SEED = 1_000_000

DataOption = Annotated[
    list[str],
    typer.Option(
        "--data", help=f"folder, or FORMAT:FOLDER ({', '.join(formats.TWO_DIMENSIONAL)}); may be given several times"
    ),
]
SplitsOption = Annotated[
    Path | None, typer.Option(help="JSON: lists of PatientID by part; without it all exams are used")
]
AnnotationsOption = Annotated[
    Path | None,
    typer.Option("--annotations", help="annotation file of folders in the SDID-TC layout, where it lies elsewhere"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cuda, cuda:N or cpu")]


class UsageError(Exception):
    """Wrong arguments; the command ends with exit code 2."""


def check_bootstrap(samples: int) -> None:
    """Raises ``UsageError`` if there are too few samples for an interval."""
    if samples and samples < 10:
        raise UsageError(f"--bootstrap {samples}: at least 10, or 0 for no intervals")


def stream_exams(
    sources: list[str], splits: Path | None = None, part: str = "", annotations: Path | None = None
) -> Iterator[Exam]:
    """The exams of a part of all data sets, one at a time; what cannot be used is printed with the reason.

    Raises
    ------
    UsageError
        At the end, if there was no exam at all or no exam of the part.
    SplitError
        If the part is unknown or an exam's patient is in none.
    """
    part_of = read_splits(splits) if splits else None
    seen = odd = chosen = shared = 0
    for source in sources:
        for item in formats.read(source, annotations=annotations):
            if isinstance(item, Skipped):
                console.print(f"left out: {item.exam_id}: {item.why}", highlight=False, soft_wrap=True)
                continue
            seen, odd, shared = seen + 1, odd + bool(item.notes), shared + (SHARED_NOTE in item.notes)
            for exam in [item] if part_of is None else select([item], part_of, part):
                chosen += 1
                yield exam
    if sources and not seen:
        raise UsageError(f"no annotated exam in {', '.join(sources)}")
    if seen and not chosen:
        raise UsageError(f"{splits}: none of the {seen} exams belongs to the part {part}")
    if shared:
        console.print(f"{shared} of {seen} exams: {SHARED_NOTE}")
    if odd:
        console.print(f"{odd} of {seen} exams have odd annotations or files: see spineone-train inspect")


def exams_and_phantoms(
    sources: list[str], splits: Path | None, part: str, phantom_count: int, annotations: Path | None = None
) -> Iterator[Exam]:
    """What a finished model is measured on: the exams of a part, then phantoms that no training sees."""
    yield from stream_exams(sources, splits, part, annotations)
    yield from phantoms.read(range(EVALUATION_SEED, EVALUATION_SEED + phantom_count))


def counted(items: Iterable[T], done: str) -> Iterator[T]:
    """The same items; on a terminal, a line shows how many are done."""
    with console.status("") as status:
        for number, item in enumerate(items):
            status.update(f"{number} {done}")
            yield item


def with_centroids(exams: Iterable[Exam]) -> Iterator[Exam]:
    """The exams to train and calibrate on. At the end, it prints how many were left out because they only mark levels."""
    left_out = 0
    for exam in exams:
        if exam.centroids:
            yield exam
        else:
            left_out += 1
    if left_out:
        console.print(f"left out: {left_out} exams whose points mark levels but are no centroids")
