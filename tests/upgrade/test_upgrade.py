"""A node whose settings and database an earlier release wrote: today's code brings them up to date and goes on with them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import func, select

from dicom_node.analysis import completion, jobs
from dicom_node.analysis.worker import Worker
from dicom_node.cli.app import main
from dicom_node.database.connection import open_database
from dicom_node.database.migrations import head
from dicom_node.database.tables import Instance, Job, OutboxRow, ResultRow
from dicom_node.images.store import InstanceStore
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now
from spineone_core.findings import Detection, ModelIdentity, Reason
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.phantom.dicom import write_exam
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector, FakeReading, analysed

HERE = Path(__file__).parent
RELEASES = sorted(path.name for path in HERE.iterdir() if (path / "node.sql").is_file())
ANALYSED = "2.25.257079904698118139249626482632188478075"
NOT_ANALYSABLE, WAITING, RECEIVING = (f"1.2.826.0.1.3680043.10.{number}" for number in (1, 2, 3))


@pytest.fixture(params=RELEASES)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The settings of a node that an earlier release left behind, with its database beside them."""
    shutil.copy(HERE / request.param / "node.toml", tmp_path)
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "node.db") as connection:
        connection.executescript((HERE / request.param / "node.sql").read_text(encoding="utf-8"))
    connection.close()
    return tmp_path / "node.toml"


def run(*arguments: str) -> int:
    """Exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def printed(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert run(*arguments, "--json", "--config", str(config)) == 0
    return json.loads(capsys.readouterr().out)


def upgrade(config: Path) -> None:
    """`init` upgrades the database and keeps the settings."""
    before = config.read_text()
    assert run("init", "--dir", str(config.parent)) == 0
    assert config.read_text() == before
    with sqlite3.connect(config.parent / "data" / "node.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(head(),)]
    connection.close()


def test_upgrade__the_settings_mean_what_they_did(config: Path) -> None:
    settings = load_settings(config)
    assert settings.listener.ae_title == "SPINEONE"
    assert settings.study.quiet_seconds == 2
    assert settings.study.min_slices == 3
    assert (settings.results.presentation_state, settings.results.key_object) == (True, True)
    assert [peer.ae_title for peer in settings.peers] == ["ROUTER"]
    assert [(d.name, d.storage_commitment, d.read_back) for d in settings.destinations] == [
        ("pacs", False, False),
        ("archive", True, True),
    ]
    assert [archive.retrieve for archive in settings.archives] == ["get"]
    assert sorted(receiver.name for receiver in settings.receivers) == ["pacs-team", "pager"]


def test_upgrade__every_study_is_where_it_was(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade(config)
    state = printed(config, capsys, "status")
    assert {study["study_uid"]: (study["state"], study["instances"]) for study in state["studies"]} == {
        ANALYSED: ("analysed", 5),
        NOT_ANALYSABLE: ("not_analysable", 5),
        WAITING: ("waiting", 3),
        RECEIVING: ("receiving", 1),
    }
    assert {study["study_uid"]: (study["sent"], study["to_send"]) for study in state["studies"] if study["sent"]} == {
        ANALYSED: (5, 5),
        NOT_ANALYSABLE: (1, 1),
    }
    assert {alert["kind"] for alert in state["alerts"]} == {"destination_down", "receiver_down"}
    events = printed(config, capsys, "job", "1")["events"]
    assert [event["event"] for event in events] == ["claimed", "succeeded"]


def test_upgrade__the_waiting_job_is_claimed(config: Path) -> None:
    upgrade(config)
    database = open_database(load_settings(config).database)
    with database.write() as session:
        claim = jobs.claim(session, "worker", now=utc_now())
        assert claim is not None
        assert (claim.study_uid, claim.generation, claim.attempts) == (WAITING, 1, 1)
        assert jobs.claim(session, "another", now=utc_now()) is None
    database.close()


def test_upgrade__results_are_sent_again_when_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade(config)
    assert run("resend", ANALYSED, "--config", str(config)) == 0
    study = next(s for s in printed(config, capsys, "status")["studies"] if s["study_uid"] == ANALYSED)
    assert (study["sent"], study["to_send"]) == (0, 10)


# The model that had analysed the studies, and that an upgrade keeps.
_MODEL = ModelIdentity(
    name="spineone-r18",
    version="0.3.0",
    digest="aa4c2d224efbb4f7e5bb38bdd998f324be26ce86364918092f087d43937cfadd",
)


class OldModel(FakeDetector):
    """Reads the phantom, and refuses blank images as the model did."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = _MODEL

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> FakeReading:
        headers, _ = read_headers(paths)
        study_uid = headers[0].study_uid
        if study_uid == ANALYSED:
            (series,) = [one for one in group_series(headers) if len(one) == 5]
            volume = load_volume(series)
            found = replace(analysed(volume), model=_MODEL)
            return FakeReading(found, volume, Selection(series, None, "", (), candidates=(series,)))
        refused = Detection.refused(_MODEL, study_uid, Reason.UNREADABLE_PIXELS, "blank")
        return FakeReading(refused, None, Selection(None, Reason.NO_SAGITTAL_T2, "", ()))


def late_localiser(study_uid: str) -> Dataset:
    image = mr_image(99, study=study_uid, series=study_uid[:50] + ".9")
    image.SOPInstanceUID, image.SeriesDescription = study_uid[:50] + ".9.1", "localiser"
    return image


@pytest.fixture(params=[ANALYSED, NOT_ANALYSABLE])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> list[Dataset]:
    """The very images of a study that the earlier release analysed."""
    if request.param == NOT_ANALYSABLE:
        return [mr_image(number) for number in range(1, 6)]
    exam = write_exam(tmp_path / "exam", 1, slices=5, companions=False)
    return [pydicom.dcmread(path) for path in exam.files["t2"]]


def test_upgrade__a_late_localiser_sends_nothing_new(config: Path, images: list[Dataset]) -> None:
    upgrade(config)
    settings = load_settings(config)
    database = open_database(settings.database)
    study_uid = str(images[0].StudyInstanceUID)
    with database.write() as session:
        before = session.scalar(select(func.count()).select_from(OutboxRow))
        other = session.scalars(select(Job).where(Job.study_uid == WAITING)).one()
        other.not_before = utc_now().replace(year=2100)
    store = InstanceStore(database, settings.data_dir)
    for image in [*images, late_localiser(study_uid)]:
        patient = {"PatientID": images[0].PatientID, "PatientName": images[0].PatientName}
        for keyword, value in patient.items():
            setattr(image, keyword, value)
        assert store.receive(incoming(image)) == 0
    with database.write() as session:
        assert session.scalar(select(func.count()).where(Instance.study_uid == study_uid)) == 6, "other bytes"
        later = utc_now() + timedelta(hours=1)
        completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
        for job in session.scalars(select(Job).where(Job.study_uid == study_uid, Job.state == "waiting")):
            job.not_before, job.priority = utc_now(), 9
    assert Worker(settings, database, OldModel()).run_once()
    with database.read() as session:
        job = jobs.newest(session, study_uid)
        assert job is not None
        assert (job.state, job.generation) == ("done", 2), job.reason
        results = session.scalars(select(ResultRow).where(ResultRow.study_uid == study_uid)).all()
        assert [(result.id, result.generation) for result in results] == [(job.result_id, 1)]
        assert session.scalar(select(func.count()).select_from(OutboxRow)) == before
    database.close()
