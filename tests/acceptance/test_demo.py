"""`dicom-node demo`, as a stranger runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pydicom

from tests.peers import node_command


def test_demo__ends_with_report_overlay_and_ten_findings(tmp_path: Path) -> None:
    command = node_command("demo", "--out", tmp_path)
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (findings,) = (json.loads(p.read_text()) for p in tmp_path.rglob("findings.json"))
    assert findings["status"] == "analysed"
    assert len(findings["findings"]) == 10
    (folder,) = (p.parent for p in tmp_path.rglob("findings.json"))
    assert pydicom.dcmread(folder / "sr.dcm").Modality == "SR"
    assert (folder / "overlay.png").read_bytes().startswith(b"\x89PNG")
    assert pydicom.dcmread(folder / "overlay.dcm").StudyInstanceUID == findings["study_uid"]
    for text in ("L1", "L5-S1", "grade"):
        assert text in result.stdout
    grades = [finding["pfirrmann"]["grade"] for finding in findings["findings"] if finding["structure"] == "disc"]
    assert len(grades) == 5
    assert f"Pfirrmann grade {grades[0]}" in str(pydicom.dcmread(folder / "sr.dcm"))
    # A cell that is too narrow for its text ends in this.
    assert "…" not in result.stdout
