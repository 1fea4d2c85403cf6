"""The report says what the detection says, in a form that others read back."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime
from io import BytesIO

import pydicom
import pytest
from highdicom.sr import MeasurementReport, PlanarROIMeasurementsAndQualitativeEvaluations, srread
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from dicom_node.dicom.identifiers import MANUFACTURER, is_own_result, model_device_uid
from dicom_node.gate.check import check
from dicom_node.results import codes
from dicom_node.results import report as reports
from dicom_node.results.envelope import to_bytes
from dicom_node.results.kinds import REPORT, REPORT_2D
from dicom_node.results.report import build_report
from dicom_node.results.sr_document import Predecessor
from spineone_core.anatomy import Structure
from spineone_core.findings import RESEARCH_USE, Detection, Finding, ModelIdentity, PfirrmannGrade, Reason
from spineone_core.network.grading import DISC_SIGNS, VERTEBRA_SIGNS
from tests.unit.synthetic import CREATED, KEY, MODEL, SLICE, STUDY, analysed, classic, enhanced, named, poor, refused

Group = PlanarROIMeasurementsAndQualitativeEvaluations
LEVEL_OF = {site.value: level for level, site in codes.SITES.items()}


def _report(detection: Detection | None = None, header: Dataset | None = None, **changes: object) -> Dataset:
    detection = detection or analysed()
    header = header if header is not None else classic()
    arguments = {
        "detection": detection,
        "header": header,
        "slice_header": header if detection.sop_instance_uid else None,
        "key": KEY,
        "created": CREATED,
    }
    return build_report(**{**arguments, **changes})  # type: ignore[arg-type]


def _read(report: Dataset) -> MeasurementReport:
    """The report as highdicom reads it from a file that highdicom did not write."""
    return srread(BytesIO(to_bytes(report))).content


def _numbers(group: Group) -> dict[str, float]:
    return {m.name.value: m.value for m in group.get_measurements()}


def _read_finding(group: Group) -> tuple[str, float, float, float, str]:
    (x, y), *_ = group.roi.value if group.roi.value.ndim == 2 else [group.roi.value]
    (site,) = group.finding_sites
    (normality,) = group.get_qualitative_evaluations(name=codes.NORMALITY)
    return LEVEL_OF[site.value.value], x - 0.5, y - 0.5, _numbers(group)["DEGENPROB"] / 100, normality.value.value


def _expected(finding: Finding) -> tuple[str, object, object, object, str]:
    return (
        finding.level,
        pytest.approx(finding.x, abs=1e-4),
        pytest.approx(finding.y, abs=1e-4),
        pytest.approx(finding.probability, abs=1e-6),
        reports.normality(finding).value,
    )


@pytest.mark.parametrize(
    ("header", "frame"), [(classic(), None), (enhanced(), 5), (poor(), None)], ids=["classic", "enhanced", "poor"]
)
def test_ten_findings_are_read_back(header: Dataset, frame: int | None) -> None:
    detection = analysed(frame_number=frame)
    groups = _read(_report(detection, header)).get_planar_roi_measurement_groups()
    assert [_read_finding(g) for g in groups] == [_expected(f) for f in detection.findings]
    for group in groups:
        (image,) = group.roi.ContentSequence
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SLICE
        assert image.ReferencedSOPSequence[0].get("ReferencedFrameNumber") == frame


@pytest.mark.parametrize("header", [classic(), enhanced()], ids=["classic", "enhanced"])
def test_points_in_patient_coordinates_are_read_back(header: Dataset) -> None:
    detection = analysed()
    report = _report(detection, header, in_space=True)
    groups = _read(report).get_planar_roi_measurement_groups()
    for group, finding in zip(groups, detection.findings, strict=True):
        assert group.roi.graphic_type.value == "POINT"
        assert group.roi.frame_of_reference_uid == header.FrameOfReferenceUID
        assert list(group.roi.value.ravel()) == pytest.approx(finding.xyz_mm, abs=1e-3)
    assert _items(report, "111030")[0].ValueType == "SCOORD3D"


@pytest.mark.parametrize("uid", ["", "none", None])
def test_without_a_frame_of_reference_points_stay_on_the_image(uid: str | None) -> None:
    header = classic()
    if uid is None:
        del header.FrameOfReferenceUID
    else:
        header["FrameOfReferenceUID"] = pydicom.DataElement("FrameOfReferenceUID", "UI", uid, validation_mode=0)
    report = _report(header=header, in_space=True)
    assert check(report) == []
    assert {item.ValueType for item in _items(report, "111030")} == {"SCOORD"}
    assert _items(report, "112227") == []


def test_the_second_form_holds_no_points_in_space() -> None:
    report = _report(in_space=True, kind=REPORT_2D)
    assert {item.ValueType for item in _items(report, "111030")} == {"SCOORD"}


def _graded() -> Detection:
    said = PfirrmannGrade(grade=4, probabilities=(0.0, 0.1, 0.2, 0.6, 0.1))
    disc = {"pfirrmann": said, "signs": (("narrowing", 0.75), ("modic", 0.125))}
    findings = [replace(f, **disc if f.structure is Structure.DISC else {}) for f in analysed().findings]  # type: ignore[arg-type]
    return replace(analysed(), findings=tuple(findings))


def test_grades_and_signs_are_read_back_where_the_site_wants_them() -> None:
    report = _report(_graded(), grades=True)
    assert check(report) == []
    groups = _read(report).get_planar_roi_measurement_groups()
    for group, finding in zip(groups, _graded().findings, strict=True):
        said = [e.value.value for e in group.get_qualitative_evaluations(name=codes.PFIRRMANN)]
        signs = {name: value for name, value in _numbers(group).items() if name in ("NARROWPROB", "MODICPROB")}
        if finding.structure is Structure.DISC:
            assert said == ["PFIRRMANN4"]
            assert signs == {"NARROWPROB": 75.0, "MODICPROB": 12.5}
        else:
            assert (said, signs) == ([], {})


def test_without_the_setting_grades_change_nothing() -> None:
    assert to_bytes(_report(_graded())) == to_bytes(_report())
    assert to_bytes(_report(grades=True)) == to_bytes(_report())


def test_the_definition_of_degenerative_stands_in_the_report() -> None:
    meaning = (("disc", "Pfirrmann grade 4 or more"), ("vertebra", "a Modic change beside the vertebra"))
    comments = [item.TextValue for item in _items(_report(replace(analysed(), definitions=meaning)), "121106")]
    assert "A disc counts as degenerative at: Pfirrmann grade 4 or more" in comments
    assert "A vertebra counts as degenerative at: a Modic change beside the vertebra" in comments
    assert not [text for text in (i.TextValue for i in _items(_report(), "121106")) if "counts as degenerative" in text]


def test_every_sign_has_a_code() -> None:
    assert set(codes.SIGNS) == {*DISC_SIGNS, *VERTEBRA_SIGNS}
    assert len({code.value for code in codes.SIGNS.values()}) == len(codes.SIGNS)


def test_the_gate_refuses_a_grade_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codes.PFIRRMANN_GRADES, 4, codes.coded("PFIRRMANN9", codes.CODING_SCHEME, "Pfirrmann grade 9"))
    problems = check(_report(_graded(), grades=True))
    assert [p for p in problems if "the Pfirrmann grade is none of 1 to 5" in p]


def test_class_and_certainty() -> None:
    groups = _read(_report()).get_planar_roi_measurement_groups()
    for group, finding in zip(groups, analysed().findings, strict=True):
        certainty = _numbers(group).get(codes.CERTAINTY.value)
        assert group.finding_type == reports.normality(finding)
        if finding.decided:
            assert certainty == pytest.approx(100 * max(finding.probability, 1 - finding.probability))
        else:
            assert certainty is None
            assert group.finding_type == codes.UNDETERMINED


def test_algorithm_equals_contributing_equipment_and_observer() -> None:
    report = _report()
    (equipment,) = report.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert equipment.Manufacturer == MANUFACTURER
    assert equipment.DeviceUID == model_device_uid(MODEL.digest)
    for item in _items(report, "111001"):
        assert item.TextValue == equipment.ManufacturerModelName == MODEL.name
    for item in _items(report, "111003"):
        assert item.TextValue == equipment.SoftwareVersions == MODEL.version
    (observer,) = _items(report, "121012")
    assert equipment.DeviceUID == observer.UID


def _items(dataset: Dataset, code: str) -> list[Dataset]:
    found = []
    for item in dataset.get("ContentSequence") or []:
        if item.ConceptNameCodeSequence[0].CodeValue == code:
            found.append(item)
        found += _items(item, code)
    return found


def _texts(report: Dataset) -> list[str]:
    return [item.TextValue for item in _items(report, codes.COMMENT.value)]


def test_words_say_it_all() -> None:
    texts = _texts(_report())
    assert RESEARCH_USE in texts[0]
    assert "not a diagnosis" in texts[0]
    assert all(part in texts[1] for part in (MODEL.name, MODEL.version, MODEL.digest))
    assert "L5-S1 disc: degenerative, probability of degeneration 97 %" in texts
    assert "L2-L3 disc: undecided, probability of degeneration 55 %" in texts
    assert texts[-1] == "Warning: slices are missing or unevenly spaced"


def test_document_is_preliminary_and_unverified() -> None:
    report = _report()
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert report.SeriesDescription == REPORT.series.description
    assert report.Manufacturer == MANUFACTURER
    assert report.ManufacturerModelName
    assert report.SoftwareVersions
    assert is_own_result(report)
    assert "PixelData" not in report
    assert report.ContentDate == "20260304"


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("header", [classic(), poor()], ids=["classic", "poor"])
def test_refusal_is_a_report_without_points(reason: Reason, header: Dataset) -> None:
    report = _report(refused(reason), header)
    content = _read(report)
    assert content.get_planar_roi_measurement_groups() == []
    (group,) = content.get_image_measurement_groups()
    assert group.finding_type == codes.UNDETERMINED
    assert [site.value for site in group.finding_sites] == [codes.LUMBAR_SPINE]
    assert any(f"[{reason.value}]: {reason.text}" in text for text in _texts(report))
    assert RESEARCH_USE in _texts(report)[0]


def test_reason_is_not_said_twice() -> None:
    reason = Reason.TOO_FEW_SLICES
    detection = replace(refused(reason), reason_detail=reason.text)
    assert sum(text.count(reason.text) for text in _texts(_report(detection))) == 1


def test_refusal_tells_not_attempted_from_failed() -> None:
    (before,) = _items(_report(refused(Reason.NO_SAGITTAL_T2)), codes.SUMMARY_OF_ANALYSES.value)
    (after,) = _items(_report(refused(Reason.LEVELS_IMPLAUSIBLE, chosen=True)), codes.SUMMARY_OF_ANALYSES.value)
    assert before.ConceptCodeSequence[0].CodeMeaning == "Not Attempted"
    assert after.ConceptCodeSequence[0].CodeMeaning == "Failed"


def test_a_study_without_any_image_has_a_report_too() -> None:
    header = classic(Rows=None, Columns=None, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    report = _report(refused(Reason.NO_IMAGES), header)
    assert _items(report, "111028") == []
    assert any("no_images" in text for text in _texts(report))


def test_images_of_the_series_are_library_and_evidence() -> None:
    images = [classic(SOPInstanceUID=f"2.25.30{i}") for i in range(4)]
    report = _report(images=images)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    uids = [reference.ReferencedSOPInstanceUID for reference in series.ReferencedSOPSequence]
    assert uids == [*(i.SOPInstanceUID for i in images), SLICE]
    (library,) = _items(report, "111028")
    assert len(library.ContentSequence[0].ContentSequence) == 5


def test_equal_arguments_give_equal_bytes() -> None:
    first = to_bytes(_report(header=named("japanese")))
    header = copy.deepcopy(named("japanese"))
    assert str(header.PatientName)
    assert to_bytes(_report(header=header)) == first
    assert to_bytes(pydicom.dcmread(BytesIO(first))) == first


def test_the_second_form_says_the_same_under_its_own_uids() -> None:
    first, second = _report(), _report(kind=REPORT_2D)
    assert second.SOPClassUID == second.file_meta.MediaStorageSOPClassUID == REPORT_2D.sop_class
    assert second.SOPInstanceUID == KEY.uid("sr-2d")
    differing = {e.keyword for e in first if e != second[e.tag]}
    assert differing == {"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"}


def test_a_predecessor_is_part_of_what_names_the_report() -> None:
    earlier = Predecessor(REPORT.sop_class, "2.25.77", "2.25.78")
    report = _report(predecessor=earlier)
    assert check(report) == []
    assert report.SOPInstanceUID != KEY.uid("sr")
    assert report.SOPInstanceUID != _report(predecessor=replace(earlier, sop_instance_uid="2.25.79")).SOPInstanceUID
    assert any("Replaces an earlier report" in text for text in _texts(report))


def test_degenerative_findings_may_have_codes_of_the_site() -> None:
    code = codes.coded("77547008", "SCT", "Degeneration of intervertebral disc")
    report = _report(degenerative={Structure.DISC: code})
    assert check(report) == []
    for group, finding in zip(_read(report).get_planar_roi_measurement_groups(), analysed().findings, strict=True):
        own = finding.structure is Structure.DISC and reports.normality(finding) == codes.ABNORMAL
        assert group.finding_type == (code if own else reports.normality(finding))
        assert [e.value for e in group.get_qualitative_evaluations()] == [reports.normality(finding)]


def test_only_dates_depend_on_the_time() -> None:
    one, other = _report(), _report(created=datetime(2027, 1, 2, 3, 4, 5))  # noqa: DTZ001
    changed = {element.keyword for element in one if element != other[element.tag]}
    dates = {"InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime"}
    assert changed == dates | {"ContributingEquipmentSequence"}


def test_other_inputs_give_other_uids_but_the_same_tracking() -> None:
    one, other = _report(), _report(key=replace(KEY, inputs=((SLICE, "cd" * 32),)))
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    tracking = [[item.UID for item in _items(report, "112040")] for report in (one, other)]
    assert tracking[0] == tracking[1]
    assert len(set(tracking[0])) == 10


def test_no_library_leaves_its_mark() -> None:
    data = to_bytes(_report())
    for mark in (b"1.2.826.0.1.3680043", b"highdicom", b"pydicom", b"PYDICOM", b"ISO_IR 100"):
        assert mark not in data


def test_long_and_foreign_model_names_still_fit() -> None:
    model = ModelIdentity(name="Бета\\" * 40, version="v" * 100, digest=MODEL.digest)
    (equipment,) = _report(replace(analysed(), model=model)).ContributingEquipmentSequence
    assert len(equipment.ManufacturerModelName) == len(equipment.SoftwareVersions) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": classic(StudyInstanceUID="2.25.9")}, "another study"),
        ({"slice_header": None}, "needs the header of its slice"),
        ({"slice_header": classic(SOPInstanceUID="2.25.9")}, "not that of the slice"),
        ({"slice_header": classic(StudyInstanceUID="2.25.9")}, "another study"),
    ],
)
def test_headers_of_something_else_are_refused(changes: dict[str, Dataset], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _report(**changes)


def test_missing_class_is_taken_for_mr() -> None:
    header = poor()
    del header.SOPClassUID
    (study,) = _report(header=header).CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == STUDY
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPClassUID == MRImageStorage
