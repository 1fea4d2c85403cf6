"""Pulling studies from Orthanc by C-MOVE and C-GET."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import RLELossless
from sqlalchemy import select

from dicom_node.cli.app import main
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.errors import DeliveryError
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.receiving.pull import Pulled, Retriever
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes import audit
from tests.fakes.datasets import mr_image
from tests.fakes.scu import free_port, send
from tests.peers import ORTHANC, Orthanc, need, running_orthanc

pytestmark = [pytest.mark.orthanc, need(ORTHANC)]
# Each test pulls a study of its own.
STUDIES = {name: f"1.2.826.0.1.3680043.10.77.{number}" for number, name in enumerate(("move", "get", "part", "cli"), 1)}


@pytest.fixture(scope="module")
def node_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def orthanc(node_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    more = {
        "DicomModalities": {"spineone": ["SPINEONE", "127.0.0.1", node_port]},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
    }
    with running_orthanc(tmp_path_factory.mktemp("orthanc") / "pacs", more=more) as running:
        for name, uid in STUDIES.items():
            images = [mr_image(number, study=uid) for number in range(1, 6)]
            report = mr_image(9, study=uid, series=f"{uid}.9")
            report.Modality = "OT"
            for image in (*images, report):
                image.AccessionNumber, image.StudyDate = f"ACC-{name}", "20240315"
            images[4].compress(RLELossless, generate_instance_uid=False)
            assert send(running.port, *images, report, called=running.ae_title) == [0] * 6
        yield running


def settings_of(node_settings: NodeSettings, orthanc: Orthanc, node_port: int, retrieve: str) -> NodeSettings:
    values = node_settings.model_dump()
    values["listener"] |= {"port": node_port}
    archive = {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port, "retrieve": retrieve}
    # Peers are set, so that the archive is let in as an archive.
    peers = [{"ae_title": "ROUTER", "addresses": ["127.0.0.1"]}]
    return NodeSettings(**{**values, "archives": [archive], "peers": peers})


@pytest.fixture
def moving(node_settings: NodeSettings, orthanc: Orthanc, node_port: int, database: Database) -> Iterator[NodeSettings]:
    """C-MOVE, with a listener."""
    settings = settings_of(node_settings, orthanc, node_port, "move")
    listener = StorageListener(settings, database, InstanceStore(database, settings.data_dir))
    listener.start()
    yield settings
    listener.stop()


@pytest.fixture
def getting(node_settings: NodeSettings, orthanc: Orthanc, node_port: int) -> NodeSettings:
    """C-GET, without one."""
    return settings_of(node_settings, orthanc, node_port, "get")


def retriever(settings: NodeSettings, database: Database) -> Retriever:
    return Retriever(settings, database, settings.archives[0])


def check_images(settings: NodeSettings, database: Database, study: str, numbers: range) -> None:
    """The images are on disk bit for bit and indexed, and their study waits for its quiet time."""
    with database.read() as session:
        rows = {r.sop_instance_uid: r for r in session.scalars(select(Instance).where(Instance.study_uid == study))}
        assert session.get_one(StudyRow, study).state == "receiving"
    for number in numbers:
        image = mr_image(number, study=study)
        row = rows[image.SOPInstanceUID]
        stored = pydicom.dcmread(settings.data_dir / row.path)
        assert (stored.pixel_array == image.pixel_array).all()
        assert row.calling_ae == "ORTHANC"


def test_move__brings_the_mr_series_through_the_listener(moving: NodeSettings, database: Database) -> None:
    study = STUDIES["move"]
    assert retriever(moving, database).pull(study, "MR") == Pulled(study, images=5, were_here=0, received=5, missing=0)
    check_images(moving, database, study, range(1, 6))
    assert retriever(moving, database).pull(study, "MR") == Pulled(study, images=5, were_here=5, received=0, missing=0)
    assert retriever(moving, database).pull(study).received == 1


def test_get__brings_them_on_our_own_association(getting: NodeSettings, database: Database) -> None:
    study = STUDIES["get"]
    assert retriever(getting, database).pull(study, "MR") == Pulled(study, images=5, were_here=0, received=5, missing=0)
    check_images(getting, database, study, range(1, 6))


@pytest.mark.parametrize("way", ["moving", "getting"])
def test_pull__completes_what_came_incomplete_or_was_deleted(
    way: str, request: pytest.FixtureRequest, database: Database
) -> None:
    settings, study = request.getfixturevalue(way), STUDIES["part"]
    assert retriever(settings, database).pull(study, "MR").received == 5
    with database.write() as session:
        first, second = session.scalars(select(Instance).order_by(Instance.id).limit(2))
        (settings.data_dir / first.path).unlink()
        first.purged_at = utc_now()
        (settings.data_dir / second.path).unlink()
        session.delete(second)
    assert retriever(settings, database).pull(study, "MR") == Pulled(
        study, images=5, were_here=3, received=2, missing=0
    )
    check_images(settings, database, study, range(1, 6))


def test_move__without_a_listener_says_what_is_missing(
    node_settings: NodeSettings, orthanc: Orthanc, node_port: int, database: Database
) -> None:
    settings = settings_of(node_settings, orthanc, node_port, "move")
    pulled = retriever(settings, database).pull(STUDIES["part"], "MR")
    assert (pulled.received, pulled.missing) == (0, 5)
    assert "status 0x" in pulled.problem


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"StudyInstanceUID": STUDIES["get"]}, {"get"}),
        ({"AccessionNumber": "ACC-part"}, {"part"}),
        ({"PatientID": "SECRET-ID", "StudyDate": "20240301-20240331"}, set(STUDIES)),
        ({"PatientID": "SECRET-ID", "StudyDate": "20250301-20250331"}, set()),
        ({"AccessionNumber": "ACC-none"}, set()),
    ],
)
def test_find_studies(getting: NodeSettings, database: Database, keys: dict[str, str], names: set[str]) -> None:
    found = retriever(getting, database).find_studies(keys)
    assert {study.study_uid for study in found} == {STUDIES[name] for name in names}
    assert all(study.date == "20240315" for study in found)


def test_find_studies__of_an_archive_that_is_down(getting: NodeSettings, database: Database) -> None:
    archive = {**getting.archives[0].model_dump(), "port": free_port()}
    settings = NodeSettings(**{**getting.model_dump(), "archives": [archive]})
    with pytest.raises(DeliveryError, match="cannot be reached"):
        retriever(settings, database).find_studies({"StudyInstanceUID": "1.2"})


def test_command__finds_and_fetches_and_shows_no_patient_data(
    orthanc: Orthanc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        f'[[archives]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {orthanc.port}\nretrieve = "get"\n'
        "[retention]\ndisk_reserve_gb = 0\n"
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
    assert json.loads(listed.out) == [{"study_uid": STUDIES["cli"], "date": "20240315", "modalities": "MR,OT"}]
    assert node("pull", "--study", STUDIES["cli"], "--json") == 0
    fetched = capsys.readouterr()
    assert json.loads(fetched.out)[0]["received"] == 5
    assert "SECRET" not in "".join((*listed, *fetched))
    trail = audit.messages(tmp_path / "data")
    assert len(audit.of_event(trail, "110112")) == 3
    assert {audit.requestor(m) for m in audit.of_event(trail, "110112")} == {getpass.getuser()}
    (arrived,) = audit.of_event(trail, "110104")
    assert (audit.roles(arrived)["110153"], sum(audit.classes(arrived).values())) == ("ORTHANC", 5)
    assert b"SECRET" not in b"".join(audit.lines(tmp_path / "data"))
    assert b"ACC-cli" not in b"".join(audit.lines(tmp_path / "data"))
    assert node("pull", "--query", "StudyDate=20240315", "--limit", "2") == 1
    for wrong in (("--query", "Nonsense=1"), (), ("--study", "1.2", "--archive", "other")):
        assert node("pull", *wrong) == 2
