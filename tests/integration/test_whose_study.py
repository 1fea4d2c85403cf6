"""From an association to the outbox: whose study it is, and that one exam gives one result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from sqlalchemy import select

from dicom_node.cli import offline
from dicom_node.cli.app import main
from dicom_node.database.connection import Database
from dicom_node.database.tables import OutboxRow
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from tests.fakes.datasets import STUDY, mr_image, save
from tests.fakes.detector import FakeDetector
from tests.fakes.scu import free_port, send
from tests.fakes.still_node import StillNode

ANNA = {"PatientID": "PID-A", "PatientName": "ROE^ANNA", "PatientBirthDate": "19500102"}
JOHN = {"PatientID": "PID-B", "PatientName": "DOE^JOHN", "PatientBirthDate": "19990102"}


def images(numbers: range, patient: dict[str, str], **changes: str) -> list[Dataset]:
    made = [mr_image(number) for number in numbers]
    for image in made:
        for keyword, value in {**patient, **changes}.items():
            setattr(image, keyword, value)
    return made


@pytest.fixture
def node(database: Database, node_settings: NodeSettings) -> StillNode:
    return StillNode.with_a_destination(database, node_settings)


@pytest.fixture
def store(node: StillNode) -> Iterator[Callable[[list[Dataset]], None]]:
    """Sends images to a running listener by C-STORE; every one must be taken."""
    values = node.settings.model_dump()
    values["listener"] |= {"port": free_port()}
    settings = NodeSettings(**values)
    listener = StorageListener(settings, node.database, InstanceStore.of(settings, node.database))
    listener.start()

    def run(sent: list[Dataset]) -> None:
        assert send(listener.port, *sent) == [0x0000] * len(sent)

    yield run
    listener.stop()


def outbox(node: StillNode) -> int:
    with node.database.read() as session:
        return len(session.scalars(select(OutboxRow)).all())


@pytest.fixture
def command(node: StillNode) -> Callable[..., int]:
    """Runs a command of this node; its exit status."""
    path = node.settings.data_dir.parent / "node.toml"
    path.write_text(f'data_dir = "{node.settings.data_dir}"\n', encoding="utf-8")

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--config", str(path)])
        return int(ended.value.code or 0)

    return run


def test_two_patients__put_aside__released__and_reported_under_the_right_one(
    node: StillNode,
    store: Callable[[list[Dataset]], None],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store([*images(range(1, 6), ANNA), *images(range(6, 9), JOHN)])
    assert node.work().state == "failed"
    assert (outbox(node), set(node.alerts())) == (0, {"two_patients"})
    capsys.readouterr()
    assert command("status", "--json") == 0
    state: dict[str, Any] = json.loads(capsys.readouterr().out)
    (study,) = state["studies"]
    assert (study["state"], study["reason"].partition(":")[0]) == ("failed", "two_patients")
    assert [alert["kind"] for alert in state["alerts"]] == ["two_patients"]

    assert command("release", STUDY, "--patient", "PID-X") == 1
    assert capsys.readouterr().err.splitlines() == [
        f"settings {node.settings.data_dir.parent / 'node.toml'}",
        f"error: no image of study {STUDY} says this of its patient",
    ]
    assert command("release", STUDY, "--patient", "PID-A", "--birth-date", "1950") == 2
    assert command("release", STUDY) == 2
    assert command("release", "1.2.3", "--patient", "PID-A") == 1
    assert node.alerts()
    capsys.readouterr()

    assert command("release", STUDY, "--patient", "PID-A") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"study {STUDY}: 5 images are used, 3 are left out",
        "job 2 waits for a worker",
    ]
    assert node.work().state == "done"
    (report,) = node.reports()
    assert (report.PatientID, report.PatientName) == ("PID-A", "ROE^ANNA")
    assert (outbox(node), node.alerts()) == (3, {})
    assert "3 images of another patient were left out" in node.findings()
    recorded = "".join(path.read_text() for path in (node.settings.data_dir / "audit").glob("*.log"))
    assert f"release of study {STUDY} for one of its patients" in recorded
    assert f"study {STUDY}: 5 images are used, 3 are left out" in recorded
    assert "PID-A" not in recorded


def test_one_exam__one_result(node: StillNode, store: Callable[[list[Dataset]], None]) -> None:
    """A localiser that comes late, and the same images in another syntax, send nothing; a corrected accession does."""
    store(images(range(1, 6), ANNA))
    node.work()
    sent = outbox(node)
    late = images(range(20, 23), ANNA, SeriesDescription="localiser", SeriesInstanceUID=STUDY + ".9")
    store(late)
    assert node.work().result_id == 1
    compressed = images(range(1, 6), ANNA)
    for image in compressed:
        image.compress(RLELossless, generate_instance_uid=False)
    store(compressed)
    assert (node.work().result_id, outbox(node), len(node.reports())) == (1, sent, 1)

    store(images(range(1, 6), ANNA, AccessionNumber="A-2"))
    assert node.work().result_id == 2
    first, second = node.reports()
    assert (second.AccessionNumber, outbox(node)) == ("A-2", 2 * sent)
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_release__help_says_what_an_administrator_must_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["release", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("put aside", "Look the study up", "--birth-date", "left out", "correct"):
        assert words in shown


def test_process__refuses_a_study_of_two_patients_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = STUDY + ".5"
    mixed = [*images(range(1, 6), ANNA), *images(range(6, 9), JOHN)]
    good = [mr_image(number, study=other) for number in range(1, 6)]
    for image in [*mixed, *good]:
        save(image, tmp_path / "in" / f"{image.SOPInstanceUID}.dcm")
    monkeypatch.setattr(offline, "load_detector", lambda settings: FakeDetector())
    with pytest.raises(SystemExit) as ended:
        main(["process", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert not ended.value.code
    assert f"{STUDY}: not analysable: two_patients: " in said
    assert f"{other}: analysed" in said
    assert [path.name for path in (tmp_path / "out" / STUDY).iterdir()] == ["findings.json"]
    findings = json.loads((tmp_path / "out" / STUDY / "findings.json").read_text())
    assert (findings["status"], findings["reason"]) == ("not_analysable", "two_patients")
