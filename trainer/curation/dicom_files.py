"""Writes volumes that were never DICOM (``.mha``) as MR images: one file for each slice, with the headers that readers need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from trainer.datasets.exam import Exam
from trainer.datasets.volume_files import name_uid


def write_slices(exam: Exam, folder: Path) -> None:
    """Write ``image001.dcm`` and so on, explicit VR little endian, 16 bits; the UIDs are those of the exam's volume."""
    pixels, slope, intercept = to_stored_values(exam.volume.voxels)
    for index, plane in enumerate(pixels):
        image = _image(exam, index)
        image.RescaleSlope, image.RescaleIntercept = format_number_as_ds(slope), format_number_as_ds(intercept)
        image.PixelData = plane.tobytes()
        image.save_as(folder / f"image{index + 1:03d}.dcm", enforce_file_format=True)


def to_stored_values(voxels: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float, float]:
    """(stored, slope, intercept) with voxels = slope x stored + intercept; exact for whole numbers that fit in 16 bits."""
    low, high = float(voxels.min()), float(voxels.max())
    if np.array_equal(voxels, np.round(voxels)) and high - min(0.0, low) <= 65535:
        return (voxels - min(0.0, low)).astype("<u2"), 1.0, min(0.0, low)
    slope = (high - low) / 65535 or 1.0
    return np.round((voxels - low) / slope).astype("<u2"), slope, low


def _image(exam: Exam, index: int) -> Dataset:
    volume = exam.volume
    source = volume.sources[index]
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = source.sop_class_uid
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = source.sop_instance_uid
    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    image.Modality, image.Manufacturer = "MR", exam.manufacturer
    image.StudyDate = image.StudyTime = image.AccessionNumber = image.ReferringPhysicianName = ""
    image.PatientName = image.PatientID = exam.patient
    image.PatientBirthDate = image.PatientSex = ""
    image.SeriesDescription, image.BodyPartExamined = "T2 SAG", "LSPINE"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = "SE", "NONE", "", ""
    image.RepetitionTime = image.EchoTime = image.EchoTrainLength = ""
    image.SliceThickness = format_number_as_ds(volume.slice_step) if volume.slice_step else ""
    if exam.field_strength_t is not None:
        image.MagneticFieldStrength = format_number_as_ds(exam.field_strength_t)
    image.StudyInstanceUID, image.SeriesInstanceUID = volume.study_uid, volume.series_uid
    image.StudyID, image.SeriesNumber, image.InstanceNumber = "", 1, index + 1
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = name_uid(volume.series_uid, "frame"), ""
    image.ImagePositionPatient = [format_number_as_ds(float(v)) for v in volume.origins[index]]
    directions = (*volume.row_direction, *volume.column_direction)
    image.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in directions]
    image.PixelSpacing = [format_number_as_ds(v) for v in volume.pixel_spacing]
    image.Rows, image.Columns = volume.voxels.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    return image
