"""Brings any data set into the SDID-TC layout, exam by exam. Killed at any moment and started again, it goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from spineone_core.phantom.config import DEFAULT_CONFIG, PhantomConfig
from spineone_core.phantom.dicom import write_exam
from trainer.curation.dicom_files import write_slices
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.phantoms import exam_of
from trainer.datasets.sdid_points import kind_of, read_grade
from trainer.datasets.slice_images import PICTURES
from trainer.datasets.volume_files import SUFFIXES

# The folder with one JSON file for each finished exam (its annotation and what was odd), and the ending of unfinished parts.
RECORDS, PART = ".imported", ".part"
VERSION = "spineone-train 1"


@dataclass(frozen=True, slots=True)
class Imported:
    """How many exams were written now and how many were there already; and those left out."""

    written: int
    present: int
    skipped: tuple[Skipped, ...]


class ImportFolder:
    """A folder in the SDID-TC layout, to which exams are added.

    Each exam is first written to a folder of another name, then renamed, then recorded, so what is recorded is complete.
    ``annotation.json`` is made from all records at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.records = folder, folder / RECORDS
        self.records.mkdir(parents=True, exist_ok=True)

    def known(self) -> set[str]:
        """The exams that are there, complete."""
        return {json.loads(path.read_text(encoding="utf-8"))["exam"] for path in self.records.glob("*.json")}

    def add(self, exam_id: str, write: Callable[[Path], dict[str, Any]], notes: Sequence[str] = ()) -> None:
        """``write`` puts the images of the exam into the folder it is given and returns the study's annotation.

        ``notes`` say what was odd in the source; they stay in the record.
        """
        place, part = self.folder / slug(exam_id), self.folder / f"{slug(exam_id)}{PART}"
        for left_over in (place, part):
            shutil.rmtree(left_over, ignore_errors=True)
        part.mkdir()
        annotation = write(part)
        part.rename(place)
        write_whole(self._record(exam_id), {"exam": exam_id, "notes": list(notes), "annotation": annotation})

    def finish(self) -> int:
        """Write ``annotation.json``; returns its number of exams."""
        records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.records.glob("*.json"))]
        write_whole(self.folder / "annotation.json", [record["annotation"] for record in records])
        return len(records)

    def _record(self, exam_id: str) -> Path:
        return self.records / f"{slug(exam_id)}.json"


def slug(exam_id: str) -> str:
    """An exam's name as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", exam_id).strip("._") or "exam"


def write_whole(path: Path, content: Any) -> None:
    """Write JSON under another name first, so that the file is never half written."""
    part = path.with_name(path.name + PART)
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


class ExamReader(Protocol):
    """Yields all exams of a data set except those known."""

    def __call__(self, *, known: Collection[str]) -> Iterable[Exam | Skipped]: ...


def import_exams(read: ExamReader, out: Path, tell: Callable[[str], None] = lambda line: None) -> Imported:
    """Write what ``read`` yields once it is told which exams are there; ``tell`` gets a line for each written or left out."""
    target = ImportFolder(out)
    known, written, skipped = target.known(), 0, []
    for item in read(known=known):
        if isinstance(item, Skipped):
            skipped.append(item)
            tell(f"left out: {item.exam_id}: {item.why}")
        else:
            target.add(item.exam_id, partial(_write_exam, item), item.notes)
            written += 1
            tell(f"written: {item.exam_id}")
    target.finish()
    return Imported(written, len(known), tuple(skipped))


def _write_exam(exam: Exam, folder: Path) -> dict[str, Any]:
    """DICOM files are copied as they are, with all they hold; anything else is written as new MR images."""
    files = list(dict.fromkeys(source.path for source in exam.volume.sources))
    if all(is_dicom(path) for path in files):
        for number, path in enumerate(files, start=1):
            shutil.copyfile(path, folder / f"image{number:03d}.dcm")
    else:
        write_slices(exam, folder)
    return annotation_of(exam)


def is_dicom(path: Path) -> bool:
    """Whether a file that an exam was read from is DICOM: its name is not that of another format."""
    return path.is_file() and not path.name.lower().endswith((*SUFFIXES, *PICTURES))


def annotation_of(exam: Exam) -> dict[str, Any]:
    """The entry in ``annotation.json``; SDID-TC does not have ``patient``, ``frameNumber`` and ``centroids``, we add them."""
    source = exam.volume.sources[exam.slice_index]
    points = [
        {
            "coord": [round(x, 3), round(y, 3)],
            "tag": {"identification": level, kind_of(level): _codes(exam, level)},
            "zIndex": exam.slice_index,
        }
        for level, (x, y) in exam.points.items()
    ]
    data = {
        "seriesUid": exam.volume.series_uid,
        "instanceUid": source.sop_instance_uid,
        "frameNumber": source.frame_number,
        "patient": exam.patient,
        "centroids": exam.centroids,
        "annotation": [{"annotator": exam.subset, "data": {"point": points}}],
    }
    return {"studyUid": exam.volume.study_uid, "version": VERSION, "data": [data]}


def _codes(exam: Exam, level: str) -> str:
    """The exam's own SDID-TC codes if it has such, else ``v1`` or ``v2`` by the class; empty where that is unknown."""
    grade, own = exam.grades.get(level), exam.raw.get(level, "")
    if re.fullmatch(r"v[1-5](,\s*v[1-5])*", own) and read_grade(own, kind_of(level)) is grade:
        return own
    return "" if grade is None else {"normal": "v1", "degenerative": "v2"}[grade.value]


def write_phantoms(
    seeds: range, out: Path, *, config: PhantomConfig = DEFAULT_CONFIG, companions: bool = False
) -> Imported:
    """Write a study for each seed, with complete headers; ``companions`` adds T1, localiser and axial series."""
    target = ImportFolder(out)
    known = target.known()
    missing = [seed for seed in seeds if f"phantom/{seed}" not in known]
    for seed in missing:
        target.add(f"phantom/{seed}", partial(_write_phantom, seed, config, companions))
    target.finish()
    return Imported(len(missing), len(known), ())


def _write_phantom(seed: int, config: PhantomConfig, companions: bool, folder: Path) -> dict[str, Any]:
    written = write_exam(folder, seed, config=config, companions=companions)
    # All series of a study go into one folder, as in SDID-TC.
    files = [path for paths in written.files.values() for path in paths]
    for number, path in enumerate(files, start=1):
        path.rename(folder / f"image{number:03d}.dcm")
    for empty in {path.parent for path in files}:
        empty.rmdir()
    return annotation_of(exam_of(written.exam))
