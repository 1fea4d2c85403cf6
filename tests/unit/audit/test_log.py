"""Audit messages, the files that hold them, and the way to a repository."""

from __future__ import annotations

import base64
import gc
import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicom_node.alerts.record import open_alerts
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import AuditedStudy, EventOutcome, Participant, Patient
from dicom_node.audit.people import activity, command
from dicom_node.audit.repository import AuditRepository
from dicom_node.audit.spool import files
from dicom_node.audit.transfers import Receiving, Transfer, audit_query
from dicom_node.cli.set_up import check_audit_repository
from dicom_node.database.connection import Database
from dicom_node.dicom.query import query_of
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Partner
from tests.fakes import audit as reading
from tests.fakes.datasets import STUDY as MR_STUDY
from tests.fakes.datasets import incoming, mr_image
from tests.fakes.scu import free_port

MR = "1.2.840.10008.5.1.4.1.1.4"
HOSTILE = '"><EventID/>&lt;\x00\x1b[31m\n\r\t]]>\ud800\ufffe\U0001f600é' + "x" * 5000
STUDY = AuditedStudy("1.2.3", {MR: 15})
THEM = Participant("PACS", audit_message.SOURCE, is_requestor=True, address="192.0.2.7")


def with_audit(settings: NodeSettings, **changes: object) -> NodeSettings:
    return NodeSettings(**{**settings.model_dump(), "audit": {**settings.audit.model_dump(), **changes}})


@pytest.fixture
def log(node_settings: NodeSettings) -> AuditLog:
    return AuditLog(node_settings)


def one_of_each(log: AuditLog) -> None:
    """Every kind of message the node has, once."""
    us = log.node(audit_message.DESTINATION)
    with activity(log, "listener"), command(log, "retry of job 3"):
        pass
    log.record(audit_message.transferred(THEM, us, [STUDY]))
    log.record(audit_message.transferred(THEM, us, [STUDY], failure="refused with status 0xA700"))
    sender = log.node(audit_message.SOURCE, is_requestor=True)
    log.record(audit_message.begin_transferring(sender, Participant("PACS", audit_message.DESTINATION), [STUDY]))
    log.record(audit_message.accessed([log.node(is_requestor=True)], [STUDY]))
    log.record(audit_message.deleted([log.node(is_requestor=True)], STUDY, "evidence: proven"))
    person = Participant("ann", audit_message.SOURCE, is_requestor=True)
    anonymous = AuditedStudy("1.2.3", {MR: 15}, is_anonymized=True)
    log.record(audit_message.exported([person], "file:///srv/out", [anonymous]))
    log.record(audit_message.imported([Participant("ann", audit_message.DESTINATION)], "file:", [STUDY]))
    log.record(audit_message.refused(Participant("EVIL", address="::1"), log.node(), "unknown calling AE title"))
    audit_query(log, Partner(name="pacs", ae_title="PACS", host="pacs.example", port=104), query_of("STUDY", {}))


def test_messages__all_kinds_follow_the_standard(log: AuditLog, node_settings: NodeSettings) -> None:
    one_of_each(log)
    found = reading.messages(node_settings.data_dir)
    events = {reading.code_of(message, "EventIdentification/EventID") for message in found}
    assert events == {"110100", "110102", "110103", "110104", "110105", "110106", "110107", "110112", "110113"}


def test_message__says_who_what_and_how_it_went(log: AuditLog, node_settings: NodeSettings) -> None:
    log.record(audit_message.transferred(THEM, log.node(audit_message.DESTINATION), [STUDY], failure="no room"))
    (message,) = reading.messages(node_settings.data_dir)
    assert reading.roles(message) == {"110153": "PACS", "110152": "SPINEONE"}
    assert reading.requestor(message) == "PACS"
    assert reading.classes(message) == {MR: 15}
    assert message[0].attrib["EventOutcomeIndicator"] == "4"
    assert message.findtext("EventIdentification/EventOutcomeDescription") == "no room"
    sender = message.findall("ActiveParticipant")[0]
    assert sender.attrib["NetworkAccessPointID"] == "192.0.2.7"
    assert sender.attrib["NetworkAccessPointTypeCode"] == "2"
    assert reading.code_of(message, "ParticipantObjectIdentification/ParticipantObjectIDTypeCode") == "110180"


