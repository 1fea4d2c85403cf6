"""Reader of SPIDER (van der Graaf et al., Scientific Data 2024; CC BY 4.0) as published on Zenodo.

``images/N_t2.mha`` and ``N_t2_SPACE.mha`` with ``masks/`` of the same names, ``radiological_gradings.csv``,
``overview.csv``. Mask labels: vertebrae 1, 2, ... counted from L5 upwards (101, 102, ... where only partly visible), canal
100, discs 201, 202, ... counted from L5-S1 upwards. A keypoint is the centroid of its structure on the slice that shows
most of the canal.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spineone_core.anatomy import DISCS, UPPER_DISC, VERTEBRAE, Grade
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.volume import SagittalVolume, middle_of
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.pieces import keypoints_of
from trainer.datasets.tables import DatasetError, number_in, read_table
from trainer.datasets.volume_files import SAGITTAL, read_volume, sagittal_volume, values_of

CANAL = 100
# Label -> level; labels count from below.
LEVEL_OF_LABEL = {k + 1: level for k, level in enumerate(reversed(VERTEBRAE))} | {
    201 + k: level for k, level in enumerate(reversed((UPPER_DISC, *DISCS)))
}
DISC_OF_IVD = {1 + k: level for k, level in enumerate(reversed((UPPER_DISC, *DISCS)))}
DEGENERATIVE_FROM, STRICTLY_FROM = 3, 4
_COLUMNS = ("Patient", "IVD label", "Modic", "UP endplate", "LOW endplate", "Disc herniation", "Disc bulging")


def read(
    folder: Path,
    *,
    known: Collection[str] = (),
    sequences: tuple[str, ...] = ("t2", "t2_SPACE"),
    strict: bool = False,
) -> Iterator[Exam | Skipped]:
    """Every T2 exam of a SPIDER folder except those ``known``; one that cannot be used is yielded as `Skipped`.

    A disc is degenerative from Pfirrmann grade 3 on, or with bulging or herniation; if ``strict``, from grade 4 on (reading
    20). SPIDER does not grade vertebrae. As a proxy, a vertebra is degenerative with a Modic change at a neighbouring disc
    or a change of one of its own endplates.

    Raises
    ------
    DatasetError
        If there are no images or the gradings cannot be read.
    MissingLibraryError
        If SimpleITK is not installed.
    """
    images = sorted((folder / "images").glob("*.mha"), key=_by_patient)
    wanted = [path for path in images if path.stem.partition("_")[2] in sequences]
    if not wanted:
        raise DatasetError(f"{folder / 'images'}: no {' or '.join(f'N_{s}.mha' for s in sequences)}")
    gradings = read_gradings(folder / "radiological_gradings.csv")
    scanners = _read_scanners(folder / "overview.csv")
    for path in wanted:
        number, _, sequence = path.stem.partition("_")
        exam_id = f"spider/{path.stem}"
        if exam_id in known:
            continue
        try:
            volume, labels = _read_volumes(path, folder / "masks" / path.name)
            yield _exam(
                exam_id, number, sequence, volume, labels, gradings.get(number, {}), scanners.get(path.stem, {}), strict
            )
        except (ValueError, NotAnalysable) as error:
            yield Skipped(exam_id, str(error))


def _by_patient(path: Path) -> tuple[int, str]:
    number = re.match(r"\d+", path.stem)
    return int(number[0]) if number else 0, path.stem


def _read_volumes(image_path: Path, mask_path: Path) -> tuple[SagittalVolume, NDArray[Any]]:
    """The image as a sagittal volume, and the labels of its voxels."""
    image, mask = read_volume(image_path, SAGITTAL), read_volume(mask_path, SAGITTAL)
    if image.GetSize() != mask.GetSize():
        raise ValueError(f"the mask has {mask.GetSize()} voxels, the image {image.GetSize()}")
    volume = sagittal_volume(image, image_path, "spider", image_path.stem.partition("_")[0])
    return volume, values_of(mask).astype(np.int32)


def _exam(
    exam_id: str,
    number: str,
    sequence: str,
    volume: SagittalVolume,
    labels: NDArray[Any],
    rows: dict[str, dict[str, str]],
    scanner: dict[str, str],
    strict: bool,
) -> Exam:
    notes = [] if rows else [f"no row of patient {number} in radiological_gradings.csv: no class is known"]
    index = _canal_slice(volume, labels, notes)
    points = keypoints_of(labels[index], volume.pixel_spacing, LEVEL_OF_LABEL)
    absent = [level for level in LEVEL_OF_LABEL.values() if level not in points and level != UPPER_DISC]
    if absent:
        notes.append(f"not on the slice with most canal, so without a point: {', '.join(absent)}")
    return Exam(
        exam_id=exam_id,
        patient=f"SPIDER-{number}",
        subset=f"spider-{sequence}",
        volume=volume,
        slice_index=index,
        points=points,
        grades=_disc_grades(rows, strict) | _vertebra_grades(rows),
        manufacturer=scanner.get("Manufacturer", ""),
        field_strength_t=number_in(scanner.get("MagneticFieldStrength", "")),
        raw={level: _raw(row) for level, row in rows.items()},
        notes=tuple(notes),
        part={"training": "train"}.get(scanner.get("subset", ""), scanner.get("subset", "")),
    )


def _canal_slice(volume: SagittalVolume, labels: NDArray[Any], notes: list[str]) -> int:
    canal = (labels == CANAL).sum(axis=(1, 2))
    if canal.max() == 0:
        notes.append("the mask has no canal: the middle slice is taken")
        return middle_of(volume.positions)
    return int(canal.argmax())


# ---------------------------------------------------------------- gradings


def read_gradings(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Patient number -> disc level -> the row of the table.

    Raises
    ------
    DatasetError
        If the table is missing or lacks a column.
    """
    gradings: dict[str, dict[str, dict[str, str]]] = {}
    for row in read_table(path, _COLUMNS):
        ivd = number_in(row["IVD label"])
        if ivd is not None and int(ivd) in DISC_OF_IVD:
            patient = str(int(number_in(row["Patient"]) or 0))
            gradings.setdefault(patient, {})[DISC_OF_IVD[int(ivd)]] = row
    return gradings


