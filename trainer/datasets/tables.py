"""CSV files of data sets."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path


class DatasetError(Exception):
    """A data set as a whole cannot be read; the message names the file and what is wrong."""


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a CSV file, split by commas or semicolons, with stripped values.

    Raises
    ------
    DatasetError
        If the file is missing, is not text or lacks one of the columns.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    header = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=";" if header.count(";") > header.count(",") else ",")
    missing = sorted(set(columns) - set(reader.fieldnames or ()))
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}")
    return [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]


def number_in(text: str) -> float | None:
    """The number in a cell, or None where it is empty or holds something else."""
    try:
        return float(text)
    except ValueError:
        return None
