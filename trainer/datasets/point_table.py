"""Reader of a plain table of points: ``points.csv`` with a row for each keypoint, beside the images that it names."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from spineone_core.anatomy import Grade
from spineone_core.findings import NotAnalysable
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.names import grade_named, level_named
from trainer.datasets.slice_images import SliceImages, patient_and_scanner
from trainer.datasets.tables import number_in, read_table

FILE = "points.csv"
_COLUMNS = ("image", "level", "x", "y")

Rows = list[dict[str, str]]


def read(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """One exam for each image of the table except those ``known``; one that cannot be used is yielded as `Skipped`.

    Columns: ``image`` (path below the folder), ``level``, ``x`` and ``y`` (column and row, pixel centres at whole numbers); as
    far as known ``class``, ``patient`` and, for pictures, ``spacing_mm``.

    Raises
    ------
    DatasetError
        If the table cannot be read or lacks a column.
    """
    by_image: dict[str, Rows] = {}
    for row in read_table(folder / FILE, _COLUMNS):
        by_image.setdefault(row["image"], []).append(row)
    images = SliceImages(folder)
    for name, rows in by_image.items():
        exam_id = f"{folder.name}/{name}"
        if exam_id not in known:
            yield _exam(exam_id, name, rows, images)


def _exam(exam_id: str, name: str, rows: Rows, images: SliceImages) -> Exam | Skipped:
    notes: list[str] = []
    try:
        volume, index = images.load(name, number_in(rows[0].get("spacing_mm", "")))
        points, grades, raw = read_rows(rows, notes)
        patient, manufacturer, field = patient_and_scanner(volume, index, name)
        return Exam(
            exam_id=exam_id,
            patient=rows[0].get("patient") or patient,
            subset=images.folder.name,
            volume=volume,
            slice_index=index,
            points=points,
            grades=grades,
            manufacturer=manufacturer,
            field_strength_t=field,
            raw=raw,
            notes=(*notes, *volume.warnings),
        )
    except (NotAnalysable, ValueError) as error:
        return Skipped(exam_id, str(error))


def read_rows(
    rows: Rows, notes: list[str]
) -> tuple[dict[str, tuple[float, float]], dict[str, Grade | None], dict[str, str]]:
    """Points, classes and what the table says of the class, by level; what is left out goes into ``notes``.

    Raises
    ------
    ValueError
        If a level has two points.
    """
    points: dict[str, tuple[float, float]] = {}
    grades: dict[str, Grade | None] = {}
    raw: dict[str, str] = {}
    for row in rows:
        level, x, y = level_named(row["level"]), number_in(row["x"]), number_in(row["y"])
        if level is None or x is None or y is None:
            notes.append(f"left out: {row['level']} at ({row['x']}, {row['y']})")
            continue
        if level in points:
            raise ValueError(f"{level} has two points")
        points[level], raw[level] = (x, y), row.get("class", "")
        grades[level] = grade_named(raw[level], level, notes)
    return points, grades, raw
