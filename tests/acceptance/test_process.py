"""`dicom-node process` over exams of which one is spoilt: each ends in a result or a coded refusal, and the next goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis import offline
from dicom_node.analysis.analyse import Analysis
from dicom_node.analysis.detector import StudyReader
from dicom_node.analysis.products import RefusedByGateError
from dicom_node.cli import offline as command
from dicom_node.cli.app import main
from tests.fakes.datasets import mr_image, save
from tests.fakes.detector import FakeDetector

FIRST, SECOND = "1.2.3", "1.2.4"


@pytest.fixture(autouse=True)
def fake_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_detector", lambda settings: FakeDetector())


def process(folder: Path, change: Callable[[Dataset], None] = lambda image: None) -> tuple[int, dict[str, Any]]:
    """Exit status and findings by study of two exams, of which the first was changed."""
    for study in (FIRST, SECOND):
        for number in range(1, 6):
            image = mr_image(number, study=study)
            if study == FIRST:
                change(image)
            save(image, folder / "exam" / study / f"{number}.dcm")
    with pytest.raises(SystemExit) as ended:
        main(["process", str(folder / "exam"), "--out", str(folder / "out")])
    found = {path.parent.name: json.loads(path.read_text()) for path in (folder / "out").rglob("findings.json")}
    return int(ended.value.code or 0), found


def setting(keyword: str, value: Any) -> Callable[[Dataset], None]:
    def change(image: Dataset) -> None:
        vr = pydicom.datadict.dictionary_VR(keyword)
        image[keyword] = pydicom.DataElement(keyword, vr, value, validation_mode=pydicom.config.IGNORE)

    return change


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientName", f"{'Long-' * 14}Name^Ann"), ("PatientName", "DOE^JOHN^^^^^"), ("AccessionNumber", "A" * 30)],
)
def test_a_value_that_does_not_fit_costs_no_result(tmp_path: Path, keyword: str, value: str) -> None:
    status, found = process(tmp_path, setting(keyword, value))
    assert status == 0
    assert {study: findings["status"] for study, findings in found.items()} == {FIRST: "analysed", SECOND: "analysed"}
    assert len(found[FIRST]["warnings"]) == (0 if value.startswith("DOE") else 1)
    assert found[SECOND]["warnings"] == []
    assert (tmp_path / "out" / FIRST / "sr.dcm").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_patient_id_with_two_values_is_refused_with_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = process(tmp_path, setting("PatientID", ["DOM", "4711"]))
    assert status == 0
    assert (found[FIRST]["reason"], found[SECOND]["status"]) == ("unwritable", "analysed")
    assert [path.name for path in (tmp_path / "out" / FIRST).iterdir()] == ["findings.json"]
    assert f"{FIRST}: not analysable: unwritable: PatientID has a backslash" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RefusedByGateError("report: a rule"), 0, "unwritable"),
        (RuntimeError("SECRET"), 1, "analysis_failed"),
        (OSError(5, "SECRET"), 1, "analysis_failed"),
    ],
)
def test_an_error_ends_one_study_and_not_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: Exception, status: int, reason: str,
) -> None:  # fmt: skip
    analyse = offline.analyse

    def fails_once(detector: StudyReader, study_uid: str, *rest: Any, **more: Any) -> Analysis:
        if study_uid == FIRST:
            raise error
        return analyse(detector, study_uid, *rest, **more)

    monkeypatch.setattr(offline, "analyse", fails_once)
    ended, found = process(tmp_path)
    assert (ended, found[FIRST]["reason"], found[SECOND]["status"]) == (status, reason, "analysed")
    printed = capsys.readouterr()
    assert "SECRET" not in printed.out + printed.err


def test_only_files_that_were_written_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process(tmp_path)
    named = {Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith("  /")}
    assert named == {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
