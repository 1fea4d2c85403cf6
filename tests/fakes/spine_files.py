"""Tiny files of the public data sets' layouts, drawn by the tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from trainer.datasets.sdid_points import LEVELS, kind_of
from trainer.datasets.volume_files import name_uid

ROWS, COLUMNS = 240, 64
MR = "1.2.840.10008.5.1.4.1.1.4"


def level_point(level: str) -> tuple[float, float]:
    """(column, row): 18 pixels a step, down the middle."""
    return 30.0, 20.0 + 18.0 * LEVELS.index(level)


def write_slice(
    path: Path, study: str, series: str, position: float, *, size: tuple[int, int] = (ROWS, COLUMNS), **changes: Any
) -> str:
    """One sagittal T2 slice ``position`` mm from the middle; returns its SOP Instance UID."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = MR, name_uid(study, series, path.name)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = MR, image.SOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = name_uid(study), name_uid(study, series)
    image.PatientID, image.Modality = f"P-{study}", "MR"
    image.Manufacturer, image.MagneticFieldStrength = "Scanner Works", "15000"
    image.SeriesDescription = "T2 TSE SAG"
    image.ImagePositionPatient = [position, -20.0, 100.0]
    image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    image.PixelSpacing, image.SliceThickness = [1.0, 1.0], "4"
    image.Rows, image.Columns = size
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = (np.arange(size[0] * size[1]) % 251).astype("<u2").tobytes()
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    image.save_as(path, enforce_file_format=True)
    return str(image.SOPInstanceUID)


def write_series(folder: Path, study: str, count: int = 3) -> list[str]:
    """``image0.dcm`` onward, 4 mm apart; their SOP Instance UIDs."""
    return [write_slice(folder / f"image{k}.dcm", study, "t2", 4.0 * k) for k in range(count)]


def sdid_entry(study: str, instance: str, points: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One study of ``annotation.json``, all levels normal unless told otherwise."""
    if points is None:
        points = [sdid_point(level) for level in LEVELS]
    annotation = [{"annotator": 1, "data": {"point": list(points)}}]
    data = [{"seriesUid": name_uid(study, "t2"), "instanceUid": instance, "annotation": annotation}]
    return {"studyUid": name_uid(study), "version": "v0.1", "data": data}


def sdid_point(level: str, codes: str = "v1") -> dict[str, Any]:
    tag = {"identification": level, kind_of(level): codes}
    return {"coord": list(level_point(level)), "tag": tag, "zIndex": 1}


def write_sdid(folder: Path, studies: Sequence[str] = ("study1",)) -> list[dict[str, Any]]:
    """A faultless data set; returns its annotations, so that a test may spoil and write them again."""
    entries = [sdid_entry(study, write_series(folder / study, study)[1]) for study in studies]
    write_annotations(folder, entries)
    return entries


def write_annotations(folder: Path, entries: Sequence[Any]) -> None:
    (folder / "annotation.json").write_text(json.dumps(entries), encoding="utf-8")
