"""Reader of the RSNA 2024 Lumbar Spine Degenerative Classification data: sagittal T2 series with points of five levels.

``train_images/STUDY/SERIES/INSTANCE.dcm``, ``train.csv``, ``train_label_coordinates.csv``,
``train_series_descriptions.csv``. Only the coordinates of spinal canal stenosis lie on sagittal T2. They mark the canal at
the height of the disc, not the centroid of the disc; vertebrae have none, and stenosis is not a class of a disc. So all
classes are unknown, and these exams measure whether levels are right on many scanners (`metrics.levels_by_nearest`);
nothing is trained or calibrated on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from spineone_core.anatomy import DISCS
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.scanner import read_scanner
from trainer.datasets.tables import DatasetError, number_in, read_table

CONDITION, DESCRIPTION = "Spinal Canal Stenosis", "Sagittal T2/STIR"
_LEVELS = {level.replace("-", "/"): level for level in DISCS}

Rows = list[dict[str, str]]


def read(folder: Path, *, known: Collection[str] = ()) -> Iterator[Exam | Skipped]:
    """One exam for each sagittal T2 series with coordinates except those ``known``; a study without one is yielded as `Skipped`.

    Raises
    ------
    DatasetError
        If a table is missing, lacks a column or names no study.
    """
    severities = {row["study_id"]: row for row in read_table(folder / "train.csv", ["study_id"])}
    coordinates = read_table(
        folder / "train_label_coordinates.csv",
        ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"],
    )
    described = read_table(folder / "train_series_descriptions.csv", ["study_id", "series_id", "series_description"])
    if not severities:
        raise DatasetError(f"{folder / 'train.csv'}: names no study")
    sagittal = {(r["study_id"], r["series_id"]) for r in described if r["series_description"] == DESCRIPTION}
    by_series: dict[tuple[str, str], Rows] = {}
    for row in coordinates:
        key = row["study_id"], row["series_id"]
        if row["condition"] == CONDITION and key in sagittal:
            by_series.setdefault(key, []).append(row)
    for study in severities:
        series = sorted(key for key in by_series if key[0] == study)
        if not series:
            why = (
                "no coordinates on its sagittal T2" if any(s == study for s, _ in sagittal) else "no sagittal T2 series"
            )
            yield Skipped(f"rsna2024/{study}", why)
        for key in series:
            if _exam_id(*key) not in known:
                yield _read_one(folder, *key, by_series[key], severities[study])


def _exam_id(study: str, series: str) -> str:
    return f"rsna2024/{study}/{series}"


def _read_one(folder: Path, study: str, series: str, rows: Rows, severities: dict[str, str]) -> Exam | Skipped:
    exam_id = _exam_id(study, series)
    place = folder / "train_images" / study / series
    headers, unreadable = read_headers([place])
    if not headers:
        why = unreadable[0].why if unreadable else "not there"
        return Skipped(exam_id, f"no image in {place.relative_to(folder)}: {why}")
    try:
        # The group with most of the coordinates; the series may also hold a scout of another matrix.
        wanted = {row["instance_number"] for row in rows}
        group = max(group_series(headers), key=lambda g: (sum(f.path.stem in wanted for f in g.frames), len(g)))
        volume = load_volume(group, isolate=False)
        points, index, notes = _points(rows, volume)
        manufacturer, field = read_scanner(volume.sources[index].path)
        return Exam(
            exam_id=exam_id,
            patient=f"RSNA-{study}",
            subset="rsna2024",
            volume=volume,
            slice_index=index,
            points=points,
            grades={},
            centroids=False,
            manufacturer=manufacturer,
            field_strength_t=field,
            raw={level: _severity(severities, level) for level in points},
            notes=(*notes, *(f"{u.path.name} cannot be read: {u.why}" for u in unreadable), *volume.warnings),
        )
    except (NotAnalysable, ValueError) as error:
        return Skipped(exam_id, str(error))


def _points(rows: Rows, volume: SagittalVolume) -> tuple[dict[str, tuple[float, float]], int, list[str]]:
    """All points on the slice that most of them lie on; points of other slices are moved there along the normal."""
    slice_of = {source.path.stem: index for index, source in enumerate(volume.sources)}
    placed: dict[str, tuple[int, float, float]] = {}
    notes = []
    for row in rows:
        level, index = _LEVELS.get(row["level"]), slice_of.get(row["instance_number"])
        x, y = number_in(row["x"]), number_in(row["y"])
        if level is None or index is None or x is None or y is None:
            notes.append(f"left out: {row['level']} at ({row['x']}, {row['y']}) on image {row['instance_number']}")
        elif level in placed:
            notes.append(f"{level} has two points; the first is taken")
        else:
            placed[level] = (index, x, y)
    if not placed:
        raise ValueError("none of its points lies on an image that is there")
    common = Counter(index for index, _, _ in placed.values()).most_common(1)[0][0]
    points = {level: volume.from_patient(volume.to_patient(i, x, y), common) for level, (i, x, y) in placed.items()}
    missing = [level for level in DISCS if level not in points]
    if missing:
        notes.append(f"no point for {', '.join(missing)}")
    return points, common, notes


def _severity(severities: dict[str, str], level: str) -> str:
    value = severities.get(f"spinal_canal_stenosis_{level.lower().replace('-', '_')}", "")
    return f"canal stenosis: {value or 'unknown'}"
