"""Every kind of study: what validators, an archive and other libraries say about every object that the node makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from dicom_node.analysis.offline import find_studies, process_study
from dicom_node.results.envelope import to_bytes
from dicom_node.settings.reading import default_settings
from spineone_core.findings import RESEARCH_USE, Reason
from spineone_core.phantom.dicom import WrittenExam, write_exam
from tests.integration.test_validators import errors, program, run, validated_by_pixelmed
from tests.peers import ORTHANC, Orthanc, need, running_orthanc
from tests.variety import VARIETY, Case, TruthReader, Variant, case_of, make_case, set_value

REPORTS = ("report", "report_2d", "report_3d")
ROLES = {*REPORTS, "overlay", "table", "sheet", "presentation", "key_object"}


@pytest.fixture(scope="module", params=VARIETY)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp(request.param), VARIETY[request.param])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc") / "pacs") as peer:
        yield peer


def source(case: Case) -> Dataset:
    return pydicom.dcmread(case.files[0], stop_before_pixels=True)


# ---------------------------------------------------------------- libraries


def test_pydicom_reads_every_object_back_as_it_was(case: Case) -> None:
    assert set(case.results) == ROLES
    for path in case.results.values():
        dataset = pydicom.dcmread(path)
        assert to_bytes(dataset) == path.read_bytes()
        assert dataset.StudyInstanceUID == case.exam.study_uid
        for keyword in ("PatientName", "PatientID", "StudyDescription", "ReferringPhysicianName"):
            assert (dataset.get(keyword) or "") == (source(case).get(keyword) or ""), keyword


@pytest.mark.parametrize("role", REPORTS)
def test_highdicom_reads_ten_points_on_the_slice(case: Case, role: str) -> None:
    groups = hd.sr.srread(case.results[role]).content.get_planar_roi_measurement_groups()
    # A study without a frame of reference has no points in space.
    in_space = role == "report_3d" and "FrameOfReferenceUID" in source(case)
    for group, finding in zip(groups, case.detection.findings, strict=True):
        assert finding.level in group.tracking_identifier
        point = np.ravel(group.roi.value)
        if in_space:
            assert point == pytest.approx(finding.xyz_mm, abs=1e-3)
            continue
        assert point - 0.5 == pytest.approx([finding.x, finding.y], abs=1e-3)
        reference = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == case.detection.sop_instance_uid
        assert reference.get("ReferencedFrameNumber") == case.detection.frame_number


# ---------------------------------------------------------------- validators


@pytest.mark.dciodvfy
def test_dciodvfy_finds_no_error(case: Case) -> None:
    dciodvfy = program("dciodvfy")
    for role, path in case.results.items():
        assert errors(run(dciodvfy, str(path))) == [], role


@pytest.mark.dcmtk
@pytest.mark.parametrize("role", REPORTS)
def test_dcmtk_renders_the_report(case: Case, role: str) -> None:
    dump, html = program("dsrdump"), program("dsr2html")
    path = str(case.results[role])
    # dsr2html itself knows no code extensions and would refuse the page for the patient's name alone.
    printed, page = run(dump, "+Pl", "+Pc", path), run(html, "+Ca", "latin-1", path)
    assert not any(line.startswith(("E:", "F:")) for line in (printed + page).splitlines())
    assert printed.count("Image Region") == 10
    assert RESEARCH_USE in page


@pytest.mark.pixelmed
def test_pixelmed_finds_no_error(case: Case) -> None:
    assert validated_by_pixelmed(case.results["report"]) == []


@pytest.mark.pixelmed
@pytest.mark.parametrize("role", REPORTS)
def test_pixelmed_finds_no_error_in_any_form(role: str, tmp_path: Path) -> None:
    case = make_case(tmp_path, Variant(1, {"slices": 1, "enhanced": True}))
    assert validated_by_pixelmed(case.results[role]) == []


# ---------------------------------------------------------------- archive


@pytest.mark.orthanc
@need(ORTHANC)
def test_orthanc_returns_every_object_bit_by_bit(case: Case, orthanc: Orthanc) -> None:
    """Over HTTP the file itself; over DICOM the archive writes a file meta of its own around the same data set."""
    for role, path in case.results.items():
        data = path.read_bytes()
        identifier = _store_by_http(orthanc, data)
        assert orthanc.file_of(identifier) == data, role
        orthanc.delete(f"/instances/{identifier}")
        _store_by_dicom(orthanc, pydicom.dcmread(path))
        assert _data_set(orthanc.file_of(identifier)) == _data_set(data), role
        orthanc.delete(f"/instances/{identifier}")


def _store_by_http(orthanc: Orthanc, data: bytes) -> str:
    answer = orthanc.get("/instances", data)
    return str(answer["ID"])


def _store_by_dicom(orthanc: Orthanc, dataset: Dataset) -> None:
    ae = AE()
    ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", orthanc.port, ae_title=orthanc.ae_title)
    assert association.is_established
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()


def _data_set(file: bytes) -> bytes:
    """What follows the file meta information, whose length its first element states (PS3.10 7.1)."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


