"""Hidings: a person in an exported image, written in another way or put where nobody looks. And names that hide nothing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.upkeep.closed_values import CLOSED, closed
from dicom_node.upkeep.deidentify import KEPT, Pseudonyms, deidentify
from dicom_node.upkeep.traces import IdentifyingError, compact
from tests.fakes.common_names import COMMON_NAMES
from tests.fakes.datasets import mr_image

PSEUDONYMS = Pseudonyms(b"k" * 32)
# PS3.15 table E.1-1: descriptions and what else is free text about an exam (actions X, Z and D, "Clean Descriptors").
DESCRIPTORS = frozenset(
    {
        "AcquisitionComments", "AcquisitionContextSequence", "AcquisitionProtocolDescription", "AdmittingDiagnosesDescription",
        "ContentDescription", "ContrastBolusAgent", "DerivationDescription", "DeviceDescription", "FrameComments",
        "ImageComments", "ImagingServiceRequestComments", "InterventionDescription", "LossyImageCompressionRetired",
        "PatientComments", "PerformedProcedureStepDescription", "ProtocolName", "PulseSequenceName", "ReasonForStudy",
        "RequestedProcedureDescription", "ScheduledProcedureStepDescription", "SequenceName", "SeriesDescription",
        "StudyComments", "StudyDescription", "DimensionDescriptionLabel", "FrameLabel", "StackID", "DeviceSerialNumber",
        "StationName", "InstitutionName", "GantryID", "PrivateInformation", "AcquisitionDate", "AcquisitionTime",
        "FrameAcquisitionDateTime", "ContentTime", "TimezoneOffsetFromUTC",
    }
)  # fmt: skip


def person() -> Dataset:
    image = mr_image(1, study="1.2.826.0.1.3680043.10.4711.99")
    image.PatientName, image.PatientID = "Müller^Gabriele^Ann", "HOSP-0047111"
    image.PatientBirthDate, image.StudyDate = "19610324", "20240315"
    image.AccessionNumber, image.InstitutionName = "ACC-2024/0017", "St. Elsewhere Clinic"
    image.ReferringPhysicianName = "Lee^Ian"
    image.Manufacturer, image.ManufacturerModelName = "SIEMENS", "Avanto"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]
    image.BodyPartExamined, image.ScanningSequence = "LSPINE", "SE"
    return image


def written(image: Dataset, folder: Path) -> Dataset:
    image.save_as(folder / "image.dcm", enforce_file_format=True)
    return pydicom.dcmread(BytesIO(deidentify(folder / "image.dcm", PSEUDONYMS)))


def region(meaning: str, value: str = "421060004") -> Sequence:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return Sequence([code])


# ---------------------------------------------------------------- hidings


@pytest.mark.parametrize(
    "hidden",
    [
        "MUELLER", "mueller", "MULLER", "Mu\u0308ller", "müller", "Gabriele", "GABRIELEMUELLER", "MüllerGabriele", "annmuller",
        "Lee", "LEEIAN", "IANLEE", "for Ian", "HOSP0047111", "hosp 0047111", "0047111", "47111", "no. 0047-111", "ACC20240017",
        "1961-03-24", "24.03.1961", "03/24/1961", "24MAR1961", "24. März 1961", "March 24, 1961", "19610324", "240361",
        "61-03-24", "2024-03-15", "St Elsewhere-Clinic", "MUELLER_G",
    ],
)  # fmt: skip
def test_free_text_that_holds_a_trace_is_refused(tmp_path: Path, hidden: str) -> None:
    for meaning in (hidden, f"spine of {hidden}", f"{hidden} spine"):
        image = person()
        image.AnatomicRegionSequence = region(meaning)
        with pytest.raises(IdentifyingError, match="CodeMeaning of an image repeats"):
            written(image, tmp_path)
        image = person()
        image.Manufacturer = meaning
        assert written(image, tmp_path).Manufacturer == ""


@pytest.mark.parametrize("keyword", ["SeriesNumber", "AcquisitionNumber", "InstanceNumber"])
@pytest.mark.parametrize("number", [47111, 20240017, 19610324, 24031961, 3241961, 1947111, 201961032])
def test_a_number_that_is_an_identifier_is_refused(tmp_path: Path, keyword: str, number: int) -> None:
    image = person()
    if number == 1947111:
        image.PatientID = "947111"
    if number == 201961032:
        image.PatientID = "1961-032"
    setattr(image, keyword, number)
    with pytest.raises(IdentifyingError, match=f"{keyword} of an image repeats"):
        written(image, tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value"), [("EchoTime", "47111"), ("FlipAngle", "9.19610324"), ("SliceLocation", "47111.0")]
)
def test_a_decimal_that_is_an_identifier_is_refused(tmp_path: Path, keyword: str, value: str) -> None:
    image = person()
    setattr(image, keyword, value)
    with pytest.raises(IdentifyingError, match=f"{keyword} of an image repeats"):
        written(image, tmp_path)


@pytest.mark.parametrize("keyword", sorted(CLOSED.keys() - {"Modality", "PhotometricInterpretation"}))
@pytest.mark.parametrize("hidden", ["MUELLER", "LEE", "AB", "HOSP0047111", "19610324"])
def test_coded_attributes_keep_known_terms_only(tmp_path: Path, keyword: str, hidden: str) -> None:
    image = person()
    image[keyword] = pydicom.DataElement(keyword, dictionary_VR(keyword), [hidden, hidden])
    left = written(image, tmp_path)[keyword]
    assert hidden not in str(left.value)


def test_every_coded_attribute_that_stays_is_closed() -> None:
    coded = {keyword for keyword in KEPT if dictionary_VR(keyword) == "CS"}
    assert coded | {"RescaleType", "ImagedNucleus"} == CLOSED.keys()


def test_no_descriptor_and_no_date_stays() -> None:
    assert not KEPT & DESCRIPTORS
    assert not {
        keyword for keyword in KEPT if dictionary_VR(keyword) in ("PN", "DA", "TM", "DT", "LT", "ST", "UT", "AS")
    }


@pytest.mark.parametrize(
    ("keyword", "values", "left"),
    [
        ("ImageType", ["ORIGINAL", "PRIMARY", "LEE", "NORM"], ["ORIGINAL", "PRIMARY", "OTHER", "NORM"]),
        ("ImageType", ["DERIVED", "SECONDARY", "MPR", "CSA MPR", "", "CSAPARALLEL"], None),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"], None),
        ("ImageType", ["ORIGINAL", "PRIMARY", "W", "W", "DERIVED"], None),
        ("ImageType", ["DERIVED", "PRIMARY", "DIXON", "OPP_PHASE"], None),
        ("ImageType", ["ORIGINAL", "PRIMARY", "PROJECTION IMAGE", "MIP"], None),
        ("SequenceVariant", ["SK", "JANE", "SP"], ["SK", "SP"]),
        ("BodyPartExamined", ["L-Spine"], None),
        ("BodyPartExamined", ["JANE DOE"], []),
        ("RescaleType", ["for Jane"], ["US"]),
        ("RescaleType", ["normalized"], None),
        ("ImagedNucleus", ["1H"], None),
    ],
)
def test_closed(keyword: str, values: list[str], left: list[str] | None) -> None:
    assert closed(keyword, [v for v in values if v]) == ([v for v in values if v] if left is None else left)


@pytest.mark.parametrize(
    ("one", "other"), [("MÜLLER", "Mueller"), ("Weiß", "WEISS"), ("Ångström", "Angstrom"), ("Søren", "SOREN")]
)
def test_compact__spellings_of_one_name_are_one(one: str, other: str) -> None:
    assert compact(one) == compact(other)


# ---------------------------------------------------------------- what hides nothing

# What scanners of four makers write into an ordinary lumbar series.
ORDINARY: tuple[dict[str, Any], ...] = (
    {
        "Manufacturer": "SIEMENS", "ManufacturerModelName": "MAGNETOM Sempra", "SeriesNumber": 4, "AcquisitionNumber": 1,
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"], "EchoTime": "102", "RepetitionTime": "3620",
        "ImagePositionPatient": ["-21.456790104723", "-112.12345678901", "231.19420583367"], "SequenceVariant": ["SK", "SP"],
    },
    {
        "Manufacturer": "Philips Medical Systems", "ManufacturerModelName": "Ingenia", "SeriesNumber": 301,
        "ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"], "AcquisitionNumber": 3, "EchoTime": "100",
        "WindowCenter": "1070",
    },
    {
        "Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "DISCOVERY MR750w", "SeriesNumber": 3, "InstanceNumber": 7,
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "EchoTime": "105.984", "RepetitionTime": "2800", "FlipAngle": "111",
    },
    {
        "Manufacturer": "Canon Medical Systems", "ManufacturerModelName": "Vantage Orian", "SeriesNumber": 5001,
        "ImageType": ["ORIGINAL", "PRIMARY"], "EchoTime": "108", "AnatomicRegionSequence": region("Lumbar spine"),
    },
)  # fmt: skip


def test_common_names_are_seldom_refused(tmp_path: Path) -> None:
    """At most one of a hundred; and makers and models stay with them."""
    refused, emptied = [], []
    for number, name in enumerate(COMMON_NAMES):
        ordinary = ORDINARY[number % len(ORDINARY)]
        image = mr_image(1, study=f"1.2.826.0.1.3680043.10.{number}.99")
        image.PatientName, image.PatientID = name, str(1000 + 37 * number)
        image.PatientBirthDate = f"{1940 + number % 60}{1 + number % 12:02}{1 + number % 28:02}"
        image.StudyDate, image.StudyID, image.AccessionNumber = "20240315", str(number), f"A{20240000 + number}"
        image.ReferringPhysicianName = COMMON_NAMES[-number]
        image.BodyPartExamined, image.ScanningSequence, image.MRAcquisitionType = "LSPINE", "SE", "2D"
        for keyword, value in ordinary.items():
            setattr(image, keyword, value)
        try:
            left = written(image, tmp_path)
        except IdentifyingError:
            refused.append(name)
            continue
        if (left.Manufacturer, left.ManufacturerModelName) != (
            ordinary["Manufacturer"],
            ordinary["ManufacturerModelName"],
        ):
            emptied.append(name)
    assert len(COMMON_NAMES) >= 300
    assert len(refused) <= len(COMMON_NAMES) // 100, refused
    assert len(emptied) <= len(COMMON_NAMES) // 100, emptied
