"""Makes tables and figures of the paper by name; their titles state data set, epochs and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from trainer.datasets import formats
from trainer.datasets.exam import Exam
from trainer.datasets.splits import SplitError, read_splits, select
from trainer.reproduce import figures, paper, report, tables
from trainer.reproduce.budget import Budget
from trainer.reproduce.exams import ExamSet, keep, phantom_set, split_by_seed
from trainer.reproduce.report import Item
from trainer.reproduce.trainings import Trainings
from trainer.training.options import RunOptions
from trainer.training.run_folder import TrainingError
from trainer.volumes.exam import VolumeExam
from trainer.volumes.scans import read_scans

TABLES: dict[str, Callable[[Trainings, str], Item]] = {
    "table1": tables.table1,
    "table2": tables.table2,
    "table3": tables.table3,
    "table4": tables.table4,
    "table5": tables.table5,
}
CURVES: dict[str, Callable[[Trainings, str, str], Item]] = {"fig7": figures.fig7, "fig8": figures.fig8}
PICTURES: dict[str, Callable[[Trainings, str], Item]] = {
    "fig4": figures.fig4,
    "fig6": figures.fig6,
    "fig9": figures.fig9,
}
ITEMS = (*TABLES, "fig4", "fig6", "fig7", "fig8", "fig9")

_console = Console(stderr=True)


def reproduce(
    names: Sequence[str],
    exams: ExamSet,
    budget: Budget,
    seed: int,
    out: Path,
    options: RunOptions,
    only: str = "",
    backbones: Sequence[Path] = (),
) -> list[Path]:
    """Train what is missing, evaluate, and write the files of each item and the index of the folder.

    Parameters
    ----------
    names
        Names from `ITEMS`.
    only
        Use only rows of the tables whose name holds this text.
    backbones
        Files of torchvision's weights; each training begins with the one that fits its trunk, if any.

    Raises
    ------
    TrainingError
        Once everything else is written, if some trainings did not end; the message names them.
    """
    trainings = Trainings(exams, budget, seed, out / "runs", options, tuple(backbones))
    written: list[Path] = []
    for name in names:
        title = title_of(name, exams, budget, seed, only, backbones)
        item = make_item(name, trainings, title, only)
        written += report.write(item, title, out)
        _console.print(f"{out / name}.md: {title}", highlight=False, soft_wrap=True)
    written.append(write_index(out))
    if trainings.failures:
        reasons = "; ".join(f"{name}: {why}" for name, why in trainings.failures.items())
        raise TrainingError(
            f"{len(trainings.failures)} trainings did not end ({reasons}); all else is written in {out}"
        )
    return written


def write_index(folder: Path) -> Path:
    """``index.md``: all items that lie in the folder, with their titles."""
    lines = ["# The paper's tables and figures", ""]
    for name in ITEMS:
        path = folder / f"{name}.md"
        if path.exists():
            heading, title = path.read_text(encoding="utf-8").split("\n\n")[:2]
            links = f"[{heading.removeprefix('# ')}]({name}.md) ([HTML]({name}.html), [CSV]({name}.csv))"
            lines.append(f"- {links}: {title.strip('*')}")
    index = folder / "index.md"
    index.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return index


def make_item(name: str, trainings: Trainings, title: str, only: str) -> Item:
    """The table or figure of a name; ``only`` keeps the rows whose name holds this text."""
    if name in TABLES:
        return TABLES[name](trainings, only)
    if name in CURVES:
        return CURVES[name](trainings, title, only)
    return PICTURES[name](trainings, title)


def title_of(
    name: str, exams: ExamSet, budget: Budget, seed: int, only: str = "", backbones: Sequence[Path] = ()
) -> str:
    """One line on what was run: data, numbers of exams, epochs, seed, and SHORTENED with all departures from the protocol."""
    if name == "table5":
        data, departures = exams.scans_name or "no CT scans", budget.volume_departures()
    else:
        data = f"{exams.name}, {len(exams.training)} training and {len(exams.test)} test exams"
        departures = budget.departures()
        if len(exams.training) < paper.TRAINING_EXAMS:
            departures.append(f"{len(exams.training)} training exams instead of {paper.TRAINING_EXAMS}")
        if only:
            departures.append(f"rows with {only!r} alone")
    parts = [data, f"{budget.epochs} epochs", f"seed {seed}"]
    if backbones and name not in ("table5", "fig6"):
        parts.append(f"first weights where they fit: {', '.join(path.name for path in backbones)}")
    return ", ".join(parts) + (f". SHORTENED: {'; '.join(departures)}" if departures else "")


def read_exam_set(
    sources: Sequence[str],
    ct_sources: Sequence[str],
    splits: Path | None,
    budget: Budget,
    seed: int,
    name: str = "",
    annotations: Path | None = None,
) -> ExamSet:
    """The exams of ``sources``, split by the file or 400 to 150 by the seed, and the CT scans of ``ct_sources``.

    Titles begin with ``name``.

    Raises
    ------
    SplitError
        If the training or the test part is empty.
    """
    exams, skipped = _read(sources, annotations)
    for item in skipped:
        _console.print(f"left out: {item}", highlight=False, soft_wrap=True)
    if splits is None:
        training, test = split_by_seed(exams, seed)
        validation: list[Exam] = []
    else:
        part_of = read_splits(splits)
        training, validation, test = (list(select(exams, part_of, part)) for part in ("train", "validation", "test"))
    if sources and not (training and test):
        raise SplitError(f"{len(exams)} exams leave {len(training)} for training and {len(test)} for the test")
    training, validation, test = (keep(part, budget.subset, seed) for part in (training, validation, test))
    return ExamSet(
        name=f"{name}: {_names(exams)}" if name else _names(exams),
        training=training,
        validation=validation,
        test=test,
        scans=partial(_scans, list(ct_sources), budget.subset) if ct_sources else None,
        scans_name=" and ".join(Path(source).name for source in ct_sources),
    )


def _read(sources: Sequence[str], annotations: Path | None) -> tuple[list[Exam], list[str]]:
    """Exams to train and test on, and what was left out with the reason."""
    exams: list[Exam] = []
    left: list[str] = []
    for source in sources:
        found, skipped = formats.split_skipped(formats.read(source, annotations=annotations))
        exams += [exam for exam in found if exam.centroids]
        left += [f"{item.exam_id}: {item.why}" for item in skipped]
        left += [f"{exam.exam_id}: its points mark levels but are no centroids" for exam in found if not exam.centroids]
    return exams, left


def _names(exams: Sequence[Exam]) -> str:
    counts = Counter(exam.subset for exam in exams)
    return " and ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "no MRI exams"


def _scans(sources: list[str], most: int | None, part: str) -> Iterator[VolumeExam]:
    for count, scan in enumerate(read_scans(sources, part)):
        if most is not None and count >= most:
            return
        yield scan


def smoke_set() -> ExamSet:
    """A few phantoms with as many slices as Fig. 7 needs."""
    return phantom_set(training=3, test=4, slices=11)
