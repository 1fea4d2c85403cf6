"""A phantom exam as a DICOM study on disk: sagittal T2 and T1, a three-plane localiser and an axial T2.

All headers are complete and valid, all UIDs follow from the seed, the patient is PHANTOM^SPINEONE. The companions exist
to be left alone by series selection; the truth comes back with the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds
from scipy import ndimage

from spineone_core.phantom.exam import (
    DEMO_CONFIG,
    MR_IMAGE_STORAGE,
    PhantomConfig,
    PhantomExam,
    Plan,
    make_painter,
    make_phantom,
    phantom_uid,
    rician,
)
from spineone_core.phantom.painting import Floats

ENHANCED_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4.1"
STUDY_DATE, STUDY_TIME = "20260105", "093000"

FloatArray = NDArray[np.float64]

# Directions of an axial, a sagittal and a coronal picture: along a row, down a column.
_AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
_SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
_CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WrittenExam:
    """A study on disk and its truth.

    Parameters
    ----------
    files
        Files of each series: ``t2``, and with companions ``t1``, ``localiser``, ``axial``.
    exam
        The T2 volume with its points and grades.
    series_uid, sop_instance_uid, frame_number
        The T2 series and the slice the points lie on; ``frame_number`` counts from 1, None for single-frame images.
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
        Only this many slices of the sagittal series, around the middle; None writes all.
    companions
        Also write T1, localiser and axial series (about two seconds).
    transfer_syntax
        Of the T2 series: explicit VR little endian, RLE, JPEG-LS lossless or JPEG 2000 lossless.
    enhanced
        Write the T2 series as one Enhanced MR Image instead of single-frame images.

    Raises
    ------
    ValueError, RuntimeError
        If the seed is negative, or there is no encoder for the transfer syntax.
    """
    config = replace(config, contrast="t2")
    exam = make_phantom(seed, config=config, slices=slices)
    study = _Study(seed, config, exam)
    images = study.enhanced() if enhanced else study.sagittal(exam, "t2")
    files = {"t2": _write(exam_dir / "t2_sag", images, transfer_syntax)}
    if companions:
        t1 = make_phantom(seed, config=replace(config, contrast="t1"), slices=slices)
        files["t1"] = _write(exam_dir / "t1_sag", study.sagittal(t1, "t1"))
        block = _Block(seed, exam, config)
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


@dataclass(frozen=True, slots=True)
class _Sequence:
    """How a series was acquired, as its headers say. Times in ms."""

    number: int
    description: str
    echo_time: float
    repetition_time: float
    train: int
    scanning: str = "SE"
    variant: str = "SK"
    flip: float = 150.0
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND")


_SEQUENCES = {
    "localiser": _Sequence(1, "LOCALIZER", 5.0, 20.0, 1, "GR", "SP", 40.0, ("ORIGINAL", "PRIMARY", "LOCALIZER", "M")),
    "t2": _Sequence(2, "T2 TSE SAG", 102.0, 3800.0, 17),
    "t1": _Sequence(3, "T1 TSE SAG", 11.0, 620.0, 3),
    "axial": _Sequence(4, "T2 TSE TRA", 98.0, 4200.0, 15),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """One image: pixels (rows, columns) and where it lies in patient space (mm)."""

    uid: str
    pixels: Floats
    origin: FloatArray
    row: FloatArray
    column: FloatArray
    spacing: float
    thickness: float
    step: float


class _Study:
    """Headers that all images of a phantom study share."""

    def __init__(self, seed: int, config: PhantomConfig, exam: PhantomExam) -> None:
        self._seed, self._config, self._exam = seed, config, exam

    def uid(self, *names: object) -> str:
        return phantom_uid(self._seed, self._config, *names)

    def sagittal(self, exam: PhantomExam, name: str) -> list[Dataset]:
        volume = exam.volume
        pictures = [
            _Picture(
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

    def localiser(self, block: _Block) -> list[Dataset]:
        """Three pictures in each of three planes, 256 x 256 at 1.5 mm."""
        pictures = []
        for plane, directions in enumerate((_SAGITTAL, _CORONAL, _AXIAL)):
            for number in range(3):
                uid = self.uid("localiser", plane, number)
                pictures.append(block.picture(uid, directions, (number - 1) * 20.0, 256, 1.5, 8.0, 20.0, -20.0))
        return self._images("localiser", pictures, self.uid("localiser", "series"))

    def axial(self, block: _Block) -> list[Dataset]:
        """Twenty-one axial pictures, 4.5 mm apart, from L3 to the sacrum; 320 x 320 at 0.625 mm."""
        below = self._exam.patient.disc("L4-L5").part.z
        pictures = [
            block.picture(self.uid("axial", k), _AXIAL, (k - 10) * 4.5, 320, 0.625, 4.0, 4.5, below) for k in range(21)
        ]
        return self._images("axial", pictures, self.uid("axial", "series"))

    def _images(self, name: str, pictures: Iterable[_Picture], series_uid: str) -> list[Dataset]:
        return [self._image(name, picture, series_uid, n) for n, picture in enumerate(pictures, start=1)]

    def _common(self, name: str, series_uid: str) -> Dataset:
        """Patient, study, series, frame of reference and equipment."""
        sequence, image = _SEQUENCES[name], Dataset()
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

    def _image(self, name: str, picture: _Picture, series_uid: str, number: int) -> Dataset:
        image = self._common(name, series_uid)
        _identify(image, MR_IMAGE_STORAGE, picture.uid)
        image.InstanceNumber = number
        image.AcquisitionNumber = 1
        _set_mr_attributes(image, _SEQUENCES[name])
        image.SliceThickness = _decimal(picture.thickness)
        image.SpacingBetweenSlices = _decimal(picture.step)
        image.PixelSpacing = [_decimal(picture.spacing)] * 2
        image.ImagePositionPatient = [_decimal(v) for v in picture.origin]
        image.ImageOrientationPatient = [_decimal(v) for v in (*picture.row, *picture.column)]
        image.Rows, image.Columns = picture.pixels.shape
        centre, width = _window(picture.pixels)
        image.WindowCenter, image.WindowWidth = _decimal(centre), _decimal(width)
        image.PixelData = picture.pixels.astype("<u2").tobytes()
        image["PixelData"].VR = "OW"
        return image

    # -- enhanced multi-frame

    def enhanced(self) -> list[Dataset]:
        """The T2 volume as one Enhanced MR Image (PS3.3 A.36.2)."""
        volume, exam = self._exam.volume, self._exam
        image = self._common("t2", volume.series_uid)
        _identify(image, ENHANCED_MR_IMAGE_STORAGE, self.uid("t2", "enhanced"))
        image.InstanceNumber = 1
        _set_enhanced_attributes(image, self.uid("dimensions"))
        image.NumberOfFrames = len(volume.voxels)
        image.Rows, image.Columns = volume.voxels.shape[1:]
        spacing = volume.pixel_spacing[0]
        image.SharedFunctionalGroupsSequence = Items([_shared_groups(exam, _SEQUENCES["t2"], spacing)])
        image.PerFrameFunctionalGroupsSequence = Items(
            [_frame_groups(number, origin) for number, origin in enumerate(volume.origins, start=1)]
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


def _set_mr_attributes(image: Dataset, sequence: _Sequence) -> None:
    image.ImageType = list(sequence.image_type)
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = sequence.scanning, sequence.variant, ""
    image.MRAcquisitionType = "2D"
    image.EchoTime, image.RepetitionTime = _decimal(sequence.echo_time), _decimal(sequence.repetition_time)
    image.EchoTrainLength = sequence.train
    image.NumberOfAverages = "2"
    image.ImagingFrequency = "63.87"
    image.ImagedNucleus = "1H"
    image.EchoNumbers = 1
    image.MagneticFieldStrength = "1.5"
    image.PixelBandwidth = "190"
    image.FlipAngle = _decimal(sequence.flip)


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return format_number_as_ds(float(value))


def _window(pixels: Floats) -> tuple[float, float]:
    """Centre and width that show the picture as a scanner's console would."""
    high = max(2.0, round(float(np.percentile(pixels, 98.5)) * 1.1))
    return high / 2, high


