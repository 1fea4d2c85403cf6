from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.analysis import completion, jobs
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, OutboxRow, ResultFile, ResultRow
from dicom_node.dicom import identifiers
from dicom_node.gate import check
from dicom_node.health import overview
from dicom_node.images.store import InstanceStore
from dicom_node.results.envelope import to_bytes
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.detector import FakeDetector

DESTINATIONS = [{"name": n, "ae_title": n.upper(), "host": "127.0.0.1", "port": 1} for n in ("pacs", "second")]


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    return NodeSettings(**{**node_settings.model_dump(), "destinations": DESTINATIONS})


@pytest.fixture
def receive(database: Database, settings: NodeSettings) -> Callable[..., None]:
    store = InstanceStore(database, settings.data_dir)

    def run(*datasets: Dataset) -> None:
        for dataset in datasets:
            assert store.receive(incoming(dataset)) == 0
        with database.write() as session:
            later = utc_now() + timedelta(hours=1)
            completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
            for job in session.scalars(select(Job)):
                job.not_before = utc_now()

    return run


def exam(count: int = 5) -> list[Dataset]:
    return [mr_image(n) for n in range(1, count + 1)]


def last_job(database: Database) -> Job:
    with database.read() as session:
        return session.scalars(select(Job).order_by(Job.id.desc())).first()  # type: ignore[return-value]


def result_files(database: Database, settings: NodeSettings) -> dict[str, Path]:
    with database.read() as session:
        return {row.role: settings.data_dir / row.path for row in session.scalars(select(ResultFile))}


def count(database: Database, table: type[ResultRow] | type[OutboxRow]) -> int:
    with database.read() as session:
        return len(session.scalars(select(table)).all())