def _pfirrmann(row: dict[str, str]) -> float | None:
    """The Pfirrmann grade; the published table calls the column ``Pfirrman grade``."""
    return number_in(next((value for name, value in row.items() if name.lower().startswith("pfirr")), ""))


def _disc_grades(rows: dict[str, dict[str, str]], strict: bool) -> dict[str, Grade | None]:
    return {level: disc_grade(row, strict=strict) for level, row in rows.items()}


def disc_grade(row: dict[str, str], *, strict: bool = False) -> Grade | None:
    """The class of a disc by its row in the gradings; None where the deciding cells are empty."""
    pfirrmann = _pfirrmann(row)
    if strict:
        return None if pfirrmann is None else _grade(pfirrmann >= STRICTLY_FROM)
    signs = [number_in(row["Disc herniation"]), number_in(row["Disc bulging"])]
    if any(sign for sign in signs) or (pfirrmann or 0) >= DEGENERATIVE_FROM:
        return Grade.DEGENERATIVE
    return None if pfirrmann is None else Grade.NORMAL


def _vertebra_grades(rows: dict[str, dict[str, str]]) -> dict[str, Grade | None]:
    discs = (UPPER_DISC, *DISCS)
    grades: dict[str, Grade | None] = {}
    for above, vertebra, below in zip(discs, VERTEBRAE, discs[1:], strict=False):
        upper, lower = rows.get(above, {}), rows.get(below, {})
        # The lower endplate of the disc above is the upper endplate of the vertebra.
        signs = [upper.get("Modic"), lower.get("Modic"), upper.get("LOW endplate"), lower.get("UP endplate")]
        known = [value for sign in signs if (value := number_in(sign or "")) is not None]
        grades[vertebra] = _grade(any(value > 0 for value in known)) if known else None
    return grades


def _grade(degenerative: bool) -> Grade:
    return Grade.DEGENERATIVE if degenerative else Grade.NORMAL


def _raw(row: dict[str, str]) -> str:
    signs = [name for name in ("Disc herniation", "Disc bulging", "Modic") if number_in(row[name])]
    return ", ".join([f"Pfirrmann {_pfirrmann(row) or '?'}", *signs])


def _read_scanners(path: Path) -> dict[str, dict[str, str]]:
    """Image name -> its row in ``overview.csv``. Without the file it is empty: only scanner and ``subset`` are taken from it."""
    if not path.is_file():
        return {}
    return {row["new_file_name"].removesuffix(".mha"): row for row in read_table(path, ["new_file_name"])}