def _items(**values: Any) -> Items:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Items([item])


def _code(value: str, scheme: str, meaning: str) -> Items:
    return _items(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _set_enhanced_attributes(image: Dataset, dimension_uid: str) -> None:
    image.ImageType = ["ORIGINAL", "PRIMARY", "T2", "NONE"]
    image.AcquisitionNumber = 1
    del image.AcquisitionDate, image.AcquisitionTime
    image.AcquisitionDateTime = STUDY_DATE + STUDY_TIME
    image.AcquisitionDuration = 180.0
    image.PixelPresentation = "MONOCHROME"
    image.VolumetricProperties = "VOLUME"
    image.VolumeBasedCalculationTechnique = "NONE"
    image.ComplexImageComponent = "MAGNITUDE"
    image.AcquisitionContrast = "T2"
    image.ContentQualification = "RESEARCH"
    image.ResonantNucleus = "1H"
    image.KSpaceFiltering = "NONE"
    image.MagneticFieldStrength = 1.5
    image.ApplicableSafetyStandardAgency = "IEC"
    image.BurnedInAnnotation = "NO"
    image.LossyImageCompression = "00"
    image.PresentationLUTShape = "IDENTITY"
    image.AcquisitionContextSequence = Items([])
    _set_pulse_sequence(image)
    image.DimensionOrganizationSequence = _items(DimensionOrganizationUID=dimension_uid)
    image.DimensionIndexSequence = _items(
        DimensionOrganizationUID=dimension_uid,
        DimensionIndexPointer=0x00200032,
        FunctionalGroupPointer=0x00209113,
        DimensionDescriptionLabel="Position",
    )


def _set_pulse_sequence(image: Dataset) -> None:
    image.PulseSequenceName = "tse"
    image.MRAcquisitionType = "2D"
    image.EchoPulseSequence = "SPIN"
    image.MultipleSpinEcho = "YES"
    image.MultiPlanarExcitation = "NO"
    image.PhaseContrast = "NO"
    image.TimeOfFlightContrast = "NO"
    image.SteadyStatePulseSequence = "NONE"
    image.EchoPlanarPulseSequence = "NO"
    image.SaturationRecovery = "NO"
    image.SpectrallySelectedSuppression = "NONE"
    image.OversamplingPhase = "2D"
    image.GeometryOfKSpaceTraversal = "RECTILINEAR"
    image.RectilinearPhaseEncodeReordering = "LINEAR"
    image.SegmentedKSpaceTraversal = "PARTIAL"
    image.NumberOfKSpaceTrajectories = 1


def _shared_groups(exam: PhantomExam, sequence: _Sequence, spacing: float) -> Dataset:
    volume, groups = exam.volume, Dataset()
    rows = volume.voxels.shape[1]
    groups.PixelMeasuresSequence = _items(
        PixelSpacing=[_decimal(spacing)] * 2,
        SliceThickness=_decimal(exam.slice_thickness),
        SpacingBetweenSlices=_decimal(exam.plan.step),
    )
    directions = (*volume.row_direction, *volume.column_direction)
    groups.PlaneOrientationSequence = _items(ImageOrientationPatient=[_decimal(v) for v in directions])
    groups.FrameAnatomySequence = _items(
        FrameLaterality="U", AnatomicRegionSequence=_code("122496007", "SCT", "Lumbar spine")
    )
    groups.PixelValueTransformationSequence = _items(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")
    centre, width = _window(volume.voxels)
    groups.FrameVOILUTSequence = _items(WindowCenter=_decimal(centre), WindowWidth=_decimal(width))
    groups.MRImageFrameTypeSequence = _items(
        FrameType=["ORIGINAL", "PRIMARY", "T2", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="T2",
    )
    groups.MRTimingAndRelatedParametersSequence = _timing(sequence)
    groups.MRFOVGeometrySequence = _items(
        InPlanePhaseEncodingDirection="COLUMN",
        MRAcquisitionFrequencyEncodingSteps=rows,
        MRAcquisitionPhaseEncodingStepsInPlane=rows,
        PercentSampling="100",
        PercentPhaseFieldOfView="100",
    )
    groups.MREchoSequence = _items(EffectiveEchoTime=sequence.echo_time)
    groups.MRModifierSequence = _modifier()
    groups.MRImagingModifierSequence = _items(
        MagnetizationTransfer="NONE",
        BloodSignalNulling="NO",
        Tagging="NONE",
        TransmitterFrequency=63.87,
        PixelBandwidth="190",
    )
    groups.MRReceiveCoilSequence = _receive_coil()
    groups.MRTransmitCoilSequence = _items(
        TransmitCoilName="BODY", TransmitCoilManufacturerName="SpineOne", TransmitCoilType="BODY"
    )
    groups.MRAveragesSequence = _items(NumberOfAverages="2")
    return groups


def _timing(sequence: _Sequence) -> Items:
    rate = _items(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.0)
    return _items(
        RepetitionTime=_decimal(sequence.repetition_time),
        FlipAngle=_decimal(sequence.flip),
        EchoTrainLength=sequence.train,
        RFEchoTrainLength=sequence.train,
        GradientEchoTrainLength=0,
        GradientOutputType="DB_DT",
        GradientOutput=0.0,
        OperatingModeSequence=_items(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL"),
        SpecificAbsorptionRateSequence=rate,
    )


def _modifier() -> Items:
    return _items(
        InversionRecovery="NO",
        FlowCompensation="NONE",
        Spoiling="NONE",
        T2Preparation="NO",
        SpectrallySelectedExcitation="NONE",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="NO",
    )


def _receive_coil() -> Items:
    return _items(
        ReceiveCoilName="SPINE",
        ReceiveCoilManufacturerName="SpineOne",
        ReceiveCoilType="SURFACE",
        QuadratureReceiveCoil="NO",
    )


def _frame_groups(number: int, origin: FloatArray) -> Dataset:
    groups = Dataset()
    groups.FrameContentSequence = _items(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=STUDY_DATE + STUDY_TIME,
        FrameAcquisitionDateTime=STUDY_DATE + STUDY_TIME,
        FrameAcquisitionDuration=180.0,
        DimensionIndexValues=[number],
        StackID="1",
        InStackPositionNumber=number,
    )
    groups.PlanePositionSequence = _items(ImagePositionPatient=[_decimal(v) for v in origin])
    return groups


# ---------------------------------------------------------------- other planes


class _Block:
    """The anatomy as a coarse block, from which pictures in any plane are cut."""

    _STEP = 3.0
    _HALF_WIDTH = 99.0
    _PIXEL = 1.4
    _TOP, _FRONT = 210.0, -190.0

    def __init__(self, seed: int, exam: PhantomExam, config: PhantomConfig) -> None:
        self._pose, self._shift = exam.plan.pose, exam.plan.shift
        self._noise = np.random.default_rng([seed, 99])
        rows, columns = 300, 264
        upright = Plan(
            rows=rows,
            columns=columns,
            spacing=self._PIXEL,
            slices=1,
            step=1.0,
            thickness=1.0,
            row_direction=np.array(_SAGITTAL[0]),
            column_direction=np.array(_SAGITTAL[1]),
            corner=np.zeros(3),
            pose=np.eye(3),
            shift=np.zeros(3),
        )
        painter = make_painter(seed, exam.patient, upright, config)
        along_row, along_column = upright.row_direction * self._PIXEL, upright.column_direction * self._PIXEL
        self._signal = np.stack(
            [
                painter.paint(upright.to_anatomy(np.array([x, self._FRONT, self._TOP]), along_row, along_column))[0]
                for x in np.arange(-self._HALF_WIDTH, self._HALF_WIDTH + 1, self._STEP)
            ]
        )

    def picture(
        self,
        uid: str,
        directions: tuple[tuple[float, float, float], tuple[float, float, float]],
        offset: float,
        size: int,
        spacing: float,
        thickness: float,
        step: float,
        height: float,
    ) -> _Picture:
        """A square picture ``offset`` mm along its normal from the anatomical point (0, 0, ``height``)."""
        row, column = np.array(directions[0]), np.array(directions[1])
        centre = self._pose @ np.array([0.0, 0.0, height]) + self._shift + np.cross(row, column) * offset
        origin = centre - (row + column) * spacing * (size - 1) / 2
        pixels = np.arange(size) * spacing
        places = origin + pixels[None, :, None] * row + pixels[:, None, None] * column
        anatomical = (places - self._shift) @ self._pose
        index = np.stack(
            [
                (anatomical[..., 0] + self._HALF_WIDTH) / self._STEP,
                (self._TOP - anatomical[..., 2]) / self._PIXEL,
                (anatomical[..., 1] - self._FRONT) / self._PIXEL,
            ]
        )
        signal = ndimage.map_coordinates(self._signal, index, order=1, cval=0.0).astype(np.float32)
        noisy = np.round(rician(signal, 0.01, self._noise) * 1000)
        return _Picture(uid, noisy, origin, row, column, spacing, thickness, step)
