"""An exported series is judged like the original: the vendors' terms that selection reads stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.upkeep.deidentify import Pseudonyms, deidentify
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import select_series
from spineone_core.imaging.series import group_series
from tests.fakes.datasets import mr_image, save

SLICES = 5
# Image types of four makers, the first with a free text in it.
ACQUIRED = (
    ["ORIGINAL", "PRIMARY", "DR JONES"],
    ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
    ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D", "MFSPLIT"],
    ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"],
    ["DERIVED", "PRIMARY", "DIXON", "WATER"],
    ["ORIGINAL", "PRIMARY", "W", "W", "DERIVED"],
    ["ORIGINAL", "PRIMARY", "OTHER"],
)
OTHERS = (
    ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"],
    ["DERIVED", "SECONDARY", "MPR", "CSA MPR", "", "CSAPARALLEL"],
    ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
    ["DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP"],
    ["DERIVED", "PRIMARY", "SUBTRACTION"],
)
TIMES = {"T2": ("102", "3500"), "T1": ("11", "550")}


def image(series: int, number: int, image_type: list[str], weighting: str) -> Dataset:
    """A slice without any description, as an export leaves it."""
    made = mr_image(number, series=f"1.2.826.0.1.3680043.10.7.{series}")
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.7.{series}.{number}"
    made.SeriesDescription, made.SeriesNumber, made.ImageType = "", series, image_type
    made.EchoTime, made.RepetitionTime = TIMES[weighting]
    made.ScanningSequence, made.SequenceVariant, made.MRAcquisitionType = "SE", "SK", "2D"
    made.PatientName = "JONES^ANN"
    return made


def chosen(folder: Path) -> tuple[int | None, list[str]]:
    """The number of the chosen series, and the outcome of every series."""
    selection = select_series(group_series(read_headers([folder])[0]))
    number = None if selection.chosen is None else selection.chosen.first.series_number
    return number, sorted(line.rsplit(":", 1)[-1] for line in selection.explanations)


@pytest.mark.parametrize("acquired", ACQUIRED, ids=lambda values: " ".join(values[2:]))
def test_selection_chooses_the_same_after_an_export(tmp_path: Path, acquired: list[str]) -> None:
    pseudonyms = Pseudonyms(b"k" * 32)
    kinds = [(acquired, "T1"), (acquired, "T2"), *((other, "T2") for other in OTHERS)]
    for series, (image_type, weighting) in enumerate(kinds, start=1):
        for number in range(1, SLICES + 1):
            path = save(image(series, number, image_type, weighting), tmp_path / "before" / f"{series}-{number}.dcm")
            (tmp_path / "after").mkdir(exist_ok=True)
            (tmp_path / "after" / path.name).write_bytes(deidentify(path, pseudonyms))
    assert chosen(tmp_path / "before")[0] == 2
    assert chosen(tmp_path / "after") == chosen(tmp_path / "before")
    assert b"JONES" not in b"".join(path.read_bytes() for path in (tmp_path / "after").iterdir())
