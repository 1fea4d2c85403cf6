"""Radiological gradings of discs: Pfirrmann grades and signs, from the table of a data set in the SDID-TC layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spineone_core.anatomy import DISCS, UPPER_DISC
from trainer.datasets.tables import DatasetError, number_in, read_table

# What the table's short names stand for. Endplates are those that face the disc.
_SIGN_OF = {
    "modic": "modic",
    "up": "upper_endplate",
    "low": "lower_endplate",
    "narrow": "narrowing",
    "bulge": "bulging",
    "hern": "herniation",
    "listh": "listhesis",
}


@dataclass(frozen=True, slots=True)
class DiscGrading:
    """What is known of one disc: the Pfirrmann grade 1 to 5 (None where unknown), and its signs, 0 where there is none.

    A Modic change counts with its type (1 to 3), every other sign with 1.
    """

    pfirrmann: int | None
    signs: dict[str, int]


# Disc level (T12-L1 too) -> its grading.
SpineGradings = dict[str, DiscGrading]


def read_gradings(path: Path) -> dict[str, SpineGradings]:
    """StudyInstanceUID -> gradings of that exam's discs.

    The table is CSV with a row for each exam and the columns ``study_uid``, ``pfirrmann_LEVEL`` and ``raw_LEVEL`` for T12-L1 to
    L5-S1; a raw cell is ``modic=2;up=1;low=0;listh=0;hern=0;narrow=1;bulge=1``.

    Raises
    ------
    DatasetError
        If the table cannot be read, lacks a column, or a cell is malformed; the message names exam and level.
    """
    levels = (UPPER_DISC, *DISCS)
    rows = read_table(path, ["study_uid", *(f"{kind}_{level}" for level in levels for kind in ("pfirrmann", "raw"))])
    return {row["study_uid"]: _spine(row, path) for row in rows if row["study_uid"]}


def _spine(row: dict[str, str], path: Path) -> SpineGradings:
    found = {}
    for level in (UPPER_DISC, *DISCS):
        try:
            grading = _disc(row[f"pfirrmann_{level}"], row[f"raw_{level}"])
        except ValueError as error:
            raise DatasetError(f"{path}: study {row['study_uid']}, {level}: {error}") from error
        if grading is not None:
            found[level] = grading
    return found


def _disc(pfirrmann: str, raw: str) -> DiscGrading | None:
    """The grading in a pair of cells; None where both are empty."""
    if not pfirrmann and not raw:
        return None
    grade = number_in(pfirrmann)
    if grade is not None and grade not in range(1, 6):
        raise ValueError(f"Pfirrmann grade {pfirrmann!r}; allowed: 1 to 5")
    signs = {}
    for part in filter(None, raw.split(";")):
        name, _, value = part.partition("=")
        number = number_in(value)
        if name not in _SIGN_OF:
            raise ValueError(f"unknown sign {name!r}")
        if number is not None:
            signs[_SIGN_OF[name]] = int(number)
    return DiscGrading(None if grade is None else int(grade), signs)
