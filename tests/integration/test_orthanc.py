"""One study goes all the way with programs that others wrote: DCMTK sends, Orthanc is the PACS, dciodvfy and highdicom
judge.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
import pytest

from spineone_core.phantom.dicom import WrittenExam, write_exam
from tests.peers import (
    DCIODVFY,
    ORTHANC,
    STORESCU,
    Orthanc,
    dciodvfy_errors,
    free_port,
    need,
    node_command,
    node_status,
    running_node,
    running_orthanc,
    storescu,
    wait_for,
)

pytestmark = [pytest.mark.orthanc, pytest.mark.dcmtk, pytest.mark.dciodvfy, need(ORTHANC, STORESCU, DCIODVFY)]


@dataclass(frozen=True)
class Round:
    """What one round gave: the exam, the PACS, the node's settings file, and the results fetched back from the PACS."""

    exam: WrittenExam
    orthanc: Orthanc
    config: Path
    port: int
    folder: Path
    report: Path
    overlay: Path
    table: Path


def settings_text(port: int, orthanc: Orthanc) -> str:
    return f"""data_dir = "data"
[listener]
port = {port}
[[peers]]
ae_title = "ROUTER"
addresses = ["127.0.0.1"]
[study]
quiet_seconds = 2
wait_for_series_seconds = 2
[[destinations]]
name = "orthanc"
ae_title = "{orthanc.ae_title}"
host = "127.0.0.1"
port = {orthanc.port}
storage_commitment = true
[delivery]
poll_seconds = 0.3
[worker]
poll_seconds = 0.2
[web]
enabled = false
[retention]
disk_reserve_gb = 0.01
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    folder = tmp_path_factory.mktemp("orthanc")
    exam = write_exam(folder / "exam", 11)
    port = free_port()
    # Where Orthanc reports its storage commitment.
    more = {"DicomModalities": {"spineone": ["SPINEONE", "127.0.0.1", port]}}
    with running_orthanc(folder / "pacs", more=more) as orthanc:
        # The PACS holds the study, as in a hospital; results must join it.
        assert storescu(orthanc.port, exam.directory, called=orthanc.ae_title).returncode == 0
        config = folder / "node.toml"
        config.write_text(settings_text(port, orthanc))
        with running_node(config, folder / "node.log"):
            sent = storescu(port, exam.directory)
            assert sent.returncode == 0, sent.stderr
            found = wait_for(
                lambda: results(orthanc, exam.study_uid), timeout_s=180, what="report and pictures in Orthanc"
            )
            files = {}
            for kind, instance in found.items():
                files[kind] = folder / f"{kind}.dcm"
                files[kind].write_bytes(orthanc.file_of(instance))
            yield Round(exam, orthanc, config, port, folder, files["report"], files["overlay"], files["table"])


def results(orthanc: Orthanc, study_uid: str) -> dict[str, str] | None:
    """The identifiers of report, overlay and table, once all are there."""
    by_modality = orthanc.instances(study_uid)
    reports = by_modality.pop("SR", [])
    by_modality.pop("MR", None)
    pictures = [instance for instances in by_modality.values() for instance in instances]
    if not reports or len(pictures) < 2:
        return None
    pictures.sort(key=lambda i: int(orthanc.get(f"/instances/{i}/simplified-tags")["InstanceNumber"]))
    (report,), (overlay, table) = reports, pictures
    return {"report": report, "overlay": overlay, "table": table}


def node_json(done: Round, *arguments: str) -> Any:
    command = node_command(*arguments, "--config", done.config, "--json")
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def findings(done: Round) -> dict[str, Any]:
    """``findings.json`` as the node keeps it."""
    (path,) = (done.folder / "data").rglob("findings.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def test_results__stand_under_the_same_study_and_patient(done: Round) -> None:
    source = pydicom.dcmread(done.exam.files["t2"][0], stop_before_pixels=True)
    for path in (done.report, done.overlay, done.table):
        result = pydicom.dcmread(path)
        for name in ("StudyInstanceUID", "PatientID", "PatientName", "StudyID", "AccessionNumber"):
            assert result.get(name) == source.get(name), name
        assert result.SeriesInstanceUID not in {source.SeriesInstanceUID}


def test_results__dciodvfy_finds_no_error(done: Round) -> None:
    assert dciodvfy_errors(done.report) == []
    assert dciodvfy_errors(done.overlay) == []
    assert dciodvfy_errors(done.table) == []


def test_report__ten_findings_equal_findings_json(done: Round) -> None:
    expected = findings(done)
    assert expected["status"] == "analysed"
    groups = hd.sr.srread(done.report).content.get_planar_roi_measurement_groups()
    assert len(groups) == 10
    for group, finding in zip(groups, expected["findings"], strict=True):
        ((x, y),) = group.roi.value
        # SCOORD counts from the corner of the first pixel, findings.json from its centre.
        assert x - 0.5 == pytest.approx(finding["x"], abs=2e-3)
        assert y - 0.5 == pytest.approx(finding["y"], abs=2e-3)
        assert group.roi.ContentSequence[0].referenced_sop_instance_uid == expected["sop_instance_uid"]
        assert finding["level"] in group.tracking_identifier


def test_report__points_lie_on_the_phantoms_structures(done: Round) -> None:
    expected = findings(done)
    truth = done.exam.exam
    assert expected["series_uid"] == done.exam.series_uid
    for finding in expected["findings"]:
        point = truth.volume.to_patient(truth.volume.middle_index, *truth.points[finding["level"]])
        assert sum((a - b) ** 2 for a, b in zip(finding["xyz_mm"], point, strict=True)) ** 0.5 < 6.0, finding["level"]


def test_status__shows_the_study_as_analysed_and_sent(done: Round) -> None:
    wait_for(lambda: all_sent(study_of(done, node_status(done.config))), timeout_s=30, what="everything sent")
    state = study_of(done, node_json(done, "status"))
    assert all_sent(state)
    assert state["state"] == "analysed"
    assert state["not_sent"] == 0


def study_of(done: Round, status: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = next(s for s in status["studies"] if s["study_uid"] == done.exam.study_uid)
    return state


def all_sent(state: dict[str, Any]) -> bool:
    return state["sent"] == 3 and not state["to_send"]


def test_status__shows_that_the_pacs_committed_to_the_results(done: Round) -> None:
    wait_for(lambda: all_proven(node_status(done.config)), timeout_s=60, what="Orthanc's storage commitment")
    status = node_json(done, "status")
    assert all_proven(status)
    assert [alert["kind"] for alert in status["alerts"]] == []


def all_proven(status: dict[str, Any]) -> bool:
    (destination,) = status["destinations"]
    return bool(destination["sent"] and destination["proven"] == destination["sent"])


def test_results_sent_back__make_no_new_job(done: Round) -> None:
    before = len(node_json(done, "jobs"))
    sent = storescu(done.port, done.overlay)
    assert sent.returncode == 0, sent.stderr
    assert len(node_json(done, "jobs")) == before


def test_study_without_sagittal_t2__is_reported_as_not_analysable(done: Round) -> None:
    exam = write_exam(done.folder / "t1 only", 12, slices=3)
    for path in exam.files["t2"]:
        path.unlink()
    assert storescu(done.port, exam.directory).returncode == 0
    wait_for(lambda: done.orthanc.instances(exam.study_uid).get("SR"), timeout_s=120, what="the refusal in Orthanc")
    studies = {s["study_uid"]: s for s in node_json(done, "status")["studies"]}
    assert studies[exam.study_uid]["state"] == "not_analysable"
    assert "no_sagittal_t2" in studies[exam.study_uid]["reason"]


def test_wrong_called_ae__is_refused_and_the_node_goes_on(done: Round) -> None:
    assert storescu(done.port, done.exam.files["t2"][0], called="OTHER").returncode != 0
    assert storescu(done.port, done.exam.files["t2"][0]).returncode == 0


def test_log__holds_no_patient_data(done: Round) -> None:
    source = pydicom.dcmread(done.exam.files["t2"][0], stop_before_pixels=True)
    log = (done.folder / "node.log").read_text()
    for secret in (str(source.PatientName), source.PatientID, str(source.PatientName).split("^")[0]):
        assert secret not in log
