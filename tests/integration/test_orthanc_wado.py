"""Pulling studies from Debian's Orthanc by its DICOMweb plugin: QIDO-RS and WADO-RS."""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import RLELossless
from sqlalchemy import select

from dicom_node.cli.app import main
from dicom_node.cli.set_up import check_partners
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.images import studies
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.census import Census
from dicom_node.receiving.pull import Pulled, Retriever
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes import audit
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.scu import send
from tests.peers import DICOMWEB, ORTHANC, Orthanc, need, running_orthanc

pytestmark = [pytest.mark.orthanc, need(ORTHANC, DICOMWEB)]
# Each test pulls a study of its own.
STUDIES = {
    name: f"1.2.826.0.1.3680043.10.78.{number}" for number, name in enumerate(("pull", "part", "count", "cli"), 1)
}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One that wants a password; of each study it has ten MR images, one of them compressed, and a report."""
    more = {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "pass"}}
    with running_orthanc(tmp_path_factory.mktemp("orthanc") / "web", plugins=(DICOMWEB,), more=more) as running:
        for name, uid in STUDIES.items():
            images = [mr_image(number, study=uid) for number in range(1, 11)]
            report = mr_image(11, study=uid, series=f"{uid}.9")
            report.Modality = "OT"
            for image in (*images, report):
                image.AccessionNumber, image.StudyDate = f"ACC-{name}", "20240315"
            images[4].compress(RLELossless, generate_instance_uid=False)
            assert send(running.port, *images, report, called=running.ae_title) == [0] * 11
        yield running


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHANC_PASSWORD", "pass")


@pytest.fixture
def settings(node_settings: NodeSettings, orthanc: Orthanc) -> NodeSettings:
    archive = {"name": "vna", "kind": "dicomweb", "url": f"{orthanc.url}/dicom-web", "user": "node"}
    peers = [{"ae_title": "ROUTER", "archive": "vna"}]
    archives = [archive | {"password_env": "ORTHANC_PASSWORD", "fetch_missing": True}]
    return NodeSettings(**{**node_settings.model_dump(), "archives": archives, "peers": peers})


def retriever(settings: NodeSettings, database: Database) -> Retriever:
    return Retriever(settings, database, settings.archives[0])


def check_bytes(settings: NodeSettings, database: Database, orthanc: Orthanc, study: str) -> None:
    """What is here of the MR series are Orthanc's files, byte for byte, and their study waits for its quiet time."""
    with database.read() as session:
        rows = list(session.scalars(select(Instance).where(Instance.study_uid == study, Instance.purged_at.is_(None))))
        assert session.get_one(StudyRow, study).state == "receiving"
    theirs = {hashlib.sha256(orthanc.file_of(uid)).hexdigest() for uid in orthanc.instances(study)["MR"]}
    assert {hashlib.sha256((settings.data_dir / row.path).read_bytes()).hexdigest() for row in rows} == theirs
    assert len(rows) == 10
    assert {row.calling_ae for row in rows} == {"vna"}


def test_pull__brings_the_mr_series_byte_for_byte_and_once(
    settings: NodeSettings, database: Database, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_partners(settings)
    assert capsys.readouterr().out == "ok: archive vna answers\n"
    study = STUDIES["pull"]
    fresh = Pulled(study, images=10, were_here=0, received=10, missing=0)
    assert retriever(settings, database).pull(study, "MR") == fresh
    check_bytes(settings, database, orthanc, study)
    again = Pulled(study, images=10, were_here=10, received=0, missing=0)
    assert retriever(settings, database).pull(study, "MR") == again
    assert retriever(settings, database).pull(study).received == 1


def test_pull__completes_what_was_deleted(settings: NodeSettings, database: Database, orthanc: Orthanc) -> None:
    study = STUDIES["part"]
    assert retriever(settings, database).pull(study, "MR").received == 10
    with database.write() as session:
        first, second = session.scalars(select(Instance).order_by(Instance.id).limit(2))
        (settings.data_dir / first.path).unlink()
        first.purged_at = utc_now()
        (settings.data_dir / second.path).unlink()
        session.delete(second)
    completed = Pulled(study, images=10, were_here=8, received=2, missing=0)
    assert retriever(settings, database).pull(study, "MR") == completed
    check_bytes(settings, database, orthanc, study)


def test_census__counts_and_fetches_what_is_missing(
    settings: NodeSettings, database: Database, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, store = STUDIES["count"], InstanceStore.of(settings, database)
    for number in (1, 2):
        assert store.receive(incoming(mr_image(number, study=study), calling_ae="ROUTER")) == 0
    monkeypatch.setattr(studies, "_SETTLED", studies._SETTLED * 0)
    settings = settings.model_copy(update={"study": settings.study.model_copy(update={"quiet_seconds": 0})})
    census = Census(settings, database, lambda archive, uid: Retriever(settings, database, archive).pull(uid, "MR"))
    census.ask_due(settings.archives[0])
    with database.read() as session:
        row = session.get_one(StudyRow, study)
    assert (row.images_here, row.images_expected) == (2, 10)
    census.fetch_due(settings.archives[0])
    with database.read() as session:
        rows = list(session.scalars(select(Instance).where(Instance.study_uid == study, Instance.is_current)))
    assert len(rows) == 10


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"StudyInstanceUID": STUDIES["pull"]}, {"pull"}),
        ({"AccessionNumber": "ACC-part"}, {"part"}),
        ({"PatientID": "SECRET-ID", "StudyDate": "20240301-20240331"}, set(STUDIES)),
        ({"PatientID": "SECRET-ID", "StudyDate": "20250301-20250331"}, set()),
        ({"AccessionNumber": "ACC-none"}, set()),
    ],
)
def test_find_studies(settings: NodeSettings, database: Database, keys: dict[str, str], names: set[str]) -> None:
    found = retriever(settings, database).find_studies(keys)
    assert {study.study_uid for study in found} == {STUDIES[name] for name in names}
    assert {study.date for study in found} <= {"20240315"}


def test_command__finds_and_fetches_and_shows_no_patient_data(
    orthanc: Orthanc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        f'[[archives]]\nkind = "dicomweb"\nname = "vna"\nurl = "{orthanc.url}/dicom-web"\nuser = "node"\n'
        'password_env = "ORTHANC_PASSWORD"\n[retention]\ndisk_reserve_gb = 0\n'
    )
    with pytest.raises(SystemExit):
        main(["init", "--dir", str(tmp_path)])
    capsys.readouterr()

    def node(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--config", str(config)])
        return int(ended.value.code or 0)

    assert node("pull", "--query", "AccessionNumber=ACC-cli", "--dry-run", "--json") == 0
    listed = capsys.readouterr()
    (study,) = json.loads(listed.out)
    assert (study["study_uid"], study["date"]) == (STUDIES["cli"], "20240315")
    assert set(study["modalities"].split(",")) == {"MR", "OT"}
    assert node("pull", "--study", STUDIES["cli"], "--json") == 0
    fetched = capsys.readouterr()
    assert json.loads(fetched.out)[0]["received"] == 10
    assert "SECRET" not in "".join((*listed, *fetched))
    trail = audit.messages(tmp_path / "data")
    assert {audit.requestor(m) for m in audit.of_event(trail, "110112")} == {getpass.getuser()}
    (arrived,) = audit.of_event(trail, "110104")
    assert audit.roles(arrived)["110153"] == f"{orthanc.url}/dicom-web"
    assert sum(audit.classes(arrived).values()) == 10
    lines = b"".join(audit.lines(tmp_path / "data"))
    assert b"SECRET" not in lines
    assert b"ACC-cli" not in lines
