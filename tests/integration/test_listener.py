"""The real listener, in this process, with real senders."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from sqlalchemy import func, select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance
from dicom_node.dicom.budget import Budget
from dicom_node.health.metrics import NodeCollector
from dicom_node.images.incoming import encode_file_meta
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.contexts import storage_sop_classes, supported_contexts, transfer_syntaxes
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from tests.fakes import wire
from tests.fakes.datasets import STUDY, incoming, mr_image, save, with_meta
from tests.fakes.scu import association, free_port, send
from tests.faults.node import until

STORESCU = Path("/usr/bin/storescu")
Start = Callable[..., int]


@pytest.fixture
def start(database: Database, node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a listener with changed settings; its port. Refusals are reported at once."""
    monkeypatch.setattr("dicom_node.receiving.admission.REPORT_EVERY_S", 0.01)
    running: list[StorageListener] = []

    def run(**changes: object) -> int:
        values = node_settings.model_dump()
        values["listener"] |= {"port": free_port(), **changes.pop("listener", {})}  # type: ignore[operator]
        settings = NodeSettings(**{**values, **changes})
        listener = StorageListener(settings, database, InstanceStore.of(settings, database))
        listener.start()
        running.append(listener)
        return listener.port

    yield run
    for listener in running:
        listener.stop()


def count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Instance)) or 0


def alerts(database: Database) -> list[Alert]:
    with database.read() as session:
        return list(open_alerts(session))


def refused(database: Database, times: int = 1) -> Alert:
    """The alert about refused associations, once it counts so many; there is no other."""
    until(lambda: sum(alert.count for alert in alerts(database)) >= times, 5)
    (alert,) = alerts(database)
    assert (alert.kind, alert.count) == ("refused", times)
    return alert


def test_echo(start: Start) -> None:
    with association(start()) as opened:
        assert opened.send_c_echo().Status == 0


def test_store__what_was_sent_is_on_disk(start: Start, database: Database, node_settings: NodeSettings) -> None:
    images = [mr_image(n) for n in range(1, 6)]
    assert send(start(), *images) == [0] * 5
    with database.read() as session:
        rows = list(session.scalars(select(Instance).order_by(Instance.sop_instance_uid)))
    assert [pydicom.dcmread(node_settings.data_dir / row.path) for row in rows] == images
    assert {(row.calling_ae, row.calling_address) for row in rows} == {("TEST", "127.0.0.1")}


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
    ],
    ids=lambda uid: uid.name,
)
def test_store__in_common_transfer_syntaxes(
    start: Start, database: Database, node_settings: NodeSettings, syntax: pydicom.uid.UID
) -> None:
    image = mr_image()
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        image.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        image.PixelData = image.pixel_array.astype(">u2").tobytes()
    with_meta(image, syntax)
    assert send(start(), image) == [0]
    with database.read() as session:
        row = session.scalars(select(Instance)).one()
    stored = pydicom.dcmread(node_settings.data_dir / row.path)
    assert row.transfer_syntax_uid == stored.file_meta.TransferSyntaxUID == syntax
    assert (stored.pixel_array == 7).all()


def test_contexts__every_storage_class_and_no_private_one(start: Start) -> None:
    assert len(storage_sop_classes()) > 185
    assert len(supported_contexts()) == len(storage_sop_classes()) + 2
    assert "1.2.840.10008.1.2.4.201" in transfer_syntaxes()
    assert "1.2.840.10008.1.2.4.94" not in transfer_syntaxes()
    retired_ultrasound = "1.2.840.10008.5.1.4.1.1.6"
    private = "1.3.12.2.1107.5.9.1"
    with association(start(), classes=(retired_ultrasound, private)) as opened:
        accepted = {context.abstract_syntax for context in opened.accepted_contexts}
    assert retired_ultrasound in accepted
    assert private not in accepted


def test_store__a_retired_class_is_served(start: Start, database: Database) -> None:
    image = mr_image()
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6"
    assert send(start(), with_meta(image)) == [0]


def test_store__refusals_have_their_status(start: Start, database: Database) -> None:
    without_study = mr_image()
    del without_study.StudyInstanceUID
    assert send(start(), without_study, mr_image(2)) == [0xC000, 0]
    assert alerts(database)[0].kind == "quarantine"


