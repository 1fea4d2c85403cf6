"""Reader of COCO keypoints: a JSON file with ``images``, ``annotations`` and ``categories``, beside the images that it names.

The names of a category's ``keypoints`` are levels. Coordinates are column and row of the pixel, counted from 0. COCO knows no
classes of keypoints: an annotation may have ``attributes``, an object with a class for each level. An image may have
``spacing_mm`` (a plain picture needs it) and ``patient``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from spineone_core.findings import NotAnalysable
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.point_table import read_rows
from trainer.datasets.slice_images import SliceImages, patient_and_scanner
from trainer.datasets.tables import DatasetError

_KEYS = ("images", "annotations", "categories")


def find_file(folder: Path) -> Path | None:
    """The first COCO file with keypoints in the folder or in its ``annotations``; None if there is none."""
    candidates = [*sorted(folder.glob("*.json")), *sorted((folder / "annotations").glob("*.json"))]
    return next((path for path in candidates if _names(_content(path))), None)


def read(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """One exam for each image with keypoints except those ``known``; one that cannot be used is yielded as `Skipped`.

    Raises
    ------
    DatasetError
        If there is no COCO file with keypoints.
    """
    path = find_file(folder)
    if path is None:
        raise DatasetError(f"{folder}: no COCO file with the keypoints of a category")
    content = _content(path)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation.get("image_id"), []).append(annotation)
    names, images = _names(content), SliceImages(folder)
    for image in content["images"]:
        exam_id = f"{folder.name}/{image.get('file_name')}"
        if exam_id not in known:
            yield _exam(exam_id, image, by_image.get(image.get("id"), []), names, images)


def _content(path: Path) -> dict[str, Any]:
    """The object in a file; empty where it is no COCO file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    fits = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _KEYS)
    return content if fits else {}


def _names(content: dict[str, Any]) -> dict[Any, list[str]]:
    """Category -> the names of its keypoints."""
    return {c["id"]: c["keypoints"] for c in content.get("categories", []) if c.get("keypoints")}


def _exam(
    exam_id: str,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    names: dict[Any, list[str]],
    images: SliceImages,
) -> Exam | Skipped:
    notes: list[str] = []
    try:
        name = str(image["file_name"])
        rows = [row for annotation in annotations for row in _rows(annotation, names)]
        if not rows:
            raise ValueError("no keypoint")
        spacing = image.get("spacing_mm")
        volume, index = images.load(name, None if spacing is None else float(spacing))
        points, grades, raw = read_rows(rows, notes)
        patient, manufacturer, field = patient_and_scanner(volume, index, name)
        return Exam(
            exam_id=exam_id,
            patient=str(image.get("patient") or patient),
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
    except (KeyError, TypeError) as error:
        return Skipped(exam_id, f"its annotation has not the form of COCO: {type(error).__name__} {error}")
    except (NotAnalysable, ValueError) as error:
        return Skipped(exam_id, str(error))


def _rows(annotation: dict[str, Any], names: dict[Any, list[str]]) -> Iterator[dict[str, str]]:
    """The labelled keypoints (visibility 1 or 2) as rows of a table."""
    levels, values = names.get(annotation["category_id"], []), annotation.get("keypoints", [])
    attributes = annotation.get("attributes") or {}
    for k, level in enumerate(levels):
        x, y, visibility = values[3 * k : 3 * k + 3] or (0, 0, 0)
        if visibility:
            yield {"level": level, "x": str(x), "y": str(y), "class": str(attributes.get(level, ""))}
