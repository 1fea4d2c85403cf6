"""Small synthetic data sets and their bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.images.incoming import Incoming

STUDY = "1.2.826.0.1.3680043.10.1"
SERIES = STUDY + ".1"


def mr_image(
    number: int = 1, *, study: str = STUDY, series: str | None = None, name: str = "SECRET^NAME", fill: int = 7
) -> Dataset:
    """One sagittal T2 slice of 8 x 8 pixels."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = f"{study}.1.{number}"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series or f"{study}.1"
    dataset.PatientName = name
    dataset.PatientID = "SECRET-ID"
    dataset.Modality = "MR"
    dataset.SeriesDescription = "t2_tse_sag"
    dataset.InstanceNumber = number
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dataset.ImagePositionPatient = [4.0 * number, 0, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.full((8, 8), fill, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return with_meta(dataset)


def with_meta(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Add the file meta group."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    return dataset


def encode(dataset: Dataset, *, implicit: bool = False, little_endian: bool = True) -> bytes:
    """The data set without file meta, as it travels in a C-STORE."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = little_endian, implicit
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def incoming(dataset: Dataset, **changes: object) -> Incoming:
    """A C-STORE request of a data set."""
    values = {
        "sop_class_uid": str(dataset.SOPClassUID),
        "sop_instance_uid": str(dataset.SOPInstanceUID),
        "transfer_syntax_uid": str(ExplicitVRLittleEndian),
        "data": encode(dataset),
        "calling_ae": "TEST",
        "calling_address": "127.0.0.1",
    }
    return Incoming(**{**values, **changes})  # type: ignore[arg-type]


def save(dataset: Dataset, path: Path) -> Path:
    """Write a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path
