"""Programs that others wrote judge the results: dicom3tools, DCMTK, PixelMed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.gate.check import check
from dicom_node.results.envelope import to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.kinds import REPORT, REPORT_2D, ObjectKind
from dicom_node.results.overlay import build_overlay
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import build_report
from dicom_node.results.sr_document import Predecessor
from spineone_core.findings import RESEARCH_USE, Detection, Reason
from tests.fakes.datasets import with_meta
from tests.unit.synthetic import (
    CREATED,
    KEY,
    NAMES,
    STUDY,
    analysed,
    as_sent,
    classic,
    enhanced,
    named,
    poor,
    refused,
    volume,
)

# PixelMed's templates are larger than Java's limits on XPath. Its programs are short: the second compiler and the collector with
# threads of its own would take a third of the time for themselves.
JAVA = (
    "-Djdk.xml.xpathTotalOpLimit=0 -Djdk.xml.xpathExprOpLimit=0 -Djdk.xml.xpathExprGrpLimit=0"
    " -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
)


@dataclass(frozen=True)
class Case:
    detection: Detection
    header: Dataset


CASES = {
    "classic": Case(analysed(), classic()),
    "enhanced": Case(analysed(frame_number=5), enhanced()),
    "poor": Case(analysed(), poor()),
    "anonymised": Case(
        analysed(),
        classic(PatientName="", PatientBirthDate="", PatientIdentityRemoved="YES", DeidentificationMethod="node test"),
    ),
    "long accession": Case(analysed(), as_sent(AccessionNumber="HOSPITAL-2026-0000123")),
    "long name": Case(analysed(), as_sent(PatientName=f"{'Family-' * 8}Name^{'Given ' * 6}", StudyID="S" * 20)),
    "refused": Case(refused(), classic()),
    "refused after analysis": Case(refused(Reason.LEVELS_IMPLAUSIBLE, chosen=True), enhanced()),
    "refused poor": Case(refused(Reason.NO_IMAGES), poor()),
    **{kind: Case(analysed(), named(kind)) for kind in NAMES},
}


def program(name: str) -> str:
    """Debian's program: pynetdicom installs others of the same names in a virtual environment."""
    path = f"/usr/bin/{name}"
    if not Path(path).exists():
        pytest.skip(f"{path} is not installed")
    return path


def run(*command: str) -> str:
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": JAVA, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, timeout=240, check=False, env=environment)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def _report_file(name: str, folder: Path, kind: ObjectKind = REPORT) -> Path:
    case = CASES[name]
    report = build_report(
        detection=case.detection,
        header=case.header,
        slice_header=case.header if case.detection.sop_instance_uid else None,
        key=KEY,
        created=CREATED,
        kind=kind,
        # Every second case is of a study that was reported before.
        predecessor=Predecessor(kind.sop_class, "2.25.77", "2.25.78") if list(CASES).index(name) % 2 else None,
    )
    assert check(report) == []
    path = folder / f"report{kind.uid_name}.dcm"
    path.write_bytes(to_bytes(report))
    return path


def _overlay_file(name: str, folder: Path) -> Path:
    case = CASES[name]
    pictured = volume(rows=64, columns=50, spacing=(4.0, 4.0), frames=case.detection.frame_number)
    overlay = build_overlay(detection=case.detection, volume=pictured, header=case.header, key=KEY, created=CREATED)
    assert check(overlay) == []
    path = folder / "overlay.dcm"
    path.write_bytes(to_bytes(overlay))
    return path


def _presentation_file(name: str, folder: Path) -> Path:
    case = CASES[name]
    state = build_presentation(
        detection=case.detection,
        volume=volume(frames=case.detection.frame_number),
        header=case.header,
        slice_header=case.header,
        key=KEY,
        created=CREATED,
    )
    assert check(state) == []
    path = folder / "gsps.dcm"
    path.write_bytes(to_bytes(state))
    return path


def _key_object_file(name: str, folder: Path) -> Path:
    case = CASES[name]
    note = build_key_object(
        detection=case.detection, header=case.header, slice_header=case.header, key=KEY, created=CREATED
    )
    assert check(note) == []
    path = folder / "ko.dcm"
    path.write_bytes(to_bytes(note))
    return path


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("Error") or "Error -" in line]


@pytest.mark.dciodvfy
@pytest.mark.parametrize("name", CASES)
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    tool = program("dciodvfy")
    files = [
        (_report_file(name, tmp_path), "Comprehensive3DSR"),
        (_report_file(name, tmp_path, REPORT_2D), "ComprehensiveSR"),
        (_overlay_file(name, tmp_path), "SCImage"),
    ]
    if CASES[name].detection.analysed:
        files.append((_presentation_file(name, tmp_path), "GrayscaleSoftcopyPresentationState"))
        files.append((_key_object_file(name, tmp_path), "KeyObjectSelectionDocument"))
    for path, kind in files:
        text = run(tool, str(path))
        assert kind in text
        assert errors(text) == []


