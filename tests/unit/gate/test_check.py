"""Every broken object is caught, every good one passes, and nothing an object contains ends the check."""

from __future__ import annotations

import copy
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.gate.check import check
from dicom_node.results import kinds
from dicom_node.results.envelope import to_bytes
from dicom_node.results.overlay import build_overlay
from dicom_node.results.report import build_report
from dicom_node.results.sr_document import Predecessor
from spineone_core.findings import Detection, Reason
from tests.unit.synthetic import CREATED, KEY, NAMES, analysed, classic, enhanced, named, poor, refused, volume

GOOD = {
    "classic": (analysed(), classic()),
    "enhanced": (analysed(frame_number=5), enhanced()),
    "poor": (analysed(), poor()),
    "refused": (refused(), classic()),
    "refused poor": (refused(Reason.LEVELS_IMPLAUSIBLE, chosen=True), poor()),
    **{kind: (analysed(), named(kind)) for kind in NAMES},
}


def _report(detection: Detection, header: Dataset, **options: bool) -> Dataset:
    chosen = header if detection.sop_instance_uid else None
    return build_report(detection=detection, header=header, slice_header=chosen, key=KEY, created=CREATED, **options)


def _overlay(detection: Detection, header: Dataset) -> Dataset:
    pictured = volume(rows=40, columns=32, spacing=(6.0, 6.0), frames=detection.frame_number)
    return build_overlay(detection=detection, volume=pictured, header=header, key=KEY, created=CREATED)


@pytest.mark.parametrize("name", GOOD)
def test_good_results_pass(name: str) -> None:
    assert check(_report(*GOOD[name])) == []
    assert check(_overlay(*GOOD[name])) == []


def _find(dataset: Dataset, code: str, index: int = 0) -> Dataset:
    found = []

    def visit(item: Dataset) -> None:
        for child in item.get("ContentSequence") or []:
            if child.ConceptNameCodeSequence[0].CodeValue == code:
                found.append(child)
            visit(child)

    visit(dataset)
    return found[index]


def _groups(report: Dataset) -> Sequence:
    return _find(report, "126010").ContentSequence