# ---------------------------------------------------------------- bad input

# Values, and the attribute for which the result is refused; None where it is made all the same.
BAD_INPUT: dict[str, tuple[dict[str, object], str | None]] = {
    "no SliceThickness": ({"SliceThickness": None}, None),
    "no FrameOfReferenceUID": ({"FrameOfReferenceUID": None}, None),
    "malformed FrameOfReferenceUID": ({"FrameOfReferenceUID": "none given"}, None),
    "no PatientBirthDate": ({"PatientBirthDate": None}, None),
    "no StudyID": ({"StudyID": None}, None),
    "over-long StudyID": ({"StudyID": "S" * 40}, None),
    "over-long StudyDescription": ({"StudyDescription": "MR lumbar spine " * 20}, None),
    "over-long AccessionNumber": ({"AccessionNumber": "A" * 40}, None),
    "over-long PatientName": ({"PatientName": "N" * 80}, None),
    "over-long PatientID": ({"PatientID": "P" * 80}, "PatientID"),
    "forbidden characters in StudyDescription": ({"StudyDescription": "MR\x07 spine\nlumbar"}, None),
    "forbidden characters in PatientID": ({"PatientID": "P\x07\n1"}, "PatientID"),
    "future StudyDate": ({"StudyDate": "29991231"}, None),
    "future PatientBirthDate": ({"PatientBirthDate": "29991231"}, None),
    "no date": ({"StudyDate": "20261301", "PatientBirthDate": "unknown", "StudyTime": "noon"}, None),
    "unknown PatientSex": ({"PatientSex": "female"}, None),
    "unknown character set": ({"SpecificCharacterSet": "LATIN-77"}, None),
}


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> WrittenExam:
    return write_exam(tmp_path_factory.mktemp("exam"), 1, slices=1, companions=False)


@pytest.mark.dciodvfy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input__gives_valid_results_or_is_refused_with_the_reason(
    name: str, exam: WrittenExam, tmp_path: Path
) -> None:
    dciodvfy = program("dciodvfy")
    values, refused_for = BAD_INPUT[name]
    image = pydicom.dcmread(exam.files["t2"][0])
    for keyword, value in values.items():
        set_value(image, keyword, value)
    image.save_as(tmp_path / "image.dcm")
    if refused_for is not None:
        found = process_study(
            TruthReader(exam), exam.study_uid, find_studies([tmp_path / "image.dcm"]).studies[exam.study_uid],
            default_settings(), tmp_path / "out", datetime.now(UTC),
        )  # fmt: skip
        assert [product.role for product in found.products] == ["findings"]
        assert found.detection.reason is Reason.UNWRITABLE
        assert str(values[refused_for]) not in found.detection.dumps()
        return
    for role, path in case_of(exam, (tmp_path / "image.dcm",), tmp_path / "results").results.items():
        assert errors(run(dciodvfy, str(path))) == [], role
