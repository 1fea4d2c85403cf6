"""Inspection: counts, classes, and every suspicion by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.fakes.spine_files import level_point, sdid_entry, sdid_point, write_annotations, write_sdid, write_series
from tests.unit.datasets.test_readers import single
from trainer.cli.app import app
from trainer.curation.inspection import SHEET, Inspection
from trainer.curation.suspicions import suspicions
from trainer.datasets import sdid_tc
from trainer.datasets.exam import Exam
from trainer.datasets.sdid_points import LEVELS


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    folder = tmp_path_factory.mktemp("one")
    write_sdid(folder)
    return single(sdid_tc.read(folder))


def moved(exam: Exam, level: str, x: float, y: float) -> Exam:
    return replace(exam, points={**exam.points, level: (x, y)})


def test_faultless_exam__is_not_suspicious(exam: Exam) -> None:
    assert suspicions(exam) == []


def test_suspicions__are_named(exam: Exam) -> None:
    column, row = level_point("L3-L4")
    found = suspicions(moved(exam, "L3-L4", column, row + 13))
    assert any("L2-L3 and L3-L4 are 49.0 mm apart" in text for text in found)
    assert any("the steps L3 to L3-L4 and on to L4 are 31.0 and 5.0 mm" in text for text in found)
    assert suspicions(moved(exam, "L5-S1", 1.0, 200.0))[0] == "within 3 mm of the image's border: L5-S1"
    blank = replace(exam, volume=replace(exam.volume, voxels=np.ones_like(exam.volume.voxels)))
    assert suspicions(blank) == ["the annotated slice is blank"]
    unknown = replace(exam, grades={})
    assert suspicions(unknown) == ["no class is known"]


def test_inspection__counts_and_tells_twins(exam: Exam) -> None:
    inspection = Inspection("Test", {exam.patient: "train"})
    twin = replace(exam, exam_id="twin", patient="another")
    inspection.look_at([exam, twin])
    report = inspection.to_json()
    assert (report["exams"], report["patients"]) == (2, 2)
    assert report["classes"]["L3"] == {"normal": 2}
    (odd,) = report["odd"]
    assert odd["exam"] == "twin"
    assert odd["suspicions"] == [
        f"shows the same picture as {exam.exam_id}",
        "its patient stands in no part of the split file",
    ]
    assert report["scanners"] == {"Scanner Works, 1.5 T": 2}


def test_sheets__hold_examples_of_the_whole_set(exam: Exam) -> None:
    inspection = Inspection("Test")
    inspection.look_at(replace(exam, exam_id=f"e{k}") for k in range(2 * SHEET + 1))
    assert SHEET // 2 <= len(inspection.examples) <= SHEET
    assert len(inspection.suspicious) == SHEET


def test_command__writes_text_json_html_and_pictures(tmp_path: Path) -> None:
    entries = write_sdid(tmp_path / "lumbar", ["study1"])
    instance = write_series(tmp_path / "lumbar" / "study2", "study2")[1]
    points = [sdid_point(level) for level in LEVELS if level != "L2"]
    write_annotations(tmp_path / "lumbar", [*entries, sdid_entry("study2", instance, points), sdid_entry("no", "1.2")])
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "lumbar"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "2 exams of 2 patients; 1 left out; 1 with something odd" in result.stdout
    assert "no point for L2" in result.stdout
    report = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert report["left_out"][0]["why"] == "the annotated image is not there"
    assert report["classes"]["L2"] == {"normal": 1, "no point": 1}
    html = (tmp_path / "out" / "inspection.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert "no point for L2" in html
    assert (tmp_path / "out" / "inspection.txt").read_text().startswith("Inspection of sdid_tc:lumbar")
