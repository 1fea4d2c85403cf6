"""What hospitals send that breaks the standard but can be read: from the sender to the results, with a real listener."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import MRImageStorage
from pynetdicom import _config
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, Job, OutboxRow, ResultFile
from dicom_node.gate.content_tree import children
from dicom_node.images.incoming import encode_file_meta
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.detector import FakeDetector
from tests.fakes.encodings import NAME, before_pixels, disordered, element
from tests.fakes.scu import association, free_port, send
from tests.peers import DCIODVFY, dciodvfy_errors

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}


@pytest.fixture
def settings(node_settings: NodeSettings) -> NodeSettings:
    values = {**node_settings.model_dump(), "destinations": [PACS]}
    values["listener"] |= {"port": free_port()}
    return NodeSettings(**values)


@pytest.fixture
def port(database: Database, settings: NodeSettings) -> Iterator[int]:
    listener = StorageListener(settings, database, InstanceStore.of(settings, database))
    listener.start()
    yield listener.port
    listener.stop()


def send_bytes(port: int, folder: Path, *objects: tuple[Dataset, bytes]) -> list[int]:
    """Send encoded data sets as they are; the statuses."""
    statuses = []
    with pytest.MonkeyPatch.context() as patch, association(port, classes=(MRImageStorage,)) as opened:
        patch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
        for number, (image, data) in enumerate(objects):
            path = folder / f"{number}.dcm"
            path.write_bytes(encode_file_meta(incoming(image, data=data)) + data)
            statuses.append(int(opened.send_c_store(str(path)).Status))
    return statuses


def analyse(database: Database, settings: NodeSettings) -> tuple[Job, dict[str, Path]]:
    """Close the study and analyse it; its job and the files of the result by role."""
    with database.write() as session:
        later = utc_now() + timedelta(hours=1)
        completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
        for job in session.scalars(select(Job)):
            job.not_before = utc_now()
    assert Worker(settings, database, FakeDetector()).run_once()
    with database.read() as session:
        (job,) = session.scalars(select(Job)).all()
        return job, {row.role: settings.data_dir / row.path for row in session.scalars(select(ResultFile))}


def alerts(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(alert.kind, alert.detail) for alert in open_alerts(session)]


@pytest.mark.parametrize("kind", ["tail", "end", "private", "swap", "twice"])
def test_elements_out_of_order_are_kept_and_analysed(
    port: int, database: Database, settings: NodeSettings, tmp_path: Path, kind: str
) -> None:
    images = [mr_image(n) for n in range(1, 6)]
    sent = [disordered(image, kind) for image in images]
    assert send_bytes(port, tmp_path, *zip(images, sent, strict=True)) == [0] * 5
    with database.read() as session:
        rows = session.scalars(select(Instance).order_by(Instance.sop_instance_uid)).all()
    for row, data in zip(rows, sent, strict=True):
        assert (settings.data_dir / row.path).read_bytes().endswith(data)
    job, files = analyse(database, settings)
    assert (job.state, job.reason) == ("done", "analysed")
    assert pydicom.dcmread(files["report"]).PatientName == "SECRET^NAME"
    assert alerts(database) == []


def test_an_element_twice_with_different_values_is_put_aside(
    port: int, database: Database, settings: NodeSettings, tmp_path: Path
) -> None:
    image = mr_image()
    data = disordered(image, "tail")
    name, _ = element(data, NAME)
    doubled = before_pixels(data, name.replace(b"SECRET", b"PUBLIC"))
    assert send_bytes(port, tmp_path, (image, doubled)) == [0xC000]
    ((kind, detail),) = alerts(database)
    assert (kind, "twice, with different values" in detail, "PUBLIC" in detail) == ("quarantine", True, False)
    (kept,) = (settings.data_dir / "quarantine").iterdir()
    assert kept.read_bytes().endswith(doubled)


def test_modality_and_class_may_be_absent(
    port: int, database: Database, settings: NodeSettings, tmp_path: Path
) -> None:
    images = [mr_image(n) for n in range(1, 6)]
    bare = []
    for image in images:
        whole = disordered(image, "swap")
        for vr in (b"\x08\x00\x16\x00UI", b"\x08\x00\x60\x00CS"):
            _, whole = element(whole, vr)
        bare.append(whole)
    assert send_bytes(port, tmp_path, *zip(images, bare, strict=True)) == [0] * 5
    job, files = analyse(database, settings)
    assert job.reason == "analysed"
    assert pydicom.dcmread(files["report"]).CurrentRequestedProcedureEvidenceSequence


LONG = "Wolfeschlegelsteinhausenbergerdorff-Hohenzollern-Sigmaringen^Maximilian^Anton Emil"
ACCESSION = "HOSPITAL-2026-0000123"


def with_value(keyword: str, value: Any) -> list[Dataset]:
    images = [mr_image(n) for n in range(1, 6)]
    for image in images:
        vr = pydicom.datadict.dictionary_VR(keyword)
        image[keyword] = pydicom.DataElement(keyword, vr, value, validation_mode=pydicom.config.IGNORE)
    return images


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "value", "written"),
    [("PatientName", LONG, LONG.split("^")[0]), ("AccessionNumber", ACCESSION, ""), ("StudyID", "S" * 30, "")],
)
def test_an_identifier_that_is_too_long_is_said(
    port: int, database: Database, settings: NodeSettings, keyword: str, value: str, written: str
) -> None:
    assert send(port, *with_value(keyword, value)) == [0] * 5
    job, files = analyse(database, settings)
    assert job.reason == "analysed"
    (warning,) = json.loads(files["findings"].read_text())["warnings"]
    ((kind, detail),) = alerts(database)
    assert (kind, detail) == ("identifier", warning)
    assert value not in warning
    for role in ("report", "report_2d", "overlay"):
        result = pydicom.dcmread(files[role])
        assert str(result[keyword].value or "") == written
        assert DCIODVFY.exists() is False or dciodvfy_errors(files[role]) == []
    context = children(pydicom.dcmread(files["report"]), codes.DCM.AccessionNumber.value)
    assert [item.TextValue for item in context] == ([value] if keyword == "AccessionNumber" else [])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("keyword", "value"), [("PatientID", ["DOM", "4711"]), ("PatientName", ["A^B", "C^D"])])
def test_a_patient_with_two_values_is_refused_with_a_code(
    port: int, database: Database, settings: NodeSettings, keyword: str, value: list[str]
) -> None:
    assert send(port, *with_value(keyword, value)) == [0] * 5
    job, files = analyse(database, settings)
    assert job.state == "done"
    assert job.reason.startswith("not analysable: unwritable: ")
    assert set(files) == {"findings"}
    with database.read() as session:
        assert session.scalars(select(OutboxRow)).all() == []
    ((kind, detail),) = alerts(database)
    assert (kind, "backslash" in detail, "4711" in detail) == ("identifier", True, False)


def test_the_alert_closes_when_a_correction_fits(port: int, database: Database, settings: NodeSettings) -> None:
    assert send(port, *with_value("AccessionNumber", "A" * 20)) == [0] * 5
    analyse(database, settings)
    assert [kind for kind, _ in alerts(database)] == ["identifier"]
    assert send(port, *with_value("AccessionNumber", "A" * 16)) == [0] * 5
    with database.write() as session:
        completion.complete_due(session, now=utc_now() + timedelta(hours=1), quiet_seconds=1, max_wait_seconds=1)
        for job in session.scalars(select(Job)):
            job.not_before = utc_now()
    assert Worker(settings, database, FakeDetector()).run_once()
    assert alerts(database) == []