@pytest.mark.skipif(not STORESCU.exists(), reason="needs DCMTK")
def test_store__from_dcmtk(start: Start, database: Database, tmp_path: Path) -> None:
    file = save(mr_image(), tmp_path / "image.dcm")
    port = start()
    done = subprocess.run(
        [str(STORESCU), "-aec", "SPINEONE", "127.0.0.1", str(port), str(file)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert count(database) == 1
    done = subprocess.run(
        [str(STORESCU), "-aec", "WRONG", "127.0.0.1", str(port), str(file)], capture_output=True, check=False
    )
    assert b"Called AE Title Not Recognized" in done.stderr


def test_association__wrong_called_title_is_refused_and_counted(start: Start, database: Database) -> None:
    port = start()
    for _ in range(2):
        with association(port, called="OTHER") as opened:
            assert opened.is_rejected
    assert "wrong called AE title" in refused(database, times=2).subject


def test_association__any_called_title_is_taken_when_the_settings_say_so(start: Start) -> None:
    with association(start(listener={"require_called_ae": False}), called="OTHER") as opened:
        assert opened.is_established


@pytest.mark.parametrize(
    ("peers", "refusal"),
    [
        ([{"ae_title": "TEST"}], ""),
        ([{"ae_title": "TEST", "addresses": ["127.0.0.0/8"]}], ""),
        ([{"ae_title": "TEST", "addresses": ["10.0.0.0/8"]}], "address not allowed"),
        ([{"ae_title": "ROUTER", "addresses": ["127.0.0.1"]}], "unknown calling AE title"),
    ],
)
def test_association__only_peers_may_send(start: Start, database: Database, peers: list[object], refusal: str) -> None:
    with association(start(peers=peers)) as opened:
        assert opened.is_established is not bool(refusal)
        assert opened.is_rejected is bool(refusal)
    if refusal:
        assert refused(database).subject == f"127.0.0.1: {refusal}"
    else:
        assert not alerts(database)


def test_store__without_memory_an_object_in_one_pdu_is_told_to_come_again(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command and data in one P-DATA-TF, as some toolkits send them."""
    port = start()
    monkeypatch.setattr(Budget, "take", lambda *arguments: False)
    fragments = b"".join(pdu[6:] for pdu in wire.store(mr_image()))
    with wire.connect(port) as connection:
        connection.sendall(wire.associate())
        assert wire.kind(wire.answer(connection)) == "accepted"
        connection.sendall(b"\x04\x00" + len(fragments).to_bytes(4, "big") + fragments)
        assert wire.status_of(wire.answer(connection)) == 0xA700
        connection.sendall(wire.ABORT)
    (alert,) = alerts(database)
    assert alert.subject == "TEST: an object is too large"


def test_store__a_study_has_a_largest_size(start: Start, database: Database) -> None:
    port = start(study={"max_images": 3})
    assert send(port, *(mr_image(n) for n in range(1, 6))) == [0, 0, 0, 0xA700, 0xA700]
    # An image that is already here is acknowledged again, and other studies are not affected.
    assert send(port, mr_image(2), mr_image(1, study="1.2.9")) == [0, 0]
    (alert,) = alerts(database)
    assert (alert.kind, alert.subject, alert.count) == ("study_limit", STUDY, 2)
    assert "study.max_images is 3" in alert.detail


def test_store__a_study_has_a_largest_size_in_bytes(start: Start, database: Database) -> None:
    image = incoming(mr_image())
    size = len(image.data) + len(encode_file_meta(image))
    port = start(study={"max_gb": 2.2 * size / 1e9})
    assert send(port, *(mr_image(n) for n in range(1, 5))) == [0, 0, 0xA700, 0xA700]
    assert "it has 2 images" in alerts(database)[0].detail


def test_association__under_the_disk_reserve_all_are_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    port = start()
    monkeypatch.setattr(InstanceStore, "has_room", lambda self, size=0: False)
    with association(port) as opened:
        assert opened.is_rejected


def test_association__more_than_the_most_are_refused_politely(start: Start) -> None:
    port = start(listener={"max_associations": 2})
    with association(port) as first, association(port) as second, association(port) as third:
        assert (first.is_established, second.is_established, third.is_rejected) == (True, True, True)
    time.sleep(0.3)
    with association(port) as again:
        assert again.is_established


def test_association__one_peer_cannot_take_the_places_of_the_others(
    start: Start, database: Database, node_settings: NodeSettings
) -> None:
    noisy = {"ae_title": "NOISY", "max_associations": 2}
    port = start(listener={"max_associations": 4}, peers=[noisy, {"ae_title": "QUIET"}])
    with association(port, calling="NOISY") as first, association(port, calling="NOISY") as second:
        with association(port, calling="NOISY") as third:
            assert (first.is_established, second.is_established, third.is_rejected) == (True, True, True)
            refusal = third.acceptor.primitive
            # Transient, by the presentation-related provider: local limit exceeded (PS3.8 9.3.4).
            assert (refusal.result, refusal.result_source, refusal.diagnostic) == (2, 3, 2)
        with association(port, calling="QUIET") as other, association(port, calling="QUIET") as more:
            assert (other.is_established, more.is_established) == (True, True)
    alert = refused(database)
    assert alert.subject == "127.0.0.1: too many associations of this peer"
    assert "NOISY" in alert.detail
    registry = CollectorRegistry()
    registry.register(NodeCollector(node_settings, database))
    metrics = generate_latest(registry).decode()
    assert 'associations_refused_total{reason="too many associations of this peer"} 1.0' in metrics
    time.sleep(0.3)
    with association(port, calling="NOISY") as again:
        assert again.is_established


def silent(port: int, start: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(start)
    return connection


def test_association__silent_sockets_take_no_place_away(start: Start) -> None:
    port = start(listener={"max_associations": 2})
    connections = [silent(port, b"\x01\x00") for _ in range(6)]
    with association(port) as opened:
        assert opened.is_established
    for connection in connections:
        connection.close()


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(1024):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize(
    "start_bytes",
    [
        b"\x01\x00\xff\xff\xff\xff" + b"x" * 100,
        b"\x01\x00\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"",
    ],
    ids=["4 GiB announced", "half a header", "HTTP", "TLS", "nothing"],
)
def test_connection__what_is_no_association_is_closed_in_time(start: Start, start_bytes: bytes) -> None:
    port = start(listener={"pdu_timeout_s": 0.5})
    connection = silent(port, start_bytes)
    assert closed_within(connection, 5)
    with association(port) as opened:
        assert opened.is_established


def test_connection__dripping_bytes_meets_a_deadline(start: Start) -> None:
    connection = silent(start(listener={"pdu_timeout_s": 0.6}), b"\x01\x00\x00\x00\x10\x00")
    began = time.monotonic()
    try:
        while time.monotonic() - began < 6:
            connection.sendall(b"x")
            time.sleep(0.1)
    except OSError:
        pass
    assert time.monotonic() - began < 4


def test_store__cut_in_the_middle_leaves_nothing(start: Start, database: Database, node_settings: NodeSettings) -> None:
    port = start()
    image = mr_image()
    image.PixelData = b"\0" * 30_000_000
    with association(port, timeout=1) as opened:
        raw = opened.dul.socket.socket
        threading.Timer(0.1, lambda: raw.shutdown(socket.SHUT_RDWR)).start()
        status = opened.send_c_store(image)
        assert "Status" not in status
    assert send(port, mr_image(2)) == [0]
    assert count(database) == 1
    assert len([p for p in node_settings.data_dir.rglob("*") if p.suffix in (".dcm", ".tmp")]) == 1


def test_store__the_same_image_from_many_senders_at_once_is_one_instance(start: Start, database: Database) -> None:
    port = start()
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda n: send(port, mr_image(1), mr_image(n)), range(6)))
    assert statuses == [[0, 0]] * 6
    assert count(database) == 6
    assert alerts(database) == []


def test_log__no_patient_data(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    from dicom_node.system.log import configure_logging

    configure_logging("debug", process="test", stream=sys.stdout)
    without_study = mr_image(1)
    del without_study.StudyInstanceUID
    send(start(), mr_image(), without_study)
    written = capfd.readouterr()
    assert "quarantine" in written.out
    assert "SECRET" not in written.out + written.err


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls__a_silent_peer_holds_up_nobody_and_a_plain_one_fails_fast(
    start: Start, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    port = start(listener={"tls_cert": cert, "tls_key": key, "pdu_timeout_s": 5})
    # One says nothing, the other one half a hello.
    quiet = [silent(port), silent(port, b"\x16\x03\x01\x02\x00\x01")]
    context = ssl.create_default_context(cafile=str(cert))
    began = time.monotonic()
    with association(port, tls=(context, "127.0.0.1")) as opened:
        assert time.monotonic() - began < 4
        assert opened.is_established
        assert opened.send_c_store(mr_image()).Status == 0
    assert [closed_within(connection, 7) for connection in quiet] == [True, True]
    began = time.monotonic()
    with association(port) as plain:
        assert not plain.is_established
    assert time.monotonic() - began < 5