def test_message__hostile_text_stays_text(log: AuditLog, node_settings: NodeSettings) -> None:
    evil = Participant(HOSTILE, is_requestor=True, address=HOSTILE, alternative_id=HOSTILE)
    log.record(audit_message.refused(evil, log.node(), HOSTILE))
    log.record(audit_message.accessed([evil], [AuditedStudy("1.2", {}, Patient(HOSTILE, HOSTILE))]))
    refused, accessed = reading.messages(node_settings.data_dir)
    said = refused.findtext("EventIdentification/EventOutcomeDescription") or ""
    assert said.startswith('"><EventID/>&lt;??[31m')
    assert "😀é" in said
    assert len(said) == 500
    assert reading.detail(refused, "Alert Description") == said
    assert accessed.findall("ParticipantObjectIdentification")[1].attrib["ParticipantObjectID"] == said


def test_message__patient_only_once_and_only_if_given() -> None:
    someone = Patient("4711", "Doe^Jane")
    studies = [AuditedStudy("1.2", {MR: 1}, someone), AuditedStudy("1.3", {MR: 2}, someone)]
    message = audit_message.accessed([THEM], studies)
    encoded = audit_message.encode(message, at=datetime.now(UTC), source_id="SPINEONE", site="North")
    root = ElementTree.fromstring(encoded)
    people = [o for o in root.iter("ParticipantObjectIdentification") if o.get("ParticipantObjectTypeCode") == "1"]
    assert [p.attrib["ParticipantObjectID"] for p in people] == ["4711"]
    assert people[0].findtext("ParticipantObjectName") == "Doe^Jane"
    assert root.find("AuditSourceIdentification").attrib["AuditEnterpriseSiteID"] == "North"  # type: ignore[union-attr]


