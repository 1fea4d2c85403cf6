"""The functional groups of an Enhanced MR Image (PS3.3 C.7.6.16, C.8.13)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from spineone_core.arrays import FloatArray
from spineone_core.phantom.elements import STUDY_DATE, STUDY_TIME, code, decimal, items, window
from spineone_core.phantom.exam import PhantomExam
from spineone_core.phantom.sequences import PulseSequence


def set_enhanced_attributes(image: Dataset, dimension_uid: str) -> None:
    """Attributes of the whole image: MR image, pulse sequence, acquisition context and dimensions."""
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
    image.DimensionOrganizationSequence = items(DimensionOrganizationUID=dimension_uid)
    image.DimensionIndexSequence = items(
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


def shared_groups(exam: PhantomExam, sequence: PulseSequence, spacing: float) -> Dataset:
    """The functional groups that all frames share."""
    volume, groups = exam.volume, Dataset()
    rows = volume.voxels.shape[1]
    groups.PixelMeasuresSequence = items(
        PixelSpacing=[decimal(spacing)] * 2,
        SliceThickness=decimal(exam.slice_thickness),
        SpacingBetweenSlices=decimal(exam.plan.step),
    )
    directions = (*volume.row_direction, *volume.column_direction)
    groups.PlaneOrientationSequence = items(ImageOrientationPatient=[decimal(v) for v in directions])
    groups.FrameAnatomySequence = items(
        FrameLaterality="U", AnatomicRegionSequence=code("122496007", "SCT", "Lumbar spine")
    )
    groups.PixelValueTransformationSequence = items(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")
    centre, width = window(volume.voxels)
    groups.FrameVOILUTSequence = items(WindowCenter=decimal(centre), WindowWidth=decimal(width))
    groups.MRImageFrameTypeSequence = items(
        FrameType=["ORIGINAL", "PRIMARY", "T2", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="T2",
    )
    groups.MRTimingAndRelatedParametersSequence = _timing(sequence)
    groups.MRFOVGeometrySequence = items(
        InPlanePhaseEncodingDirection="COLUMN",
        MRAcquisitionFrequencyEncodingSteps=rows,
        MRAcquisitionPhaseEncodingStepsInPlane=rows,
        PercentSampling="100",
        PercentPhaseFieldOfView="100",
    )
    groups.MREchoSequence = items(EffectiveEchoTime=sequence.echo_time)
    groups.MRModifierSequence = _modifier()
    groups.MRImagingModifierSequence = items(
        MagnetizationTransfer="NONE",
        BloodSignalNulling="NO",
        Tagging="NONE",
        TransmitterFrequency=63.87,
        PixelBandwidth="190",
    )
    groups.MRReceiveCoilSequence = _receive_coil()
    groups.MRTransmitCoilSequence = items(
        TransmitCoilName="BODY", TransmitCoilManufacturerName="SpineOne", TransmitCoilType="BODY"
    )
    groups.MRAveragesSequence = items(NumberOfAverages="2")
    return groups


def _timing(sequence: PulseSequence) -> Items:
    rate = items(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.0)
    return items(
        RepetitionTime=decimal(sequence.repetition_time),
        FlipAngle=decimal(sequence.flip),
        EchoTrainLength=sequence.train,
        RFEchoTrainLength=sequence.train,
        GradientEchoTrainLength=0,
        GradientOutputType="DB_DT",
        GradientOutput=0.0,
        OperatingModeSequence=items(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL"),
        SpecificAbsorptionRateSequence=rate,
    )


def _modifier() -> Items:
    return items(
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
    return items(
        ReceiveCoilName="SPINE",
        ReceiveCoilManufacturerName="SpineOne",
        ReceiveCoilType="SURFACE",
        QuadratureReceiveCoil="NO",
    )


def frame_groups(number: int, origin: FloatArray) -> Dataset:
    """The functional groups of frame ``number`` (from 1): content and position."""
    groups = Dataset()
    groups.FrameContentSequence = items(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=STUDY_DATE + STUDY_TIME,
        FrameAcquisitionDateTime=STUDY_DATE + STUDY_TIME,
        FrameAcquisitionDuration=180.0,
        DimensionIndexValues=[number],
        StackID="1",
        InStackPositionNumber=number,
    )
    groups.PlanePositionSequence = items(ImagePositionPatient=[decimal(v) for v in origin])
    return groups
