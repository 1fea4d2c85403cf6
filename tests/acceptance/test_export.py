"""From a received exam to the trainer: the node analyses it, exports it de-identified, `spineone-train` reads it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from dicom_node.analysis.completion import complete_due
from dicom_node.analysis.detector import load_detector
from dicom_node.analysis.worker import Worker
from dicom_node.cli.app import main
from dicom_node.database.connection import Database, open_database
from dicom_node.database.tables import Instance, ResultRow
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.upkeep.export import Exporter, ExportError, read_key
from spineone_core.phantom.dicom import WrittenExam, write_exam
from tests.fakes import audit
from tests.fakes.analyses import analyse_next
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.detector import FakeDetector

KEY = b"k" * 32


def receive(settings: NodeSettings, database: Database, *images: Dataset) -> None:
    store = InstanceStore(database, settings.data_dir)
    for image in images:
        assert store.receive(incoming(image)) == 0
    with database.write() as session:
        complete_due(session, now=datetime.now(UTC), quiet_seconds=0, max_wait_seconds=0)


@pytest.fixture
def analysed(node_settings: NodeSettings, database: Database) -> NodeSettings:
    """A node with one analysed study."""
    receive(node_settings, database, *[mr_image(n) for n in range(1, 6)])
    analyse_next(database, node_settings)
    return node_settings


def train(*arguments: object) -> str:
    """What `spineone-train` prints, and that it succeeds."""
    command = [sys.executable, "-m", "trainer.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> WrittenExam:
    return write_exam(tmp_path_factory.mktemp("exam"), 3, slices=5, companions=False)


def test_export__the_trainer_reads_what_a_person_has_confirmed(exam: WrittenExam, tmp_path: Path) -> None:
    """The shipped model, the commands, the trainer's own reader, each as a program of its own."""
    config, out = tmp_path / "node.toml", tmp_path / "out"
    run("init", "--dir", str(tmp_path))
    settings = load_settings(config)
    database = open_database(settings.database)
    receive(settings, database, *[pydicom.dcmread(path) for path in exam.files["t2"]])
    assert Worker(settings, database, load_detector(settings)).run_once()
    database.close()

    assert run("export", "--since", "2020-01-01", "--out", str(out), "--config", str(config)) == 0
    (review_file,) = out.rglob("review.json")
    review = json.loads(review_file.read_text())
    assert review["verdict"] == "proposed"
    assert len(list(review_file.parent.glob("*.dcm"))) == 5
    for path in out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(trace in data for trace in (b"PHANTOM", exam.study_uid.encode(), b"20260105"))

    # The trainer must not train on the node's own proposal.
    assert "not reviewed yet" in train("inspect", out)

    with database.read() as session:
        findings = json.loads(session.scalars(select(ResultRow.findings)).one())["findings"]
    points = {p["level"]: (p["x"], p["y"]) for p in review["points"]}
    assert points == {f["level"]: (f["x"], f["y"]) for f in findings}
    assert len(points) == 10
    review["points"][0].update(x=review["points"][0]["x"] + 1, source="reviewer")
    review.update(verdict="corrected", reviewer="r1", reviewed_at="2026-01-01T00:00:00Z")
    review_file.write_text(json.dumps(review))
    train("inspect", out, "--out", tmp_path / "inspection")
    seen = json.loads((tmp_path / "inspection" / "inspection.json").read_text())
    assert "not reviewed yet" not in json.dumps(seen)
    assert "9 of 10 points are the model's own" in json.dumps(seen)
    assert seen["exams"] == 1


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


# ---------------------------------------------------------------- what is exported, and what is not


def test_export__series_and_proposal(analysed: NodeSettings, database: Database, tmp_path: Path) -> None:
    other = mr_image(20, series=f"{STUDY}.9")
    other.SeriesDescription = "another"
    receive(analysed, database, other)
    assert Worker(analysed, database, FakeDetector()).run_once()
    done = Exporter(analysed, database, tmp_path / "out", KEY).export(STUDY)
    assert (done.left_out, done.files) == ("", 5)
    folder = Path(done.folder)
    review = json.loads((folder / "review.json").read_text())
    images = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    assert {image.SeriesInstanceUID for image in images} == {review["series_uid"]}
    assert {image.StudyInstanceUID for image in images} == {review["study_uid"]} == {folder.name}
    assert review["sop_instance_uid"] in {image.SOPInstanceUID for image in images}
    assert {image.PatientID for image in images} == {review["patient"]} == {folder.parent.name}
    assert {point["source"] for point in review["points"]} == {"model"}
    assert (review["reviewer"], review["verdict"]) == (None, "proposed")
    assert b"SECRET" not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_export__is_in_the_audit_log(analysed: NodeSettings, database: Database, tmp_path: Path) -> None:
    Exporter(analysed, database, tmp_path / "out", KEY).export(STUDY)
    (message,) = audit.of_event(audit.messages(analysed.data_dir), "110106")
    assert audit.roles(message)["110154"] == (tmp_path / "out").as_uri()
    assert sum(audit.classes(message).values()) == 5
    assert message.findtext(".//Anonymized") == "true"