def test_query__values_that_may_identify_are_written_only_if_asked_for(node_settings: NodeSettings) -> None:
    partner = Partner(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    keys = {"PatientID": "4711", "StudyInstanceUID": "1.2.3", "StudyDate": "20240101", "Modality": "MR"}

    def asked(settings: NodeSettings) -> Dataset:
        audit_query(AuditLog(settings), partner, query_of("STUDY", keys))
        message = reading.messages(settings.data_dir)[-1]
        assert reading.detail(message, "TransferSyntax") == "1.2.840.10008.1.2"
        query = base64.b64decode(message.findtext(".//ParticipantObjectQuery") or "")
        return read_dataset(BytesIO(query), True, True)

    without = asked(node_settings)
    assert (without.StudyInstanceUID, without.Modality, without.QueryRetrieveLevel) == ("1.2.3", "MR", "STUDY")
    assert not without.PatientID
    assert not without.StudyDate
    assert asked(with_audit(node_settings, patient=True)).PatientID == "4711"


def test_activity__a_process_that_fails_is_a_major_failure(log: AuditLog, node_settings: NodeSettings) -> None:
    with pytest.raises(RuntimeError), activity(log, "worker"):
        raise RuntimeError
    started, stopped = reading.messages(node_settings.data_dir)
    assert reading.code_of(started, "EventIdentification/EventTypeCode") == "110120"
    assert reading.code_of(stopped, "EventIdentification/EventTypeCode") == "110121"
    outcomes = [message[0].attrib["EventOutcomeIndicator"] for message in (started, stopped)]
    assert outcomes == [EventOutcome.SUCCESS, EventOutcome.MAJOR_FAILURE]


# ---------------------------------------------------------------- files


def test_files__only_the_node_and_its_group_read_them(log: AuditLog, node_settings: NodeSettings) -> None:
    before = os.umask(0)
    try:
        one_of_each(log)
    finally:
        os.umask(before)
    (path,) = files(node_settings.data_dir / "audit")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_files__a_new_one_is_begun_and_old_ones_go(node_settings: NodeSettings) -> None:
    log = AuditLog(with_audit(node_settings, file_mb=0.005, keep_files=3))
    for _ in range(40):
        log.record(audit_message.accessed([THEM], [STUDY]))
    kept = files(node_settings.data_dir / "audit")
    assert len(kept) == 3
    assert kept[-1].name > "audit-000006.log"
    assert all(path.stat().st_size <= 5000 for path in kept)
    assert len(reading.messages(node_settings.data_dir)) > 10


def test_files__what_the_repository_has_not_got_is_kept(node_settings: NodeSettings) -> None:
    rules = {"file_mb": 0.005, "keep_files": 1, "repository_host": "192.0.2.1"}
    log = AuditLog(with_audit(node_settings, **rules))
    for _ in range(40):
        log.record(audit_message.accessed([THEM], [STUDY]))
    assert len(reading.messages(node_settings.data_dir)) == 40


def test_files__many_writers_at_once_lose_nothing(node_settings: NodeSettings) -> None:
    settings = with_audit(node_settings, file_mb=0.02)
    with ThreadPoolExecutor(8) as pool:
        for number in range(80):
            message = audit_message.accessed([THEM], [AuditedStudy(f"1.2.{number}", {MR: 1})])
            pool.submit(AuditLog(settings).record, message)
    found = reading.messages(node_settings.data_dir)
    assert {m.findtext(".//ParticipantObjectName") for m in found} == {f"1.2.{n}" for n in range(80)}


def test_files__a_torn_line_spoils_no_other(log: AuditLog, node_settings: NodeSettings) -> None:
    one_of_each(log)
    (path,) = files(node_settings.data_dir / "audit")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    log.record(audit_message.accessed([THEM], [STUDY]))
    last = path.read_bytes().split(b"\n")[-2]
    assert reading.check(last).tag == "AuditMessage"
    assert path.read_bytes().startswith(whole[:-30] + b"\n<85>1 ")


def test_log__that_cannot_be_written_holds_nothing_up(
    log: AuditLog, node_settings: NodeSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    from dicom_node.system.log import configure_logging

    configure_logging("info", process="test")
    (node_settings.data_dir / "audit").write_text("a file where the folder should be")
    with command(log, "retry of job 1"):
        pass
    assert '"event": "audit_failed"' in capfd.readouterr().out


def test_log__off_means_off(node_settings: NodeSettings) -> None:
    one_of_each(AuditLog(with_audit(node_settings, enabled=False)))
    assert not (node_settings.data_dir / "audit").exists()


# ---------------------------------------------------------------- associations


def test_transfer__one_message_for_each_study_and_outcome(
    log: AuditLog, database: Database, node_settings: NodeSettings
) -> None:
    transfer = Transfer(log, database, THEM, log.node(audit_message.DESTINATION))
    for number in range(30):
        transfer.note(f"1.2.{number % 2}", MR)
    transfer.note("1.2.0", MR, "refused with status 0xA700")
    transfer.note("", MR, "refused with status 0xC000")
    transfer.report()
    transfer.report()
    found = reading.messages(node_settings.data_dir)
    said = [
        (m.findtext(".//ParticipantObjectName"), reading.classes(m)[MR], m[0].attrib["EventOutcomeIndicator"])
        for m in found
    ]
    assert said == [("1.2.0", 15, "0"), ("1.2.1", 15, "0"), ("1.2.0", 1, "4"), ("unknown", 1, "4")]


def test_receiving__a_refusal_that_repeats_does_not_flood_the_log(
    log: AuditLog, database: Database, node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiving = Receiving(log, database)
    for number in range(95):
        receiving.refused(f"EVIL{number}", "192.0.2.9", "unknown calling AE title")
    receiving.refused("EVIL", "192.0.2.9", "unknown calling AE title", times=5)
    receiving.refused("EVIL", "192.0.2.9", "address not allowed")
    assert len(reading.messages(node_settings.data_dir)) == 2
    now = time.monotonic()
    monkeypatch.setattr("dicom_node.audit.transfers.time.monotonic", lambda: now + 61)
    receiving.refused("EVIL", "192.0.2.9", "unknown calling AE title")
    last = reading.messages(node_settings.data_dir)[-1]
    assert "99 more" in reading.detail(last, "Alert Description")
    assert reading.code_of(last, "EventIdentification/EventTypeCode") == "110126"


def test_receiving__a_sender_that_left_before_the_answer_is_reported_and_forgotten(
    log: AuditLog, database: Database, node_settings: NodeSettings
) -> None:
    receiving = Receiving(log, database)
    association = Mock(**{"is_alive.return_value": True, "requestor.address": "192.0.2.9"})
    receiving.ended(association)
    receiving.stored(association, "ROUTER", "1.2.3", MR, 0)
    receiving.report_quiet()
    assert not reading.messages(node_settings.data_dir)
    association.is_alive.return_value = False
    gone = weakref.ref(association)
    receiving.report_quiet()
    assert len(reading.messages(node_settings.data_dir)) == 1
    del association
    gc.collect()
    assert gone() is None


# ---------------------------------------------------------------- repository


class SyslogServer:
    """A receiver of octet-counted syslog (RFC 5425 4.3), with or without TLS."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.received = b""
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                with connection:
                    while block := connection.recv(65536):
                        self.received += block
            except OSError:
                if self._socket.fileno() < 0:
                    return

    def messages(self, count: int) -> list[bytes]:
        """Wait for ``count`` messages; an assertion fails if the octet counts are wrong."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found, rest = [], self.received
            while b" " in rest:
                size, _, body = rest.partition(b" ")
                if len(body) < int(size):
                    break
                found.append(body[: int(size)])
                rest = body[int(size) :]
            if len(found) >= count:
                assert not rest
                return found
            time.sleep(0.02)
        raise AssertionError(f"{self.received[:200]!r}")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def syslog_server(port: int, tls: ssl.SSLContext | None = None) -> Iterator[SyslogServer]:
    server = SyslogServer(port, tls)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("not installed: openssl")
    pem = tmp_path_factory.mktemp("tls") / "pem"
    command_line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command_line, *names, "-keyout", f"{pem}.key", "-out", pem], check=True, capture_output=True)
    pem.write_text(pem.read_text() + Path(f"{pem}.key").read_text())
    return pem


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_repository__gets_everything_once_also_after_it_was_down(
    transport: str, node_settings: NodeSettings, database: Database, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = free_port()
    rules = {"repository_host": "127.0.0.1", "repository_port": port, "repository_transport": transport}
    settings = with_audit(node_settings, **rules, repository_ca=certificate, file_mb=0.005)
    log, repository = AuditLog(settings), AuditRepository(settings, database)

    def alerts() -> list[str]:
        with database.read() as session:
            return [alert.kind for alert in open_alerts(session)]

    one_of_each(log)
    repository.send_due()
    assert alerts() == ["audit_behind"]
    with syslog_server(port, context if transport == "tls" else None) as server:
        repository.send_due()
        assert server.messages(12) == reading.lines(node_settings.data_dir)
        assert alerts() == []
        log.record(audit_message.accessed([THEM], [STUDY]))
        repository.send_due()
        repository.send_due()
        assert server.messages(13) == reading.lines(node_settings.data_dir)
    repository.close()
    one_of_each(log)
    AuditRepository(settings, database).send_due()
    assert alerts() == ["audit_behind"]
    with syslog_server(port, context if transport == "tls" else None) as server:
        # Another process, after a restart.
        AuditRepository(settings, database).send_due()
        assert server.messages(12) == reading.lines(node_settings.data_dir)[13:]
    assert alerts() == []


def test_check__says_whether_the_repository_answers(
    node_settings: NodeSettings, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = free_port()
    rules = {"repository_host": "127.0.0.1", "repository_port": port}
    trusting = with_audit(node_settings, **rules, repository_ca=certificate)
    assert not check_audit_repository(trusting)
    with syslog_server(port, context):
        assert check_audit_repository(trusting)
        assert not check_audit_repository(with_audit(node_settings, **rules))
    said = capsys.readouterr()
    assert said.out == "ok: audit repository answers\n"
    assert "refused" in said.err
    assert "certificate" in said.err.lower()


def test_study__names_the_patient_only_if_asked_for(node_settings: NodeSettings, database: Database) -> None:
    store = InstanceStore(database, node_settings.data_dir)
    for number in (1, 2):
        assert store.receive(incoming(mr_image(number))) == 0
    study = AuditLog(node_settings).study(database, MR_STUDY)
    assert (study.sop_classes, study.patient) == ({MR: 2}, None)
    named = AuditLog(with_audit(node_settings, patient=True)).study(database, MR_STUDY)
    assert named.patient == Patient("SECRET-ID", "SECRET^NAME")
    assert AuditLog(with_audit(node_settings, patient=True)).study(database, "1.2.3").patient is None


def test_repository__tls_is_verified(node_settings: NodeSettings, database: Database, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = free_port()
    settings = with_audit(node_settings, repository_host="127.0.0.1", repository_port=port)
    one_of_each(AuditLog(settings))
    with syslog_server(port, context) as server:
        AuditRepository(settings, database).send_due()
        assert server.received == b""
    with database.read() as session:
        assert [alert.kind for alert in open_alerts(session)] == ["audit_behind"]


def test_repository__udp(node_settings: NodeSettings, database: Database) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        rules = {"repository_host": "127.0.0.1", "repository_port": receiver.getsockname()[1]}
        settings = with_audit(node_settings, **rules, repository_transport="udp")
        one_of_each(AuditLog(settings))
        AuditRepository(settings, database).send_due()
        assert [receiver.recv(65536) for _ in range(12)] == reading.lines(node_settings.data_dir)


def test_repository__a_torn_line_is_left_out(node_settings: NodeSettings, database: Database) -> None:
    port = free_port()
    rules = {"repository_host": "127.0.0.1", "repository_port": port, "repository_transport": "tcp"}
    settings = with_audit(node_settings, **rules)
    log = AuditLog(settings)
    one_of_each(log)
    (path,) = files(node_settings.data_dir / "audit")
    path.write_bytes(path.read_bytes()[:-30])
    with syslog_server(port) as server:
        repository = AuditRepository(settings, database)
        repository.send_due()
        log.record(audit_message.accessed([THEM], [STUDY]))
        repository.send_due()
        assert [reading.check(line).tag for line in server.messages(12)] == ["AuditMessage"] * 12


@pytest.mark.skipif(shutil.which("rsyslogd") is None and not Path("/usr/sbin/rsyslogd").exists(), reason="no rsyslogd")
def test_repository__rsyslog_takes_the_messages_for_what_they_are(
    node_settings: NodeSettings, database: Database, tmp_path: Path
) -> None:
    port, written = free_port(), tmp_path / "received"
    config = tmp_path / "rsyslog.conf"
    config.write_text(
        f'global(workDirectory="{tmp_path}" maxMessageSize="64k")\n'
        'module(load="imtcp")\n'
        'template(name="parts" type="string" string="%PRI%|%PROTOCOL-VERSION%|%APP-NAME%|%MSGID%|%msg%\\n")\n'
        f'ruleset(name="audit") {{ action(type="omfile" file="{written}" template="parts") }}\n'
        f'input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="audit")\n'
    )
    rsyslogd = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    server = subprocess.Popen([rsyslogd, "-n", "-f", config, "-i", tmp_path / "pid"], stderr=subprocess.DEVNULL)
    try:
        rules = {"repository_host": "127.0.0.1", "repository_port": port, "repository_transport": "tcp"}
        settings = with_audit(node_settings, **rules)
        one_of_each(AuditLog(settings))
        until = time.monotonic() + 20
        while time.monotonic() < until and (not written.exists() or written.read_text().count("\n") < 12):
            AuditRepository(settings, database).send_due()
            time.sleep(0.1)
    finally:
        server.terminate()
        server.wait(timeout=10)
    received = written.read_text().splitlines()
    assert [line.split("|")[:4] for line in received] == [["85", "1", "SpineOneNode", "DICOM+RFC3881"]] * 12
    sent = [line.partition(b" - ")[2].decode() for line in reading.lines(node_settings.data_dir)]
    assert [line.split("|", 4)[4].strip() for line in received] == sent
