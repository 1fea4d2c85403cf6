"""STOW-RS in: the same commit-then-acknowledge as by C-STORE, under the rules of the peer that the token stands for."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session
from pydicom.uid import JPEG2000Lossless, RLELossless
from requests import HTTPError
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.cli.stow_check import stow_problems
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.errors import NodeError
from dicom_node.health.heartbeats import beating
from dicom_node.health.metrics import NodeCollector
from dicom_node.health.readiness import checks
from dicom_node.images.store import InstanceStore
from dicom_node.processes.supervisor import Supervisor
from dicom_node.settings.node import NodeSettings
from dicom_node.system.lifecycle import StopFlag
from dicom_node.web.stow_server import StowServer, run_stow
from tests.fakes import audit
from tests.fakes.certificates import Certificates
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.scu import free_port
from tests.fakes.stow import OTHER_TOKEN, TOKEN, TYPE, multipart, part10, post, store, stow_server, stow_settings
from tests.faults.node import until


@pytest.fixture
def settings(node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch) -> NodeSettings:
    return stow_settings(node_settings, monkeypatch)


@pytest.fixture
def server(settings: NodeSettings, database: Database) -> Iterator[StowServer]:
    with stow_server(settings, database) as running:
        yield running


def rows(database: Database) -> list[Instance]:
    with database.read() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def test_store__answers_when_the_files_are_on_disk_as_they_came(
    server: StowServer, settings: NodeSettings, database: Database
) -> None:
    images = [mr_image(number) for number in (1, 2)]
    images[1].compress(RLELossless, generate_instance_uid=False)
    images[1].preamble = b"II*\0" + bytes(124)
    answer = store(server.port, images, path=f"/dicom-web/studies/{STUDY}")
    assert answer.status == 200
    assert answer.stored == [image.SOPInstanceUID for image in images]
    assert answer.module["00081190"] == {"vr": "UR"}
    assert "00081198" not in answer.module
    kept = rows(database)
    for image, row in zip(images, kept, strict=True):
        data = part10(image)
        assert (settings.data_dir / row.path).read_bytes() == data
        assert (row.sha256, row.size) == (hashlib.sha256(data).hexdigest(), len(data))
        assert (row.calling_ae, row.calling_address) == ("ROUTER", "127.0.0.1")
        assert row.transfer_syntax_uid == image.file_meta.TransferSyntaxUID
    with database.read() as session:
        study = session.get_one(StudyRow, STUDY)
    assert (study.state, study.stored_images) == ("receiving", 2)
    assert list((settings.data_dir / "spool").iterdir()) == []


def test_store__again_or_by_c_store_is_the_same_instance(
    server: StowServer, settings: NodeSettings, database: Database
) -> None:
    first, second = mr_image(1), mr_image(2)
    assert InstanceStore.of(settings, database).receive(incoming(second)) == 0
    for _ in range(2):
        assert store(server.port, [first, second]).status == 200
    assert InstanceStore.of(settings, database).receive(incoming(second)) == 0
    assert [(row.sop_instance_uid, row.version) for row in rows(database)] == [
        (second.SOPInstanceUID, 1),
        (first.SOPInstanceUID, 1),
    ]


def test_store__of_another_study_than_the_path_fails_by_itself(server: StowServer, database: Database) -> None:
    mine, other = mr_image(1), mr_image(2, study="1.2.3")
    answer = store(server.port, [mine, other], path=f"/dicom-web/studies/{STUDY}")
    assert (answer.status, answer.stored, answer.reasons) == (
        202,
        [mine.SOPInstanceUID],
        {other.SOPInstanceUID: 0xA900},
    )
    answer = store(server.port, [other], path=f"/dicom-web/studies/{STUDY}")
    assert (answer.status, answer.stored, answer.reasons) == (409, [], {other.SOPInstanceUID: 0xA900})
    assert [row.sop_instance_uid for row in rows(database)] == [mine.SOPInstanceUID]


def test_store__the_reason_of_each_failure(server: StowServer, settings: NodeSettings, database: Database) -> None:
    of_class, of_syntax, lies, cut = (mr_image(number) for number in range(1, 5))
    of_class.SOPClassUID = of_class.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.1"
    of_syntax.compress(RLELossless, generate_instance_uid=False)
    of_syntax.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.94"
    parts = [part10(image) for image in (of_class, of_syntax)] + [
        # The class in the file meta is another one.
        part10(lies).replace(b"1.2.840.10008.5.1.4.1.1.4", b"1.2.840.10008.5.1.4.1.1.2", 1),
        part10(cut)[:-20],
        b"no file",
        part10(mr_image(9)),
    ]
    answer = post(server.port, multipart(parts))
    assert answer.status == 202
    assert answer.reasons == {
        of_class.SOPInstanceUID: 0x0122,
        of_syntax.SOPInstanceUID: 0xC122,
        lies.SOPInstanceUID: 0xA900,
        cut.SOPInstanceUID: 0xC000,
    }
    assert (answer.others, answer.stored) == ([0xC000], [mr_image(9).SOPInstanceUID])
    aside = {path.read_bytes() for path in (settings.data_dir / "quarantine").iterdir()}
    assert aside == set(parts[2:5])
    with database.read() as session:
        assert {alert.kind for alert in open_alerts(session)} == {"quarantine"}


def test_part__its_transfer_syntax_must_be_that_of_its_file(server: StowServer, settings: NodeSettings) -> None:
    image = mr_image()
    for syntax, status in ((image.file_meta.TransferSyntaxUID, 200), ("*", 200), (JPEG2000Lossless, 409)):
        head = f'Content-Type: application/dicom; transfer-syntax="{syntax}"\r\n'
        answer = post(server.port, multipart([part10(image)], head))
        assert answer.status == status
    assert answer.reasons == {image.SOPInstanceUID: 0xA900}
    assert [path.read_bytes() for path in (settings.data_dir / "quarantine").iterdir()] == [part10(image)]


def test_other_pixels_under_a_known_uid__go_to_quarantine(
    server: StowServer, settings: NodeSettings, database: Database
) -> None:
    assert store(server.port, [mr_image(1)]).status == 200
    assert store(server.port, [mr_image(1, fill=8)]).status == 200
    assert [path.read_bytes() for path in (settings.data_dir / "quarantine").iterdir()] == [part10(mr_image(1, fill=8))]
    assert len(rows(database)) == 1


def test_refused_callers__alert_and_audit_message_without_the_token(
    server: StowServer, settings: NodeSettings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    store(server.port, [mr_image()], token="a-token-of-nobody-0123456789")
    store(server.port, [mr_image()], token=OTHER_TOKEN)
    server.look()
    with database.read() as session:
        told = {alert.subject: alert.detail for alert in open_alerts(session)}
    assert told == {
        "127.0.0.1: no token of a peer": "calling AE (no token), called AE SPINEONE",
        "127.0.0.1: address not allowed": "calling AE MODALITY, called AE SPINEONE",
    }
    refused = audit.of_event(audit.messages(settings.data_dir), "110113")
    assert {audit.requestor(message) for message in refused} == {"(no token)", "MODALITY"}
    said = capsys.readouterr()
    assert "0123456789" not in said.out + said.err + "".join(map(str, audit.lines(settings.data_dir)))


def test_audit__one_message_for_a_request_and_a_study(server: StowServer, settings: NodeSettings) -> None:
    store(server.port, [mr_image(1), mr_image(2)])
    (message,) = audit.of_event(audit.messages(settings.data_dir), "110104")
    assert (audit.roles(message)["110153"], sum(audit.classes(message).values())) == ("ROUTER", 2)
    assert b"SECRET" not in b"".join(audit.lines(settings.data_dir))


def test_places__of_a_peer(server: StowServer, database: Database) -> None:
    """max_associations of the peer's table counts its requests; the third one is told to come again."""
    goes_on = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"--b\r\n"
        goes_on.wait(20)
        yield multipart([part10(mr_image())])[5:]

    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(server.port, slow()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: server.door.visits() == 2)
        refused = store(server.port, [mr_image(5)])
        assert (refused.status, "too many associations of this peer" in refused.text) == (503, True)
        assert "retry-after" in refused.headers
    finally:
        goes_on.set()
        for thread in threads:
            thread.join(20)
    assert [answer.status for answer in answers] == [200, 200]
    assert store(server.port, [mr_image(6)]).status == 200