def test_export__what_is_there_is_never_touched(analysed: NodeSettings, database: Database, tmp_path: Path) -> None:
    exporter = Exporter(analysed, database, tmp_path / "out", KEY)
    folder = Path(exporter.export(STUDY).folder)
    (folder / "review.json").write_text("reviewed")
    assert "already" in exporter.export(STUDY).left_out
    assert (folder / "review.json").read_text() == "reviewed"


def test_export__since(analysed: NodeSettings, database: Database, tmp_path: Path) -> None:
    exporter = Exporter(analysed, database, tmp_path / "out", KEY)
    assert exporter.studies_since(datetime.now(UTC) - timedelta(hours=1)) == [STUDY]
    assert exporter.studies_since(datetime.now(UTC) + timedelta(hours=1)) == []


def test_export__what_identifies_leaves_nothing_behind(
    node_settings: NodeSettings, database: Database, tmp_path: Path
) -> None:
    images = [mr_image(n) for n in range(1, 6)]
    images[3].BurnedInAnnotation = "YES"
    receive(node_settings, database, *images)
    assert Worker(node_settings, database, FakeDetector()).run_once()
    done = Exporter(node_settings, database, tmp_path / "out", KEY).export(STUDY)
    assert "BurnedInAnnotation" in done.left_out
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file() or path.name.startswith(".")] == []


def test_export__a_name_in_another_image_of_the_study_counts_too(
    node_settings: NodeSettings, database: Database, tmp_path: Path
) -> None:
    images = [mr_image(n, name="Anders^Anna") for n in range(1, 6)]
    for image in images:
        image.PixelData = b"\0" * 40 + b" DOB19601231 " + b"\0" * 75
    images[0].PatientBirthDate, images[0].AccessionNumber = "19601231", "DOB19601231"
    receive(node_settings, database, *images)
    assert Worker(node_settings, database, FakeDetector()).run_once()
    done = Exporter(node_settings, database, tmp_path / "out", KEY).export(STUDY)
    assert "AccessionNumber is found" in done.left_out


def test_export__says_why_a_study_is_left_out(node_settings: NodeSettings, database: Database, tmp_path: Path) -> None:
    exporter = Exporter(node_settings, database, tmp_path / "out", KEY)
    assert exporter.export("1.2.3").left_out == "it has no result"
    image = mr_image(1, study="1.2.77")
    image.SeriesDescription = "loc"
    receive(node_settings, database, image)
    assert Worker(node_settings, database, FakeDetector()).run_once()
    assert exporter.export("1.2.77").left_out == "not analysable: no_sagittal_t2"


def test_export__images_that_are_gone_or_damaged(analysed: NodeSettings, database: Database, tmp_path: Path) -> None:
    exporter = Exporter(analysed, database, tmp_path / "out", KEY)
    path = next((analysed.data_dir / "instances").rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[:-2])
    assert "damaged" in exporter.export(STUDY).left_out
    with database.write() as session:
        session.execute(update(Instance).values(purged_at=datetime.now(UTC)))
    assert "retention" in exporter.export(STUDY).left_out


def test_export__never_into_the_data_folder(node_settings: NodeSettings, database: Database) -> None:
    with pytest.raises(ExportError, match="data folder"):
        Exporter(node_settings, database, node_settings.data_dir / "out", KEY)


def test_key__is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "export.key"
    key = read_key(path)
    assert len(key) == 32
    assert read_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("no key")
    with pytest.raises(ExportError, match="no key"):
        read_key(path)


def test_command__says_what_became_of_each_study(
    analysed: NodeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'data_dir = "{analysed.data_dir}"\n')
    common = ["--out", str(tmp_path / "out"), "--config", str(config)]
    assert run("export", "--study", STUDY, "--study", "1.2.3", *common) == 0
    said = capsys.readouterr()
    assert f"{STUDY}: 5 images" in said.out
    assert "1.2.3: left out: it has no result" in said.out
    assert "exported: 1 of 2 studies" in said.err
    assert run("export", "--study", STUDY, "--json", *common) == 1
    assert "already" in json.loads(capsys.readouterr().out)[0]["left_out"]
    assert run("export", *common) == 2
    assert "--since" in capsys.readouterr().err
