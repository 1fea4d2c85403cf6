"""Every code that a report can hold, spelled out: a new edition of the dictionary must not change reports unnoticed."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as dictionary

from dicom_node.results import codes

# PS3.16 Annex D and the context groups that TID 1500, 1600 and 2010 name.
OWN_NAMES = {
    "TITLE": ("126000", "DCM", "Imaging Measurement Report"),
    "LANGUAGE": ("en-US", "RFC5646", "English (United States)"),
    "PROCEDURE": ("25056-3", "LN", "MRI unspecified body region"),
    "LUMBAR_SPINE": ("122496007", "SCT", "Lumbar spine"),
    "NORMALITY": ("121402", "DCM", "Normality"),
    "NORMAL": ("17621005", "SCT", "Normal"),
    "ABNORMAL": ("263654008", "SCT", "Abnormal"),
    "UNDETERMINED": ("371934000", "SCT", "Normality Undetermined"),
    "CERTAINTY": ("111012", "DCM", "Certainty of Finding"),
    "PROBABILITY": ("DEGENPROB", "99SPINEONE", "Probability of degeneration"),
    "PERCENT": ("%", "UCUM", "Percent"),
    "COMMENT": ("121106", "DCM", "Comment"),
    "COMMENTS": ("C0034375", "UMLS", "Qualitative Evaluations"),
    "SUMMARY_OF_ANALYSES": ("111065", "DCM", "Summary of Analyses"),
    "FAILED": ("111224", "DCM", "Failed"),
    "NOT_ATTEMPTED": ("111225", "DCM", "Not Attempted"),
    "SOURCE": ("260753009", "SCT", "Source"),
    "PIXELS": ("{pixels}", "UCUM", "Pixels"),
    "MILLIMETRE": ("mm", "UCUM", "mm"),
    "COSINE": ("{-1:1}", "UCUM", "{-1:1}"),
}
SITES = {
    "L1": ("66794005", "L1 vertebra"),
    "L2": ("14293000", "L2 vertebra"),
    "L3": ("36470004", "L3 vertebra"),
    "L4": ("11994002", "L4 vertebra"),
    "L5": ("49668003", "L5 vertebra"),
    "L1-L2": ("80064006", "L1/L2 disc"),
    "L2-L3": ("67459009", "L2/L3 disc"),
    "L3-L4": ("62551000", "L3/L4 disc"),
    "L4-L5": ("84020006", "L4/L5 disc"),
    "L5-S1": ("715056000", "L5/S1 disc"),
}
MODALITIES = {
    "MR": ("MR", "Magnetic Resonance"),
    "CT": ("CT", "Computed Tomography"),
    "OT": ("OT", "Other Modality"),
}
# What the builders take from pydicom's dictionary by its name.
DICTIONARY = {
    "ProcedureReported": ("121058", "Procedure reported"),
    "ImagingMeasurements": ("126010", "Imaging Measurements"),
    "Device": ("121007", "Device"),
    "OfInterest": ("113000", "Of Interest"),
    "KeyObjectDescription": ("113012", "Key Object Description"),
    "ProcessingEquipment": ("109102", "Processing Equipment"),
    "SourceImageForImageProcessingOperation": ("121322", "Source image for image processing operation"),
    "ImageLibrary": ("111028", "Image Library"),
    "ImageLibraryGroup": ("126200", "Image Library Group"),
    "Modality": ("121139", "Modality"),
    "FrameOfReferenceUID": ("112227", "Frame of Reference UID"),
    "PixelDataRows": ("110910", "Pixel Data Rows"),
    "PixelDataColumns": ("110911", "Pixel Data Columns"),
    "HorizontalPixelSpacing": ("111026", "Horizontal Pixel Spacing"),
    "VerticalPixelSpacing": ("111066", "Vertical Pixel Spacing"),
    "SliceThickness": ("112225", "Slice Thickness"),
    "SpacingBetweenSlices": ("112226", "Spacing between slices"),
    "ImagePositionPatientX": ("110901", "Image Position (Patient) X"),
    "ImagePositionPatientY": ("110902", "Image Position (Patient) Y"),
    "ImagePositionPatientZ": ("110903", "Image Position (Patient) Z"),
    "ImageOrientationPatientRowX": ("110904", "Image Orientation (Patient) Row X"),
    "ImageOrientationPatientRowY": ("110905", "Image Orientation (Patient) Row Y"),
    "ImageOrientationPatientRowZ": ("110906", "Image Orientation (Patient) Row Z"),
    "ImageOrientationPatientColumnX": ("110907", "Image Orientation (Patient) Column X"),
    "ImageOrientationPatientColumnY": ("110908", "Image Orientation (Patient) Column Y"),
    "ImageOrientationPatientColumnZ": ("110909", "Image Orientation (Patient) Column Z"),
}
# What the gate looks for; the builders have these from highdicom.
GATE = {
    "LanguageOfContentItemAndDescendants": "121049",
    "ObserverType": "121005",
    "DeviceObserverUID": "121012",
    "MeasurementGroup": "125007",
    "TrackingIdentifier": "112039",
    "TrackingUniqueIdentifier": "112040",
    "Finding": "121071",
    "ImageRegion": "111030",
    "AlgorithmName": "111001",
    "AlgorithmVersion": "111003",
}


@pytest.mark.parametrize("name", OWN_NAMES)
def test_named_codes(name: str) -> None:
    code = getattr(codes, name)
    assert (code.value, code.scheme_designator, code.meaning) == OWN_NAMES[name]


def test_sites() -> None:
    assert {level: (code.value, code.meaning) for level, code in codes.SITES.items()} == SITES
    assert {code.scheme_designator for code in codes.SITES.values()} == {"SCT"}


def test_modalities() -> None:
    assert {name: (code.value, code.meaning) for name, code in codes.MODALITIES.items()} == MODALITIES
    assert {code.scheme_designator for code in codes.MODALITIES.values()} == {"DCM"}


@pytest.mark.parametrize("name", DICTIONARY)
def test_dictionary(name: str) -> None:
    code = getattr(dictionary.DCM, name)
    assert (code.value, code.meaning) == DICTIONARY[name]
    assert (code.scheme_designator, code.scheme_version) == ("DCM", None)


def test_what_the_gate_looks_for() -> None:
    assert {name: getattr(dictionary.DCM, name).value for name in GATE} == GATE
    assert dictionary.SCT.FindingSite.value == "363698007"
