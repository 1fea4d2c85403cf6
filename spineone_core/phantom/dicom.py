"""A phantom exam as a DICOM study on disk: sagittal T2 and T1, a three-plane localiser and an axial T2.

All headers are complete and valid, all UIDs follow from the seed, and the patient is PHANTOM^SPINEONE. The other series are
there so that series selection can pass them over. The truth is returned with the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from spineone_core.phantom.block import Block
from spineone_core.phantom.config import DEMO_CONFIG, PhantomConfig
from spineone_core.phantom.elements import STUDY_DATE, STUDY_TIME, decimal, window
from spineone_core.phantom.enhanced import (
    frame_groups,
    set_enhanced_attributes,
    shared_groups,
)
from spineone_core.phantom.exam import PhantomExam, make_phantom, phantom_uid
from spineone_core.phantom.sequences import AXIAL, CORONAL, SAGITTAL, SEQUENCES, Picture, PulseSequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WrittenExam:
    """A study on disk with its truth.

    Parameters
    ----------
    files
        Files of each series: ``t2``, and with companions ``t1``, ``localiser``, ``axial``.
    exam
        The T2 volume with its points and grades.
    series_uid, sop_instance_uid, frame_number
        The T2 series and the slice that the points lie on; ``frame_number`` counts from 1 and is None for single-frame images.
    """

    directory: Path
    study_uid: str
    files: dict[str, tuple[Path, ...]]
    exam: PhantomExam
    series_uid: str
    sop_instance_uid: str
    frame_number: int | None

    @property
    def points(self) -> dict[str, tuple[float, float]]:
        """(column, row) of each level in source pixels of the slice, pixel centres at integers."""
        return self.exam.points


def write_exam(
    exam_dir: Path,
    seed: int,
    *,
    config: PhantomConfig = DEMO_CONFIG,
    slices: int | None = None,
    companions: bool = True,
    transfer_syntax: str = ExplicitVRLittleEndian,
    enhanced: bool = False,
) -> WrittenExam:
    """Write a phantom study below ``exam_dir``, one folder for each series.

    Parameters
    ----------
    slices
        Write only this many slices of the sagittal series, around the middle; None writes all.
    companions
        Also write T1, localiser and axial series (about two seconds).
    transfer_syntax
        Transfer syntax of the T2 series: explicit VR little endian, RLE, JPEG-LS lossless or JPEG 2000 lossless.
    enhanced
        Write the T2 series as one Enhanced MR Image instead of single-frame images.

    Raises
    ------
    ValueError, RuntimeError
        If the seed is negative, or if there is no encoder for the transfer syntax.
    """
    config = replace(config, contrast="t2")
    exam = make_phantom(seed, config=config, slices=slices)
    study = _Study(seed, config, exam)
    images = study.enhanced() if enhanced else study.sagittal(exam, "t2")
    files = {"t2": _write(exam_dir / "t2_sag", images, transfer_syntax)}
    if companions:
        t1 = make_phantom(seed, config=replace(config, contrast="t1"), slices=slices)
        files["t1"] = _write(exam_dir / "t1_sag", study.sagittal(t1, "t1"))
        block = Block(seed, exam, config)
        files["localiser"] = _write(exam_dir / "localiser", study.localiser(block))
        files["axial"] = _write(exam_dir / "t2_tra", study.axial(block))
    middle = exam.volume.middle_index
    source = exam.volume.sources[middle]
    return WrittenExam(
        directory=exam_dir,
        study_uid=exam.volume.study_uid,
        files=files,
        exam=exam,
        series_uid=str(images[0].SeriesInstanceUID),
        sop_instance_uid=str(images[0].SOPInstanceUID) if enhanced else source.sop_instance_uid,
        frame_number=middle + 1 if enhanced else None,
    )


def _write(folder: Path, images: Sequence[Dataset], transfer_syntax: str = ExplicitVRLittleEndian) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images, start=1):
        if transfer_syntax != ExplicitVRLittleEndian:
            image.compress(transfer_syntax, generate_instance_uid=False)
        path = folder / f"image{number:03d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


# ---------------------------------------------------------------- the study's images


class _Study:
    """The images of a phantom study, whose headers have much in common."""

    def __init__(self, seed: int, config: PhantomConfig, exam: PhantomExam) -> None:
        self._seed, self._config, self._exam = seed, config, exam

    def uid(self, *names: object) -> str:
        return phantom_uid(self._seed, self._config, *names)

    def sagittal(self, exam: PhantomExam, name: str) -> list[Dataset]:
        volume = exam.volume
        pictures = [
            Picture(
                source.sop_instance_uid,
                voxels,
                origin,
                volume.row_direction,
                volume.column_direction,
                volume.pixel_spacing[0],
                exam.slice_thickness,
                exam.plan.step,
            )
            for source, voxels, origin in zip(volume.sources, volume.voxels, volume.origins, strict=True)
        ]
        return self._images(name, pictures, volume.series_uid)

    def localiser(self, block: Block) -> list[Dataset]:
        """Three pictures in each of three planes, 256 x 256 at 1.5 mm."""
        pictures = []
        for plane, directions in enumerate((SAGITTAL, CORONAL, AXIAL)):
            for number in range(3):
                uid = self.uid("localiser", plane, number)
                pictures.append(block.picture(uid, directions, (number - 1) * 20.0, 256, 1.5, 8.0, 20.0, -20.0))
        return self._images("localiser", pictures, self.uid("localiser", "series"))

    def axial(self, block: Block) -> list[Dataset]:
        """Twenty-one axial pictures, 4.5 mm apart, from L3 to the sacrum; 320 x 320 at 0.625 mm."""
        below = self._exam.patient.disc("L4-L5").part.z
        pictures = [
            block.picture(self.uid("axial", k), AXIAL, (k - 10) * 4.5, 320, 0.625, 4.0, 4.5, below) for k in range(21)
        ]
        return self._images("axial", pictures, self.uid("axial", "series"))

    def _images(self, name: str, pictures: Iterable[Picture], series_uid: str) -> list[Dataset]:
        return [self._image(name, picture, series_uid, n) for n, picture in enumerate(pictures, start=1)]

    def _common(self, name: str, series_uid: str) -> Dataset:
        """Patient, study, series, frame of reference and equipment."""
        sequence, image = SEQUENCES[name], Dataset()
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = STUDY_DATE
        image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = STUDY_TIME
        image.AccessionNumber = f"PHANTOM{self._seed % 10**8}"
        image.Modality = "MR"
        image.Manufacturer = "SpineOne"
        image.ManufacturerModelName = "Procedural lumbar phantom"
        image.DeviceSerialNumber = "0"
        image.SoftwareVersions = "1"
        image.ReferringPhysicianName = ""
        image.StudyDescription = "MRI lumbar spine (phantom)"
        image.SeriesDescription = image.ProtocolName = sequence.description
        image.PatientName = "PHANTOM^SPINEONE"
        image.PatientID = f"PHANTOM-{self._seed}"
        image.PatientBirthDate = ""
        image.PatientSex = "O"
        image.BodyPartExamined = "LSPINE"
        image.PatientPosition = "HFS"
        image.StudyInstanceUID = self._exam.volume.study_uid
        image.SeriesInstanceUID = series_uid
        image.StudyID = "1"
        image.SeriesNumber = sequence.number
        image.FrameOfReferenceUID = self.uid("frame of reference")
        image.PositionReferenceIndicator = ""
        image.SamplesPerPixel = 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit = 15
        image.PixelRepresentation = 0
        return image

    def _image(self, name: str, picture: Picture, series_uid: str, number: int) -> Dataset:
        image = self._common(name, series_uid)
        _identify(image, MRImageStorage, picture.uid)
        image.InstanceNumber = number
        image.AcquisitionNumber = 1
        _set_mr_attributes(image, SEQUENCES[name])
        image.SliceThickness = decimal(picture.thickness)
        image.SpacingBetweenSlices = decimal(picture.step)
        image.PixelSpacing = [decimal(picture.spacing)] * 2
        image.ImagePositionPatient = [decimal(v) for v in picture.origin]
        image.ImageOrientationPatient = [decimal(v) for v in (*picture.row, *picture.column)]
        image.Rows, image.Columns = picture.pixels.shape
        centre, width = window(picture.pixels)
        image.WindowCenter, image.WindowWidth = decimal(centre), decimal(width)
        image.PixelData = picture.pixels.astype("<u2").tobytes()
        image["PixelData"].VR = "OW"
        return image

    # --- enhanced multi-frame

    def enhanced(self) -> list[Dataset]:
        """The T2 volume as one Enhanced MR Image (PS3.3 A.36.2)."""
        volume, exam = self._exam.volume, self._exam
        image = self._common("t2", volume.series_uid)
        _identify(image, EnhancedMRImageStorage, self.uid("t2", "enhanced"))
        image.InstanceNumber = 1
        set_enhanced_attributes(image, self.uid("dimensions"))
        image.NumberOfFrames = len(volume.voxels)
        image.Rows, image.Columns = volume.voxels.shape[1:]
        spacing = volume.pixel_spacing[0]
        image.SharedFunctionalGroupsSequence = Items([shared_groups(exam, SEQUENCES["t2"], spacing)])
        image.PerFrameFunctionalGroupsSequence = Items(
            [frame_groups(number, origin) for number, origin in enumerate(volume.origins, start=1)]
        )
        image.PixelData = volume.voxels.astype("<u2").tobytes()
        image["PixelData"].VR = "OW"
        return [image]


def _identify(image: Dataset, sop_class: str, uid: str) -> None:
    image.SOPClassUID, image.SOPInstanceUID = sop_class, uid
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = sop_class
    image.file_meta.MediaStorageSOPInstanceUID = uid


def _set_mr_attributes(image: Dataset, sequence: PulseSequence) -> None:
    image.ImageType = list(sequence.image_type)
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = sequence.scanning, sequence.variant, ""
    image.MRAcquisitionType = "2D"
    image.EchoTime, image.RepetitionTime = decimal(sequence.echo_time), decimal(sequence.repetition_time)
    image.EchoTrainLength = sequence.train
    image.NumberOfAverages = "2"
    image.ImagingFrequency = "63.87"
    image.ImagedNucleus = "1H"
    image.EchoNumbers = 1
    image.MagneticFieldStrength = "1.5"
    image.PixelBandwidth = "190"
    image.FlipAngle = decimal(sequence.flip)