def test_job__makes_report_overlay_picture_and_findings(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    receive(*exam())
    assert Worker(settings, database, FakeDetector()).run_once()
    assert (last_job(database).state, last_job(database).reason) == ("done", "analysed")
    files = result_files(database, settings)
    assert set(files) == {"report", "report_2d", "overlay", "table", "picture", "findings"}
    for role in ("report", "report_2d", "overlay", "table"):
        dataset = pydicom.dcmread(files[role])
        assert check.check(dataset) == []
        assert (dataset.StudyInstanceUID, dataset.PatientName) == (STUDY, "SECRET^NAME")
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
    assert json.loads(files["findings"].read_text())["status"] == "analysed"
    assert count(database, OutboxRow) == 6


def test_job__nothing_to_do(database: Database, settings: NodeSettings) -> None:
    assert not Worker(settings, database, FakeDetector()).run_once()


@pytest.mark.parametrize("kind", ["no t2", "no image"])
def test_job__a_study_that_cannot_be_analysed_ends_with_a_report_that_says_so(
    database: Database, settings: NodeSettings, receive: Callable[..., None], kind: str
) -> None:
    dataset = mr_image()
    if kind == "no t2":
        dataset.SeriesDescription = "t1_sag"
        reason = "no_sagittal_t2"
    else:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
        del dataset.PixelData, dataset.Rows, dataset.Columns
        reason = "no_images"
    receive(dataset)
    Worker(settings, database, FakeDetector()).run_once()
    assert last_job(database).state == "done"
    assert reason in last_job(database).reason
    assert set(result_files(database, settings)) == {"report", "report_2d", "findings"}
    with database.read() as session:
        (study,) = overview.status(session, settings)["studies"]
    assert study["state"] == "not_analysable"
    assert reason in study["reason"]


def test_job__the_settings_say_what_is_made(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    results = {"structured_report": False, "table_page": False, "slice_sheet": True}
    changed = NodeSettings(**{**settings.model_dump(), "results": results})
    receive(*exam())
    Worker(changed, database, FakeDetector()).run_once()
    files = result_files(database, settings)
    assert set(files) == {"overlay", "sheet", "picture", "findings"}
    overlay, sheet = pydicom.dcmread(files["overlay"]), pydicom.dcmread(files["sheet"])
    assert overlay.SeriesInstanceUID == sheet.SeriesInstanceUID
    assert len(sheet.SourceImageSequence) == 5


def test_job__points_in_patient_coordinates_where_they_are_asked_for(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    changed = NodeSettings(**{**settings.model_dump(), "results": {"scoord3d": True}})
    images = exam()
    for image in images:
        image.FrameOfReferenceUID = "1.2.826.0.1.3680043.10.5"
    receive(*images)
    Worker(changed, database, FakeDetector()).run_once()
    files = result_files(database, settings)
    assert b"SCOORD3D" in files["report"].read_bytes()
    assert b"SCOORD3D" not in files["report_2d"].read_bytes()


def test_job__a_presentation_state_where_it_is_asked_for(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    results = {
        "presentation_state": True,
        "key_object": True,
        "degenerative_disc": "77547008, SCT, Degeneration, of disc",
    }
    changed = NodeSettings(**{**settings.model_dump(), "results": results})
    receive(*exam())
    Worker(changed, database, FakeDetector()).run_once()
    assert b"Degeneration, of disc" in result_files(database, settings)["report"].read_bytes()
    state = pydicom.dcmread(result_files(database, settings)["presentation"])
    note = pydicom.dcmread(result_files(database, settings)["key_object"])
    assert (state.Modality, state.PatientName) == ("PR", "SECRET^NAME")
    assert (note.Modality, note.PatientName) == ("KO", "SECRET^NAME")
    assert count(database, OutboxRow) == 10


def test_job__a_retry_makes_the_same_bytes(
    database: Database, settings: NodeSettings, receive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(*exam())
    worker = Worker(settings, database, FakeDetector())
    folder = settings.data_dir / "results"

    def killed(*args: object) -> None:
        raise OSError("killed before the commit")

    monkeypatch.setattr(jobs, "succeed", killed)
    worker.run_once()
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert last_job(database).state == "waiting"
    assert count(database, ResultRow) == 0
    monkeypatch.undo()
    with database.write() as session:
        session.get_one(Job, last_job(database).id).not_before = utc_now()
    worker.run_once()
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert (count(database, ResultRow), count(database, OutboxRow)) == (1, 6)


def test_job__the_same_inputs_again_give_no_second_result(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    receive(*exam())
    worker = Worker(settings, database, FakeDetector())
    worker.run_once()
    key_object = mr_image(90)
    key_object.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    del key_object.PixelData
    receive(key_object)
    assert worker.run_once()
    assert (last_job(database).generation, last_job(database).state) == (2, "done")
    assert (count(database, ResultRow), count(database, OutboxRow)) == (1, 6)


def test_job__the_same_inputs_after_an_upgrade_give_no_second_result(
    database: Database, settings: NodeSettings, receive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(*exam())
    worker = Worker(settings, database, FakeDetector())
    worker.run_once()
    with database.read() as session:
        before = {(file.path, file.sha256) for file in session.scalars(select(ResultFile))}
    # The version is part of UIDs and objects: an object that is made again would be another one.
    monkeypatch.setattr(identifiers, "SOFTWARE_VERSION", "99.0.0")
    late = mr_image(90)
    late.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    del late.PixelData
    receive(late)
    assert worker.run_once()
    assert (last_job(database).generation, last_job(database).state) == (2, "done")
    assert (count(database, ResultRow), count(database, OutboxRow)) == (1, 6)
    with database.read() as session:
        assert {(file.path, file.sha256) for file in session.scalars(select(ResultFile))} == before


def test_job__a_late_image_gives_a_new_result(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    worker = Worker(settings, database, FakeDetector())
    receive(*exam(5))
    worker.run_once()
    receive(mr_image(6))
    worker.run_once()
    with database.read() as session:
        uids = [f.sop_instance_uid for f in session.scalars(select(ResultFile).where(ResultFile.role == "report"))]
    assert len(set(uids)) == 2


def report_rows(database: Database, settings: NodeSettings) -> list[tuple[str, Dataset]]:
    with database.read() as session:
        files = session.scalars(select(ResultFile).where(ResultFile.role.like("report%")).order_by(ResultFile.id)).all()
    return [(file.role, pydicom.dcmread(settings.data_dir / file.path)) for file in files]


def predecessor(report: Dataset) -> tuple[str, str, str]:
    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    return item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, series.SeriesInstanceUID


def test_job__a_new_result_names_the_report_that_it_replaces(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    worker = Worker(settings, database, FakeDetector())
    for images in (exam(5), [mr_image(6)], [mr_image(7)]):
        receive(*images)
        worker.run_once()
    reports = report_rows(database, settings)
    assert [role for role, _ in reports] == ["report", "report_2d"] * 3
    assert all("PredecessorDocumentsSequence" not in dataset for _, dataset in reports[:2])
    for (role, older), (_, newer) in zip(reports, reports[2:], strict=False):
        assert predecessor(newer) == (older.SOPClassUID, older.SOPInstanceUID, older.SeriesInstanceUID), role
        assert b"Replaces an earlier report" in to_bytes(newer)


def test_job__done_again_after_its_successor_a_result_keeps_its_bytes(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    worker = Worker(settings, database, FakeDetector())
    receive(*exam(5))
    worker.run_once()
    receive(mr_image(6))
    worker.run_once()
    before = {p: p.read_bytes() for p in (settings.data_dir / "results").rglob("*") if p.is_file()}
    # The dates in the objects have seconds.
    time.sleep(1)
    other = mr_image(90)
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    del other.PixelData
    receive(other)
    assert worker.run_once()
    assert {p: p.read_bytes() for p in (settings.data_dir / "results").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("corrected", [[1, 2, 3, 4, 5], [5]])
def test_job__corrected_patient_data_are_followed(
    database: Database, settings: NodeSettings, receive: Callable[..., None], corrected: list[int]
) -> None:
    """This holds even if only images other than the slice (number 3) were sent again."""
    changed = NodeSettings(**{**settings.model_dump(), "results": {"presentation_state": True}})
    worker = Worker(changed, database, FakeDetector())
    receive(*exam())
    worker.run_once()
    again = [mr_image(number, name="CORRECTED^NAME") for number in corrected]
    receive(*again)
    assert worker.run_once()
    with database.read() as session:
        newest = session.scalars(select(ResultRow).order_by(ResultRow.id.desc())).first()
        assert newest
        files = session.scalars(select(ResultFile).where(ResultFile.result_id == newest.id)).all()
    names = {str(pydicom.dcmread(settings.data_dir / f.path).PatientName) for f in files if f.sop_class_uid}
    assert names == {"CORRECTED^NAME"}


def test_job__a_correction_that_is_taken_back_gives_a_new_result(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    """The PACS has the result of the correction as the last one: the first one, sent once more, would not replace it."""
    worker = Worker(settings, database, FakeDetector())
    for name in ("SECRET^NAME", "CORRECTED^NAME", "SECRET^NAME"):
        receive(*[mr_image(number, name=name) for number in range(1, 6)])
        assert worker.run_once()
    with database.read() as session:
        files = session.scalars(select(ResultFile).where(ResultFile.role == "report").order_by(ResultFile.id)).all()
        assert [job.state for job in session.scalars(select(Job))] == ["done"] * 3
        waiting = session.scalars(
            select(OutboxRow.result_file_id).where(OutboxRow.result_file_id == files[-1].id)
        ).all()
    reports = [pydicom.dcmread(settings.data_dir / file.path) for file in files]
    assert [str(report.PatientName) for report in reports] == ["SECRET^NAME", "CORRECTED^NAME", "SECRET^NAME"]
    (replaced,) = reports[-1].PredecessorDocumentsSequence
    (named,) = replaced.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == reports[1].SOPInstanceUID
    assert waiting


def test_job__own_results_that_come_back_start_nothing(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    results = {"presentation_state": True, "key_object": True}
    changed = NodeSettings(**{**settings.model_dump(), "results": results})
    worker = Worker(changed, database, FakeDetector())
    receive(*exam())
    worker.run_once()
    with database.read() as session:
        files = session.scalars(select(ResultFile).where(ResultFile.sop_class_uid.is_not(None))).all()
    assert len(files) == 6
    receive(*(pydicom.dcmread(settings.data_dir / file.path) for file in files))
    assert not worker.run_once()
    assert count(database, ResultRow) == 1


def test_job__a_refused_study_takes_its_patient_from_an_image(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    document = mr_image(1, name="OTHER^HEADER")
    document.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    del document.PixelData, document.Rows, document.Columns
    picture = mr_image(2)
    picture.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    receive(document, picture)
    Worker(settings, database, FakeDetector()).run_once()
    assert {str(dataset.PatientName) for _, dataset in report_rows(database, settings)} == {"SECRET^NAME"}


def test_job__what_may_pass_is_tried_again_and_then_given_up(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    def broken() -> None:
        raise MemoryError("SECRET^NAME in a message")

    changed = NodeSettings(**{**settings.model_dump(), "worker": {"max_attempts": 2, "retry_first_s": 0.001}})
    receive(*exam())
    worker = Worker(changed, database, FakeDetector(broken))
    worker.run_once()
    assert last_job(database).state == "waiting"
    with database.write() as session:
        session.get_one(Job, last_job(database).id).not_before = utc_now()
    worker.run_once()
    assert last_job(database).state == "failed"
    assert "MemoryError" in last_job(database).reason
    with database.read() as session:
        shown = json.dumps(overview.status(session, settings))
    assert "job_failed" in shown
    assert "SECRET" not in shown


def test_job__what_the_gate_refuses_is_never_sent(
    database: Database, settings: NodeSettings, receive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "check", lambda dataset: ["PatientID is missing"])
    receive(*exam())
    Worker(settings, database, FakeDetector()).run_once()
    assert last_job(database).state == "failed"
    assert "PatientID is missing" in last_job(database).reason
    assert count(database, OutboxRow) == 0


def test_job__a_lost_lease_leaves_no_result(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    def steal() -> None:
        with database.write() as session:
            session.scalars(select(Job)).one().lease_token = "stolen"

    receive(*exam())
    Worker(settings, database, FakeDetector(steal)).run_once()
    assert count(database, ResultRow) == 0
    assert last_job(database).state == "running"


def test_job__a_file_that_was_cut_on_disk_is_never_read(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    receive(*exam())
    path = next((settings.data_dir / "instances").rglob("*.dcm"))
    whole = path.read_bytes()
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path, enforce_file_format=True)
    assert Worker(settings, database, FakeDetector()).run_once()
    assert (last_job(database).state, count(database, ResultRow)) == ("failed", 0)
    assert "1 images are missing or damaged" in last_job(database).reason
    # The image is sent again, so it is intact and the study is analysed.
    receive(*exam())
    assert path.read_bytes() == whole
    assert Worker(settings, database, FakeDetector()).run_once()
    assert (last_job(database).state, count(database, ResultRow)) == ("done", 1)
    with database.read() as session:
        assert overview.status(session, settings)["alerts"] == []


def test_job__a_fhir_server_gets_the_report_alone(
    database: Database, settings: NodeSettings, receive: Callable[..., None]
) -> None:
    systems = {"patient_system": "urn:oid:2.999.1", "accession_system": "urn:oid:2.999.2"}
    records = {"name": "records", "kind": "fhir", "url": "http://127.0.0.1:1/r4", **systems}
    web = {"name": "web", "kind": "dicomweb", "url": "http://127.0.0.1:1/dicom-web"}
    both = NodeSettings(**{**settings.model_dump(), "destinations": [web, records]})
    receive(*exam())
    assert Worker(both, database, FakeDetector()).run_once()
    query = select(OutboxRow.destination, ResultFile.role).join(ResultFile)
    with database.read() as session:
        found = [(destination, role) for destination, role in session.execute(query.order_by(OutboxRow.id))]
    assert sorted(found) == [("records", "report"), ("web", "overlay"), ("web", "report"), ("web", "table")]