@pytest.mark.dciodvfy
def test_dciodvfy_does_find_errors(tmp_path: Path) -> None:
    """The check above is more than a formality."""
    tool = program("dciodvfy")
    path = _report_file("classic", tmp_path)
    path.write_bytes(path.read_bytes().replace(b"UNVERIFIED", b"UNCERTAIN "))
    assert errors(run(tool, str(path)))


@pytest.mark.dcmtk
@pytest.mark.parametrize(("name", "form"), [*((name, REPORT) for name in CASES), ("enhanced", REPORT_2D)])
def test_dcmtk_renders_the_report(name: str, form: ObjectKind, tmp_path: Path) -> None:
    dump, html = program("dsrdump"), program("dsr2html")
    path = str(_report_file(name, tmp_path, form))
    printed = run(dump, "+Pl", "+Pc", path)
    # dsr2html itself knows no code extensions and would refuse the page for the patient's name alone.
    page = run(html, "+Ca", "latin-1", path)
    assert not any(line.startswith(("E:", "F:")) for line in (printed + page).splitlines())
    assert ("Comprehensive 3D SR Document" if form is REPORT else "Comprehensive SR Document") in printed
    assert "Preliminary Flag    : PRELIMINARY" in printed
    assert RESEARCH_USE in printed
    assert RESEARCH_USE in page
    assert printed.count("Image Region") == (10 if CASES[name].detection.analysed else 0)


@pytest.mark.dcmtk
@pytest.mark.parametrize("kind", NAMES)
def test_dcmtk_reads_the_name(kind: str, tmp_path: Path) -> None:
    """DCMTK decodes by its own tables (through iconv)."""
    tool = program("dcmdump")
    text = run(tool, "+U8", "+P", "PatientName", str(_report_file(kind, tmp_path)))
    if "not supported" in text or "cannot" in text.lower():
        pytest.skip("this DCMTK has no converter for the character set")
    assert NAMES[kind][1] in text


@pytest.mark.dcmtk
def test_dcmtk_shows_the_overlay(tmp_path: Path) -> None:
    tool = program("dcm2pnm")
    picture = tmp_path / "overlay.ppm"
    text = run(tool, "--write-raw-pnm", str(_overlay_file("classic", tmp_path)), str(picture))
    assert picture.exists(), text
    assert picture.read_bytes().startswith(b"P6")


@pytest.mark.dcmtk
def test_dcmtk_reads_the_key_object(tmp_path: Path) -> None:
    text = run(program("dsrdump"), "+Pl", str(_key_object_file("enhanced", tmp_path)))
    assert "Key Object Selection Document" in text
    assert not any(line.startswith(("E:", "F:")) for line in text.splitlines()), text


@pytest.mark.dcmtk
def test_dcmtk_shows_the_annotations(tmp_path: Path) -> None:
    """DCMTK's own reader of presentation states takes it and burns its annotations in."""
    tool = program("dcmp2pgm")
    image = classic_image(tmp_path)
    picture = tmp_path / "shown.pgm"
    text = run(tool, "--pstate", str(_presentation_file("classic", tmp_path)), str(image), str(picture))
    assert picture.exists(), text
    assert not any(line.startswith(("E:", "F:")) for line in text.splitlines()), text


def classic_image(folder: Path) -> Path:
    """The classic case's image with pixels."""
    image = classic()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = bytes(2 * image.Rows * image.Columns)
    image["PixelData"].VR = "OW"
    path = folder / "image.dcm"
    path.write_bytes(to_bytes(with_meta(image)))
    return path


def validated_by_pixelmed(path: Path) -> list[str]:
    """The errors that PixelMed's validator finds in a report; it takes about ten seconds."""
    validator = program("DicomSRValidator")
    if shutil.which("java") is None:
        pytest.skip("no Java")
    text = run(validator, str(path))
    for stage in ("Found Root Template TID_1500", "Root Template Validation Complete", "IOD validation complete"):
        assert stage in text
    return [line for line in text.splitlines() if "Error" in line or "illegal" in line.lower()]


@pytest.mark.pixelmed
@pytest.mark.parametrize("name", ["refused", "refused after analysis"])
def test_pixelmed_accepts_refusals(name: str, tmp_path: Path) -> None:
    assert validated_by_pixelmed(_report_file(name, tmp_path)) == []


@pytest.mark.pixelmed
def test_pixelmed_accepts_an_accession_number_in_the_content(tmp_path: Path) -> None:
    """In a refusal, since its template is checked in a third of the time."""
    header = CASES["long accession"].header
    report = build_report(detection=refused(), header=header, slice_header=None, key=KEY, created=CREATED)
    path = tmp_path / "report.dcm"
    path.write_bytes(to_bytes(report))
    assert b"HOSPITAL-2026-0000123" in path.read_bytes()
    assert validated_by_pixelmed(path) == []


def test_cases_are_of_one_study() -> None:
    assert {case.detection.study_uid for case in CASES.values()} == {STUDY}
