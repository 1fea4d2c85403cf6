"""DICOM files on disk: finding them, reading them and sorting them by study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from spineone_core.imaging.extent import CostlyError
from spineone_core.imaging.file_extent import check_file
from spineone_core.imaging.trailer import trailing_elements

# Classes whose Modality can only be one (PS3.3 C.8.3.1, C.8.13.1).
_MODALITY_OF = dict.fromkeys((MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage), "MR")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no usable DICOM image, and why."""

    path: Path
    why: str


def find_files(paths: Iterable[Path]) -> list[Path]:
    """All regular files among ``paths`` and below the folders among them; those of a folder are sorted."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file())
        else:
            found.append(path)
    return found


def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Read one file; it may lack the preamble or the file meta group, and its elements may stand in any order.

    SOP Class UID and Modality that the data set lacks are those of the file meta group.

    Raises
    ------
    ValueError
        If the file is not DICOM, or parsing it would make too much (`extent.measure`).
    """
    try:
        check_file(path)
        dataset = _read(path, pixels=pixels)
        has_uid = "SOPInstanceUID" in dataset
    except CostlyError:
        raise
    except Exception as error:  # pydicom raises many types on hostile bytes
        raise ValueError(f"not readable as DICOM: {type(error).__name__}") from error
    if not has_uid:
        raise ValueError("not a DICOM image: no SOPInstanceUID")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _syntax_found(dataset)
    complete(dataset, str(dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    return dataset


def _read(path: Path, *, pixels: bool) -> Dataset:
    if pixels:
        return pydicom.dcmread(path, force=True)
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            # pydicom has inflated it elsewhere; the file stands at its end.
            return dataset
        implicit, little = dataset.original_encoding
        dataset.update(trailing_elements(file, implicit=bool(implicit), little=little is not False))
    return dataset


def complete(dataset: Dataset, sop_class_uid: str) -> None:
    """Fill in SOP Class UID and Modality where a data set lacks them, from the class that its envelope names."""
    if sop_class_uid and not dataset.get("SOPClassUID"):
        dataset.SOPClassUID = sop_class_uid
    if not dataset.get("Modality") and (modality := _MODALITY_OF.get(UID(str(dataset.get("SOPClassUID") or "")))):
        dataset.Modality = modality


def _syntax_found(dataset: Dataset) -> UID:
    """The transfer syntax that pydicom found in a file that does not state it."""
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian


def files_by_study(paths: Iterable[Path]) -> tuple[dict[str, list[Path]], list[Unreadable]]:
    """DICOM files below ``paths`` by StudyInstanceUID, and the files that are not DICOM.

    Objects without pixels belong to their study too; reading the study says what they are.
    """
    studies: dict[str, list[Path]] = {}
    unreadable: list[Unreadable] = []
    for path in find_files(paths):
        try:
            study_uid = str(read_dataset(path, pixels=False).get("StudyInstanceUID") or "")
        except (OSError, ValueError) as error:
            unreadable.append(Unreadable(path, str(error)))
            continue
        studies.setdefault(study_uid, []).append(path)
    return studies, unreadable