def test_dicomweb_client__stores(server: StowServer, database: Database) -> None:
    session = create_session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    client = DICOMwebClient(f"http://127.0.0.1:{server.port}/dicom-web", session=session)
    images = [pydicom.dcmread(BytesIO(part10(mr_image(number)))) for number in range(1, 4)]
    answer = client.store_instances(images, study_instance_uid=STUDY)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
        i.SOPInstanceUID for i in images
    ]
    assert {row.sop_instance_uid for row in rows(database)} == {image.SOPInstanceUID for image in images}
    session.headers["Authorization"] = "Bearer wrong"
    with pytest.raises(HTTPError, match="401"):
        client.store_instances(images)


def test_forwarded_address__is_not_believed(server: StowServer, database: Database) -> None:
    """The modality's address in a header does not make the caller the modality."""
    forwarded = {"X_Forwarded_For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    assert store(server.port, [mr_image()], token=OTHER_TOKEN, **forwarded).status == 403
    assert store(server.port, [mr_image()], **forwarded).status == 200
    assert [row.calling_address for row in rows(database)] == ["127.0.0.1"]


def test_health__needs_no_token(server: StowServer) -> None:
    answer = post(server.port, b"", path="/healthz", token=None, method="GET")
    assert (answer.status, answer.text) == (200, "ok\n")


def test_tls__with_a_client_certificate_that_only_admits(
    node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    certificates.make_authority()
    certificates.make("node")
    certificates.make("sender")
    (authority, _), (certificate, key) = certificates.pair("ca"), certificates.pair("node")
    settings = stow_settings(node_settings, monkeypatch, tls_cert=certificate, tls_key=key, tls_ca=authority)
    with stow_server(settings, database) as server:
        url = f"https://127.0.0.1:{server.port}/dicom-web/studies"
        context = ssl.create_default_context(cafile=str(authority))

        def status(token: str) -> int:
            headers = {"Content-Type": TYPE, "Authorization": f"Bearer {token}"}
            request = urllib.request.Request(url, multipart([part10(mr_image())]), headers)
            try:
                with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        with pytest.raises(OSError, match=r"certificate required|reset|Broken pipe|EOF|closed"):
            status(TOKEN)
        context.load_cert_chain(*certificates.pair("sender"))
        assert (status(TOKEN), status("y" * 32)) == (200, 401)


def test_check__names_what_stow_needs(
    settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert stow_problems(settings) == []
    (tmp_path / "no.pem").write_text("no certificate")
    rules = {"tls_cert": tmp_path / "no.pem", "tls_key": tmp_path / "no.pem"}
    wrong = settings.model_copy(update={"dicomweb": settings.dicomweb.model_copy(update=rules)})
    monkeypatch.setenv("MODALITY_TOKEN", TOKEN)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.dicomweb.port))
        taken.listen()
        assert stow_problems(wrong) == [
            "tokens: the token of MODALITY is that of ROUTER too: one token stands for one peer, once",
            "dicomweb: certificate and key cannot be used: SSLError",
            f"dicomweb: cannot listen on 127.0.0.1:{settings.dicomweb.port}: Address already in use",
        ]
        # The process itself may be who listens there.
        monkeypatch.setenv("MODALITY_TOKEN", OTHER_TOKEN)
        with beating(database, "stow", every_s=0.05):
            until(lambda: stow_problems(settings) == [])


def test_readiness_and_metrics__know_the_process(settings: NodeSettings, database: Database) -> None:
    def of_stow(used: NodeSettings) -> tuple[list[bool], list[float]]:
        seen = [check.is_well for check in checks(used, database) if check.name == "stow"]
        families = NodeCollector(used, database).collect()
        (processes,) = [family for family in families if family.name == "spineone_processes"]
        return seen, [sample.value for sample in processes.samples if sample.labels["role"] == "stow"]

    off = settings.dicomweb.model_copy(update={"enabled": False})
    assert of_stow(settings.model_copy(update={"dicomweb": off})) == ([], [])
    assert of_stow(settings) == ([False], [0.0])
    with beating(database, "stow", every_s=0.05):
        until(lambda: of_stow(settings) == ([True], [1.0]))


def test_supervisor__starts_it_where_it_is_enabled(settings: NodeSettings, database: Database) -> None:
    off = settings.dicomweb.model_copy(update={"enabled": False})
    for used, times in ((settings, 1), (settings.model_copy(update={"dicomweb": off}), 0)):
        children = Supervisor(used, database, Path("node.toml"))._children
        mine = [child for child in children if child.name == "stow"]
        assert [child.is_optional for child in mine] == [False] * times


def test_port_in_use__is_said(settings: NodeSettings, database: Database) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        rules = settings.dicomweb.model_copy(update={"port": port})
        with pytest.raises(
            NodeError, match=rf"cannot listen on 127.0.0.1:{port} \(\[dicomweb\]\): Address already in use"
        ):
            run_stow(settings.model_copy(update={"dicomweb": rules}), database, StopFlag())