def _set(**values: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def _unchecked(keyword: str, value: str) -> Callable[[Dataset], None]:
    """Set a value that pydicom itself would refuse."""

    def change(dataset: Dataset) -> None:
        vr = pydicom.datadict.dictionary_VR(keyword)
        dataset[keyword] = pydicom.DataElement(keyword, vr, value, validation_mode=pydicom.config.IGNORE)

    return change


def _drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def _in_item(code: str, change: Callable[[Dataset], None], index: int = 0) -> Callable[[Dataset], None]:
    return lambda dataset: change(_find(dataset, code, index))


def _remove_item(parent: str, code: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        items = (_find(dataset, parent) if parent else dataset).ContentSequence
        items.remove(next(i for i in items if i.ConceptNameCodeSequence[0].CodeValue == code))

    return change


def _value(code: str) -> Callable[[Dataset], None]:
    def change(item: Dataset) -> None:
        item.ConceptCodeSequence[0].CodeValue = code

    return change


def _measured(value: str) -> Callable[[Dataset], None]:
    def change(item: Dataset) -> None:
        item.MeasuredValueSequence[0].NumericValue = value

    return change


def _referenced(uid: str) -> Callable[[Dataset], None]:
    def change(item: Dataset) -> None:
        item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = uid

    return change


def _replacing(**changes: str) -> Callable[[Dataset], None]:
    """Give the report a predecessor with something wrong."""

    def change(dataset: Dataset) -> None:
        other = build_report(
            detection=analysed(),
            header=classic(),
            slice_header=classic(),
            key=KEY,
            created=CREATED,
            predecessor=Predecessor(kinds.REPORT.sop_class, "2.25.77", "2.25.78"),
        )
        (study,) = dataset.PredecessorDocumentsSequence = other.PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        for keyword, value in changes.items():
            place = next(item for item in (study, series, series.ReferencedSOPSequence[0]) if keyword in item)
            setattr(place, keyword, value)

    return change


COMMON: list[tuple[Callable[[Dataset], None], str]] = [
    (_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), "SOPClassUID: not a class"),
    (_drop("SOPInstanceUID"), "SOPInstanceUID: missing"),
    (_drop("StudyInstanceUID"), "StudyInstanceUID: missing"),
    (_unchecked("SeriesInstanceUID", ""), "SeriesInstanceUID: missing or empty"),
    (_unchecked("StudyInstanceUID", "1.2.abc"), "StudyInstanceUID: not a valid UID"),
    (_unchecked("StudyInstanceUID", "1." + "2" * 63), "StudyInstanceUID: not a valid UID"),
    (_set(SOPInstanceUID="1.2.826.0.1.3680043.8.498.1"), "SOPInstanceUID: not derived by this node"),
    (_unchecked("SeriesInstanceUID", "2.25.007"), "SeriesInstanceUID: not derived by this node"),
    (_drop("PatientID"), "PatientID: missing (type 2)"),
    (_drop("PatientName"), "PatientName: missing (type 2)"),
    (_drop("AccessionNumber"), "AccessionNumber: missing (type 2)"),
    (_unchecked("PatientID", "P" * 65), "PatientID: value does not conform"),
    (_unchecked("PatientID", "P\n1"), "PatientID: value does not conform"),
    (_unchecked("StudyDate", "20261301"), "StudyDate: "),
    (_unchecked("ContentDate", "20260230"), "ContentDate: not a date"),
    (_unchecked("ContentTime", "late"), "ContentTime: value does not conform"),
    (_drop("SoftwareVersions"), "SoftwareVersions: missing"),
    (_drop("ContributingEquipmentSequence"), "not exactly one processing equipment"),
    (lambda d: delattr(d.ContributingEquipmentSequence[0], "DeviceUID"), "DeviceUID missing"),
    (lambda d: setattr(d.file_meta, "ImplementationClassUID", "1.2.826.0.1.3680043.9.7433.1.1"), "is not ours"),
]

REPORT: list[tuple[Callable[[Dataset], None], str]] = [
    (_drop("CompletionFlag"), "CompletionFlag: missing"),
    (_set(VerificationFlag="VERIFIED"), "VerificationFlag: must be UNVERIFIED"),
    (_set(PreliminaryFlag="FINAL"), "PreliminaryFlag: must be PRELIMINARY"),
    (_set(Modality="MR"), "Modality: must be SR"),
    (_drop("CurrentRequestedProcedureEvidenceSequence"), "CurrentRequestedProcedureEvidenceSequence: missing"),
    (_drop("ReferencedPerformedProcedureStepSequence"), "missing (type 2)"),
    (
        lambda d: setattr(d.CurrentRequestedProcedureEvidenceSequence[0], "StudyInstanceUID", "2.25.5"),
        "names another study",
    ),
    (
        lambda d: setattr(
            d.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0], "SeriesInstanceUID", ""
        ),
        "a series has no UID",
    ),
    (_drop("ContentSequence"), "ContentSequence: missing"),
    (lambda d: setattr(d.ContentTemplateSequence[0], "TemplateIdentifier", "2000"), "TID 1500"),
    (lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeValue", "126001"), "TID 1500"),
    (_remove_item("", "121058"), "not exactly one procedure reported"),
    (_remove_item("", "121049"), "not exactly one language"),
    (_remove_item("", "121012"), "not exactly one device observer"),
    (_remove_item("", "126010"), "not exactly one imaging measurements"),
    (_remove_item("", "111028"), "not in the image library"),
    (_remove_item("", "C0034375"), "research use only"),
    (lambda d: _groups(d).pop(), "9 groups are neither the ten levels"),
    (lambda d: _groups(d).append(copy.deepcopy(_groups(d)[0])), "tracking UIDs are not unique"),
    (lambda d: _groups(d).insert(0, _groups(d).pop()), "reading order"),
    (_in_item("363698007", _value("75782005"), 9), "neither the ten levels"),
    (_remove_item("125007", "112040"), "not exactly one tracking UID"),
    (_remove_item("125007", "112039"), "not exactly one tracking identifier"),
    (_remove_item("125007", "121071"), "not exactly one finding"),
    (_remove_item("125007", "111001"), "not exactly one algorithm name"),
    (_remove_item("125007", "121402"), "not exactly one normality"),
    (_remove_item("125007", "111030"), "not exactly one point"),
    (_remove_item("125007", "DEGENPROB"), "no probability"),
    (_in_item("111001", _set(TextValue="other")), "algorithm differs"),
    (_in_item("DEGENPROB", _measured("101")), "outside 0 to 100"),
    (_in_item("DEGENPROB", _measured("-1")), "outside 0 to 100"),
    (_in_item("DEGENPROB", _measured("99")), "contradict each other"),
    (_in_item("121402", _value("263654008")), "contradict each other"),
    (_in_item("121071", _value("263654008")), "contradict each other"),
    (_in_item("111030", _set(GraphicData=[256.5, 10.0])), "outside its image"),
    (_in_item("111030", _set(GraphicData=[-0.5, 10.0])), "outside its image"),
    (_in_item("111030", _set(GraphicData=[float("nan"), 10.0])), "outside its image"),
    (_in_item("111030", _set(GraphicData=[1.0, 2.0, 3.0, 4.0])), "has not two coordinates"),
    (_in_item("111030", _set(GraphicType="CIRCLE")), "not exactly one point"),
    (_in_item("111030", lambda i: i.ContentSequence.append(copy.deepcopy(i.ContentSequence[0]))), "exactly one image"),
    (_in_item("111030", _referenced("2.25.99")), "not listed as evidence"),
    (_in_item("111030", _referenced("2.25.99")), "different images"),
    (_in_item("111030", _drop("ContentSequence")), "structure is broken"),
    (_replacing(StudyInstanceUID="2.25.5"), "PredecessorDocumentsSequence: names another study"),
    (_replacing(SeriesInstanceUID=""), "PredecessorDocumentsSequence: a series has no UID"),
    (_replacing(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4"), "not a report of this node"),
    (_replacing(ReferencedSOPInstanceUID=KEY.uid("sr")), "names the report itself"),
]

IN_SPACE: list[tuple[Callable[[Dataset], None], str]] = [
    (_in_item("111030", _set(GraphicData=[1.0, 2.0])), "has not three coordinates"),
    (_in_item("111030", _set(GraphicData=[1.0, 2.0, float("nan")])), "has not three coordinates"),
    (_in_item("111030", _set(ReferencedFrameOfReferenceUID="2.25.99")), "frame of reference of no image"),
    (_in_item("111030", _set(ReferencedFrameOfReferenceUID="2.25.99")), "different images"),
    (_set(SOPClassUID=kinds.REPORT_2D.sop_class), "holds no point in space"),
]

OVERLAY: list[tuple[Callable[[Dataset], None], str]] = [
    (_set(PixelData=b"\0\0"), "PixelData: length"),
    (_drop("PixelData"), "PixelData: missing"),
    (_set(Rows=7), "PixelData: length"),
    (_set(PlanarConfiguration=1), "PlanarConfiguration: must be 0"),
    (_set(PhotometricInterpretation="MONOCHROME2"), "PhotometricInterpretation: must be RGB"),
    (_set(BurnedInAnnotation="NO"), "BurnedInAnnotation: must be YES"),
    (_set(PixelSpacing=[0, 1]), "PixelSpacing: not two positive"),
    (_drop("PixelSpacing"), "PixelSpacing: not two positive"),
    (_set(ImageType=["ORIGINAL", "PRIMARY"]), "ImageType"),
    (_drop("SourceImageSequence"), "SourceImageSequence: missing"),
    (lambda d: delattr(d.SourceImageSequence[0], "ReferencedSOPInstanceUID"), "reference is incomplete"),
    (_set(DerivationDescription="a picture"), "research use only"),
    (_drop("ConversionType"), "ConversionType: missing"),
]


def _caught(dataset: Dataset, breakage: Callable[[Dataset], None], message: str) -> None:
    breakage(dataset)
    problems = check(dataset)
    assert any(message in problem for problem in problems), problems


@pytest.fixture(scope="module")
def report() -> bytes:
    return to_bytes(_report(analysed(), classic()))


@pytest.fixture(scope="module")
def overlay() -> bytes:
    return to_bytes(_overlay(analysed(), classic()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("breakage", "message"), [*COMMON, *REPORT])
def test_broken_reports_are_caught(report: bytes, breakage: Callable[[Dataset], None], message: str) -> None:
    _caught(pydicom.dcmread(BytesIO(report)), breakage, message)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("breakage", "message"), IN_SPACE)
def test_broken_points_in_space_are_caught(breakage: Callable[[Dataset], None], message: str) -> None:
    report = _report(analysed(), classic(), in_space=True)
    assert check(report) == []
    _caught(report, breakage, message)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("breakage", "message"), [*COMMON, *OVERLAY])
def test_broken_overlays_are_caught(overlay: bytes, breakage: Callable[[Dataset], None], message: str) -> None:
    _caught(pydicom.dcmread(BytesIO(overlay)), breakage, message)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (_in_item("121071", _value("17621005")), "finding is not undetermined"),
        (_in_item("363698007", _value("84020006")), "neither the ten levels"),
        (
            lambda d: _groups(d)[0].ContentSequence.append(_find(_report(analysed(), classic()), "111030")),
            "carries points",
        ),
        (lambda d: _find(d, "C0034375").ContentSequence.pop(), "reason is not stated"),
    ],
)
def test_broken_refusals_are_caught(breakage: Callable[[Dataset], None], message: str) -> None:
    _caught(_report(refused(), classic()), breakage, message)


@pytest.mark.filterwarnings("ignore")
def test_messages_hold_no_patient_data() -> None:
    report = _report(analysed(), classic())
    for keyword, value in {"PatientID": "SECRET" * 20, "AccessionNumber": "SECRET" * 5}.items():
        _unchecked(keyword, value)(report)
    problems = check(report)
    assert len(problems) == 2
    assert not any("SECRET" in problem for problem in problems)


@pytest.mark.parametrize("dataset", [Dataset(), classic()])
def test_what_cannot_be_written_is_a_problem_not_a_crash(dataset: Dataset) -> None:
    if "file_meta" in dir(dataset):
        del dataset.file_meta
    assert check(dataset)


def test_any_single_missing_element_is_survived(report: bytes) -> None:
    """The check itself survives whatever is absent, at every depth."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = pydicom.dcmread(BytesIO(report))
        item = broken
        while item.get("ContentSequence") and rng.random() < 0.8:
            item = item.ContentSequence[int(rng.integers(len(item.ContentSequence)))]
        tags = list(item.keys())
        del item[tags[int(rng.integers(len(tags)))]]
        assert isinstance(check(broken), list)
