"""Which reader reads a folder: a prefix says it, as in ``spider:PATH``, or what lies in the folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.datasets import (
    coco,
    label_maps,
    node_reviews,
    point_table,
    rsna2024,
    sdid_tc,
    slicer_markups,
    spider,
)
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.tables import DatasetError
from trainer.datasets.volume_files import find_volumes


class Reader(Protocol):
    """Yields the exams of a folder; it passes over those whose ``exam_id`` is ``known`` without loading them."""

    def __call__(self, folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]: ...


@dataclass(frozen=True, slots=True)
class Format:
    """The layout of a data set: how to recognise it, and its reader (None for CT volumes, which are no 2-D exams)."""

    recognises: Callable[[Path], bool]
    read: Reader | None


FORMATS: dict[str, Format] = {
    "sdid_tc": Format(lambda folder: sdid_tc.find_annotations(folder) is not None, sdid_tc.read),
    "spider": Format(lambda folder: any((folder / "images").glob("*.mha")), spider.read),
    "rsna2024": Format(lambda folder: (folder / "train_label_coordinates.csv").is_file(), rsna2024.read),
    "points": Format(lambda folder: (folder / point_table.FILE).is_file(), point_table.read),
    "coco": Format(lambda folder: coco.find_file(folder) is not None, coco.read),
    "slicer": Format(
        lambda folder: next(folder.rglob(f"*{slicer_markups.END}"), None) is not None, slicer_markups.read
    ),
    "nnunet": Format(label_maps.is_nnunet, label_maps.read_nnunet),
    "totalspineseg": Format(label_maps.is_totalspineseg, label_maps.read_totalspineseg),
    "spineps": Format(label_maps.is_spineps, label_maps.read_spineps),
    "node_reviews": Format(lambda folder: next(folder.rglob(node_reviews.FILE), None) is not None, node_reviews.read),
    "csi2014": Format(lambda folder: bool(find_volumes(folder)), None),
}
# The formats of 2-D exams, for --help and messages.
TWO_DIMENSIONAL = tuple(name for name, known in FORMATS.items() if known.read)


def parse(source: str, annotations: Path | None = None) -> tuple[str, Path]:
    """The name of the format and the folder of ``FORMAT:PATH`` or ``PATH``; with ``annotations``, that is SDID-TC.

    Raises
    ------
    DatasetError
        If the folder is missing or no format fits.
    """
    name, separator, rest = source.partition(":")
    if separator and name in FORMATS:
        return name, _folder(rest)
    folder = _folder(source)
    if annotations is not None:
        return "sdid_tc", folder
    found = next((known for known, form in FORMATS.items() if form.recognises(folder)), None)
    if found is None:
        raise DatasetError(
            f"{folder}: none of the formats {', '.join(FORMATS)} (SDID-TC needs annotation.json, or --annotations FILE);"
            " see docs/training.md"
        )
    return found, folder


def name_of(source: str, annotations: Path | None = None) -> str:
    """``FORMAT:FOLDER`` with the folder's own name instead of its path, for titles.

    Raises
    ------
    DatasetError
        As `parse`.
    """
    name, folder = parse(source, annotations)
    return f"{name}:{folder.resolve().name}"


def _folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    return folder


def read(source: str, *, known: Collection[str] = (), annotations: Path | None = None) -> Iterator[Exam | Skipped]:
    """All exams of a data set given as ``FORMAT:PATH`` or ``PATH``, except those whose ``exam_id`` is ``known``.

    ``annotations`` is the annotation file of a folder in the SDID-TC layout, where it lies elsewhere.

    Raises
    ------
    DatasetError
        As `parse`, or if the data set holds CT volumes.
    """
    name, folder = parse(source, annotations)
    if name == "sdid_tc":
        return sdid_tc.read(folder, annotations, known=known)
    reader = FORMATS[name].read
    if reader is None:
        raise DatasetError(f"{folder}: {name} holds CT volumes for the 3-D variant (Table V), not lumbar MRI")
    return reader(folder, known=known)


def split_skipped(items: Iterable[Exam | Skipped]) -> tuple[list[Exam], list[Skipped]]:
    """The exams, and what was left out."""
    exams: list[Exam] = []
    skipped: list[Skipped] = []
    for item in items:
        if isinstance(item, Exam):
            exams.append(item)
        else:
            skipped.append(item)
    return exams, skipped
