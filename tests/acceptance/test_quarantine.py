"""`dicom-node quarantine`: what was put aside is listed with its reason, taken in by all checks of intake, or deleted."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion
from dicom_node.analysis.worker import Worker
from dicom_node.cli.app import main
from dicom_node.database.connection import Database, open_database
from dicom_node.database.tables import Instance, Job
from dicom_node.images import quarantine
from dicom_node.images.store import InstanceStore
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now
from tests.fakes import audit
from tests.fakes.datasets import STUDY, encode, incoming, mr_image
from tests.fakes.detector import FakeDetector
from tests.unit.upkeep.test_retention import receive


class Node:
    """A node that `init` made, and its commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self._capsys = folder / "node.toml", capsys
        self.run("init", "--dir", str(folder), config=False)
        self.settings = load_settings(self.config)
        self.database: Database = open_database(self.settings.database)
        self.store = InstanceStore.of(self.settings, self.database)
        self.folder = self.settings.data_dir / "quarantine"

    def run(self, *arguments: str, config: bool = True, status: int = 0) -> str:
        """What a command prints on both streams."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *(("--config", str(self.config)) if config else ())])
        said = self._capsys.readouterr()
        assert int(ended.value.code or 0) == status, said
        return said.out + said.err

    def listed(self) -> list[dict[str, Any]]:
        return json.loads(self.run("quarantine", "list", "--json"))

    def images(self) -> list[tuple[str, bool]]:
        with self.database.read() as session:
            rows = session.scalars(select(Instance).order_by(Instance.id))
            return [(row.calling_ae, row.is_current) for row in rows]

    def open_alerts(self) -> list[str]:
        with self.database.read() as session:
            return [alert.kind for alert in open_alerts(session)]


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Node:
    return Node(tmp_path, capsys)


def without_study(number: int = 1) -> Dataset:
    image = mr_image(number)
    del image.StudyInstanceUID
    return image


def damage(node: Node, uid: str) -> None:
    """Change the bytes of a stored image on the disk."""
    with node.database.read() as session:
        path = session.scalars(select(Instance.path).where(Instance.sop_instance_uid == uid)).one()
    (node.settings.data_dir / path).write_bytes(b"damaged")


def commands(node: Node) -> list[str]:
    """What the audit log says of the commands of people."""
    return [audit.detail(message, "Alert Description") for message in audit.messages(node.settings.data_dir)]


def test_list__says_the_reason_of_each_file_even_of_two_with_one_uid(node: Node) -> None:
    assert node.run("quarantine", "list") == "no files in quarantine\n"
    node.store.receive(incoming(mr_image()))
    node.store.receive(incoming(mr_image(fill=8)))
    image = without_study()
    node.store.receive(incoming(image, calling_ae="ROUTER"))
    found = node.listed()
    assert [(row["reason"], row["from"]) for row in found] == [
        ("the same SOP Instance UID was received with other pixels", "TEST"),
        ("StudyInstanceUID is missing", "ROUTER"),
    ]
    assert {row["file"] for row in found} == {path.name for path in node.folder.iterdir()}
    text = node.run("quarantine", "list", "--wide")
    assert "StudyInstanceUID is missing" in text
    assert "SECRET" not in text


def test_list__says_since_when_even_of_a_file_that_came_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.store.receive(incoming(without_study()))
    (first,) = node.listed()
    later = utc_now() + timedelta(hours=1)
    monkeypatch.setattr(quarantine, "utc_now", lambda: later)
    node.store.receive(incoming(without_study()))
    assert node.listed() == [first]


def test_show__says_what_it_is_without_patient_data(node: Node) -> None:
    node.store.receive(incoming(mr_image()))
    node.store.receive(incoming(mr_image(fill=8)))
    (row,) = node.listed()
    found = json.loads(node.run("quarantine", "show", row["file"][:8], "--json"))
    assert (found["Modality"], found["Rows"], found["SOPInstanceUID"]) == ("MR", "8", mr_image().SOPInstanceUID)
    assert found["sop_class"] == "MR Image Storage"
    text = node.run("quarantine", "show", row["file"])
    assert "SECRET" not in text
    assert "t2_tse" not in text
    assert STUDY in text


def test_show__a_file_that_cannot_be_read(node: Node) -> None:
    (node.folder / "junk.dcm").write_bytes(b"no DICOM")
    assert "cannot be read" in node.run("quarantine", "show", "junk")
    assert "not recorded" in node.run("quarantine", "list")
    assert "stays in quarantine: it is no whole DICOM file" in node.run("quarantine", "release", "junk", status=1)


def test_reason__of_a_file_from_before_there_were_notes_comes_from_its_alert(node: Node) -> None:
    node.store.receive(incoming(without_study(), calling_ae="ROUTER"))
    for note in (node.settings.data_dir / "quarantine-notes").iterdir():
        note.unlink()
    (row,) = node.listed()
    assert (row["reason"], row["from"]) == ("StudyInstanceUID is missing", "ROUTER")


def test_release__what_is_still_wrong_stays(node: Node) -> None:
    node.store.receive(incoming(mr_image()))
    node.store.receive(incoming(without_study(2)))
    node.store.receive(incoming(mr_image(3), data=encode(mr_image(3))[:-40]))
    for row in node.listed():
        said = node.run("quarantine", "release", row["file"], status=1)
        assert f"{row['file']} stays in quarantine: " in said
    assert len(node.listed()) == 2
    assert node.images() == [("TEST", True)]


@pytest.mark.parametrize("changes", [{"fill": 8}, {"fill": 8, "name": "OTHER^PATIENT"}])
def test_release__never_gets_round_a_conflict(node: Node, changes: dict[str, Any]) -> None:
    node.store.receive(incoming(mr_image()))
    node.store.receive(incoming(mr_image(**changes)))
    (row,) = node.listed()
    assert "with other pixels" in node.run("quarantine", "release", row["file"], status=1)
    assert [path.name for path in node.folder.iterdir()] == [row["file"]]
    assert node.images() == [("TEST", True)]
    assert node.open_alerts() == ["quarantine"]


def test_release__when_the_cause_is_gone_it_is_an_arrival_like_any(node: Node) -> None:
    node.store.receive(incoming(mr_image()))
    node.store.receive(incoming(mr_image(fill=8), calling_ae="ROUTER"))
    # The first version was damaged on the disk since: now any whole version is better, as intake says.
    damage(node, mr_image().SOPInstanceUID)
    (row,) = node.listed()
    assert f"{row['file']}: taken in as {mr_image().SOPInstanceUID}" in node.run("quarantine", "release", row["file"])
    assert node.images() == [("TEST", False), ("ROUTER", True)]
    assert node.listed() == []
    assert "quarantine" not in node.open_alerts()
    assert any(f"release of {row['file']}" in said for said in commands(node))


def test_release__another_patients_image_puts_its_study_aside(node: Node) -> None:
    """Whose image it is, is judged with the study: a release is no way round that."""
    receive(node.database, node.store, *range(1, 6))
    Worker(node.settings, node.database, FakeDetector()).run_once()
    other = mr_image(5, name="OTHER^PATIENT", fill=8)
    other.PatientID = "OTHER-ID"
    node.store.receive(incoming(other))
    damage(node, mr_image(5).SOPInstanceUID)
    (row,) = node.listed()
    node.run("quarantine", "release", row["file"])
    with node.database.write() as session:
        completion.complete_due(session, now=utc_now() + timedelta(hours=1), quiet_seconds=1, max_wait_seconds=1)
        session.execute(update(Job).values(not_before=utc_now()))
    Worker(node.settings, node.database, FakeDetector()).run_once()
    assert node.open_alerts() == ["two_patients"]


def test_delete__asks_and_is_audited(node: Node) -> None:
    node.store.receive(incoming(without_study()))
    (row,) = node.listed()
    node.run("quarantine", "delete", row["file"], status=1)
    assert len(node.listed()) == 1
    assert "deleted" in node.run("quarantine", "delete", row["file"], "--yes")
    assert node.listed() == []
    assert list((node.settings.data_dir / "quarantine-notes").iterdir()) == []
    assert node.open_alerts() == []
    assert any(f"deletion of {row['file']}" in said for said in commands(node))


def test_name__that_fits_no_file_or_several(node: Node) -> None:
    for name in ("ab1.dcm", "ab2.dcm"):
        (node.folder / name).write_bytes(b"x")
    assert "several files" in node.run("quarantine", "delete", "ab", "--yes", status=1)
    assert "there is no file" in node.run("quarantine", "show", "zz", status=1)
    assert len(node.listed()) == 2
