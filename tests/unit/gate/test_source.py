"""A finished object whose patient, study, accession or geometry is not that of its source is refused."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from dicom_node.gate.check import check, check_with_source
from dicom_node.gate.source import PATIENT_AND_STUDY, Source
from dicom_node.results.envelope import copy_patient_and_study, to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.overlay import build_overlay
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import build_report
from tests.unit.synthetic import CREATED, KEY, NAMES, analysed, classic, enhanced, named, poor, refused, volume

FULL = {
    "TimezoneOffsetFromUTC": "+0100",
    "IssuerOfPatientID": "HOSPITAL",
    "PatientSize": "1.75",
    "PatientWeight": "70",
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "by hand",
}
# Another valid value of each attribute.
OTHER = {
    "SpecificCharacterSet": "ISO_IR 100",
    "TimezoneOffsetFromUTC": "+0200",
    "PatientName": "Test^Patience",
    "PatientID": "P-0002",
    "IssuerOfPatientID": "ANOTHER",
    "PatientBirthDate": "19700102",
    "PatientSex": "M",
    "PatientAge": "057Y",
    "PatientSize": "1.76",
    "PatientWeight": "71",
    "PatientIdentityRemoved": "NO",
    "DeidentificationMethod": "by machine",
    "StudyInstanceUID": "2.25.1999",
    "StudyDate": "20260302",
    "StudyTime": "101113",
    "StudyID": "S2",
    "StudyDescription": "MR cervical spine",
    "AccessionNumber": "A-18",
    "ReferringPhysicianName": "Doe^John",
}


def full() -> Dataset:
    return classic(**FULL)


def report(header: Dataset, **options: Any) -> Dataset:
    return build_report(
        detection=analysed(), header=header, slice_header=header, key=KEY, created=CREATED, images=[header], **options
    )


def overlay(header: Dataset) -> Dataset:
    pictured = volume(rows=40, columns=32, spacing=(6.0, 6.0), slices=1)
    return build_overlay(detection=analysed(), volume=pictured, header=header, key=KEY, created=CREATED)


def presentation(header: Dataset) -> Dataset:
    return build_presentation(
        detection=analysed(), volume=volume(slices=1), header=header, slice_header=header, key=KEY, created=CREATED
    )


def key_object(header: Dataset) -> Dataset:
    return build_key_object(detection=analysed(), header=header, slice_header=header, key=KEY, created=CREATED)


KINDS: dict[str, Callable[[Dataset], Dataset]] = {
    "report": report,
    "in space": lambda header: report(header, in_space=True),
    "overlay": overlay,
    "presentation": presentation,
    "key object": key_object,
}


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return {kind: to_bytes(build(full())) for kind, build in KINDS.items()}


def problems(kind: str, made: dict[str, bytes], change: Callable[[Dataset], None]) -> list[str]:
    finished = pydicom.dcmread(BytesIO(made[kind]))
    change(finished)
    return check_with_source(finished, Source(full(), [full()]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_made_of_the_source_passes(made: dict[str, bytes], kind: str) -> None:
    assert problems(kind, made, lambda dataset: None) == []


@pytest.mark.parametrize("header", [classic(), poor(), enhanced(), *(named(kind) for kind in NAMES)])
def test_reports_of_every_kind_of_source_pass(header: Dataset) -> None:
    assert check_with_source(report(header), Source(header, [header])) == []


def test_a_refusal_passes() -> None:
    header = full()
    made = build_report(detection=refused(), header=header, slice_header=None, key=KEY, created=CREATED)
    assert check_with_source(made, Source(header)) == []


@pytest.mark.parametrize("keyword", PATIENT_AND_STUDY)
@pytest.mark.parametrize("kind", KINDS)
def test_another_value_is_refused(made: dict[str, bytes], kind: str, keyword: str) -> None:
    found = problems(kind, made, lambda dataset: setattr(dataset, keyword, OTHER[keyword]))
    assert f"{keyword}: differs from the source" in found
    assert not any(OTHER[keyword] in problem for problem in found)


@pytest.mark.parametrize("keyword", [k for k in PATIENT_AND_STUDY if k != "StudyInstanceUID"])
def test_a_lost_value_is_refused(made: dict[str, bytes], keyword: str) -> None:
    def lose(dataset: Dataset) -> None:
        delattr(dataset, keyword)

    assert f"{keyword}: differs from the source" in problems("report", made, lose)


@pytest.mark.parametrize("keyword", ["PatientComments", "OtherPatientIDs", "EthnicGroup"])
def test_whatever_else_is_said_of_the_patient_is_refused(made: dict[str, bytes], keyword: str) -> None:
    assert f"{keyword}: differs from the source" in problems("overlay", made, lambda d: setattr(d, keyword, "X"))


def test_a_finished_object_of_another_patient_passes_alone__and_is_refused_with_its_source() -> None:
    changed = report(classic(PatientID="P-0002", PatientName="Other^Patient"))
    assert check(changed) == []
    assert check_with_source(changed, Source(classic(), [classic()])) == [
        "PatientID: differs from the source",
        "PatientName: differs from the source",
    ]


@pytest.mark.parametrize(
    ("kind", "source", "problem"),
    [
        ("report", {"FrameOfReferenceUID": "2.25.1010"}, "frame of reference of an image: differs from the source"),
        ("report", {"FrameOfReferenceUID": None}, "frame of reference of an image: differs from the source"),
        ("in space", {"FrameOfReferenceUID": "2.25.1010"}, "ReferencedFrameOfReferenceUID: differs from the source"),
        *((kind, {"SOPInstanceUID": "2.25.5"}, "refers to an image that is none of its source") for kind in KINDS),
    ],
)
def test_another_frame_of_reference_or_image_is_refused(
    made: dict[str, bytes], kind: str, source: dict[str, str], problem: str
) -> None:
    other = classic(**FULL, **source)
    found = check_with_source(pydicom.dcmread(BytesIO(made[kind])), Source(other, [other]))
    assert problem in found


def test_a_frame_of_reference_that_was_added_is_refused(made: dict[str, bytes]) -> None:
    found = problems("overlay", made, lambda dataset: setattr(dataset, "FrameOfReferenceUID", "2.25.1010"))
    assert found == ["FrameOfReferenceUID: differs from the source"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("header", [{"PatientSex": "W"}, {"StudyDescription": "x" * 80}, {"PatientAge": None}])
def test_what_the_writing_rule_does_not_repeat_is_no_difference(header: dict[str, str]) -> None:
    source = classic(**header)
    assert check_with_source(report(source), Source(source, [source])) == []


def test_every_attribute_that_the_writing_rule_copies_is_compared() -> None:
    written = Dataset()
    copy_patient_and_study(full(), written)
    assert {element.keyword for element in written} == set(PATIENT_AND_STUDY)
    assert set(OTHER) == set(PATIENT_AND_STUDY)
    assert all(dictionary_VR(keyword) for keyword in PATIENT_AND_STUDY)


def test_an_object_that_cannot_be_compared_is_refused() -> None:
    assert "source: cannot be compared (AttributeError)" in check_with_source(report(full()), Source(Dataset()))
