"""Peers that misbehave, against a listener process: it lives, its memory stays, and a permitted sender is served."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from sqlalchemy import func, select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.tables import Instance
from dicom_node.receiving.anteroom import MOST_WAITING
from tests.fakes import wire
from tests.fakes.datasets import encode, mr_image
from tests.fakes.scu import association, send
from tests.faults.node import Listener, running_listener, until

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    rules = "max_associations = 10\npdu_timeout_s = 2\nidle_timeout_s = 10\nmax_object_mb = 5\nmax_memory_mb = 12"
    with running_listener(tmp_path_factory.mktemp("hostile"), rules) as running:
        assert send(running.port, mr_image(999)) == [0]
        yield running


@pytest.fixture(autouse=True)
def _is_served_afterwards(listener: Listener) -> Iterator[None]:
    """After every fault a permitted sender is served, and nothing was printed but log lines."""
    yield
    print(listener.log[-3000:])
    assert send(listener.port, mr_image(998)) == [0]
    assert "Traceback" not in listener.log
    assert "SECRET" not in listener.log


def instances(listener: Listener) -> int:
    with listener.database.read() as session:
        return session.scalar(select(func.count()).select_from(Instance)) or 0


def alert_kinds(listener: Listener) -> Counter[str]:
    with listener.database.read() as session:
        return Counter({alert.kind: alert.count for alert in open_alerts(session)})


def opened(listener: Listener) -> socket.socket:
    """An established association, by hand."""
    connection = wire.connect(listener.port)
    connection.sendall(wire.associate())
    assert wire.kind(wire.answer(connection)) == "accepted"
    return connection


@pytest.mark.parametrize("kind", [1, 4], ids=["request", "data"])
def test_four_gigabytes_announced(listener: Listener, kind: int) -> None:
    """As the first PDU, and as a later one."""
    before = listener.memory
    with wire.connect(listener.port) if kind == 1 else opened(listener) as connection:
        connection.sendall(bytes([kind, 0]) + b"\xff\xff\xff\xff")
        # Little enough to be taken within the deadline, if nothing but that ended the connection.
        assert wire.is_cut(connection, bytes(MEGABYTE), times=15, pause=0.02)
    assert listener.memory - before < 10 * MEGABYTE


@pytest.mark.parametrize("start", [b"\x01\x00\x00", b"", b"\x01\x00\x00\x00\x01\x00abc"], ids=["header", "no", "body"])
def test_silence(listener: Listener, start: bytes) -> None:
    with wire.connect(listener.port) as connection:
        connection.sendall(start)
        assert wire.is_closed(connection, 6)


def test_silence_in_an_association(listener: Listener) -> None:
    with opened(listener) as connection:
        connection.sendall(b"\x04\x00\x00")
        assert wire.is_closed(connection, 6)


@pytest.mark.parametrize("greeting", [b"\x01\x00\x00\x00\x10\x00", b"\x16\x03\x01\x02\x00"], ids=["request", "other"])
def test_a_byte_at_a_time(listener: Listener, greeting: bytes) -> None:
    """The deadline is one for everything before the association."""
    began = time.monotonic()
    with wire.connect(listener.port) as connection:
        connection.sendall(greeting)
        assert wire.is_cut(connection, b"\0", times=50, pause=0.2)
    assert time.monotonic() - began < 8


def test_a_byte_at_a_time_in_an_association(listener: Listener) -> None:
    """One deadline for each PDU."""
    with opened(listener) as connection:
        connection.sendall(b"\x04\x00\x00\x00\x10\x00")
        assert wire.is_cut(connection, b"\0", times=30, pause=0.2)


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),
        b"\xff" * 5000,
    ],
    ids=["HTTP", "TLS", "random"],
)
def test_other_protocols(listener: Listener, noise: bytes) -> None:
    before = listener.memory
    began = time.monotonic()
    for _ in range(20):
        with wire.connect(listener.port) as connection:
            connection.sendall(noise)
            assert wire.is_closed(connection, 6)
    assert time.monotonic() - began < 2
    assert listener.memory - before < 10 * MEGABYTE


@pytest.mark.parametrize("count", [10, 20, 260])
def test_silent_sockets_take_no_place(listener: Listener, count: int) -> None:
    """As many as associations are allowed, twice that, and more than there are places for connections."""
    silent = [wire.connect(listener.port) for _ in range(count)]
    with association(listener.port) as opened_one:
        assert opened_one.is_established
        assert opened_one.send_c_store(mr_image(997)).Status == 0
        # One thread hears all of them, and past the places for them the oldest makes room.
        assert listener.threads < 40
        assert listener.descriptors < 240
    if count > MOST_WAITING:
        until(lambda: "its place was needed" in listener.log)
    for connection in silent:
        connection.close()


def test_requests_that_cannot_be_read_take_no_place(listener: Listener) -> None:
    """More of them than places, and none of their peers goes away."""
    whole = bytearray(wire.associate())
    # The length of the application context item, then a version of the protocol that does not exist.
    whole[76:78] = b"\xff\xff"
    broken = [wire.connect(listener.port) for _ in range(15)]
    for number, connection in enumerate(broken):
        connection.sendall(bytes(whole) if number % 2 else whole[:6] + b"\0\2" + wire.associate()[8:])
        assert wire.kind(wire.answer(connection)) == ("aborted" if number % 2 else "rejected")
    with association(listener.port) as opened_one:
        assert opened_one.is_established
    for connection in broken:
        connection.close()


def test_later_versions_of_the_protocol_are_no_obstacle(listener: Listener) -> None:
    """Only one bit of the version is tested (PS3.8 9.3.2)."""
    request = wire.associate()
    with wire.connect(listener.port) as connection:
        connection.sendall(request[:6] + b"\0\3" + request[8:])
        assert wire.kind(wire.answer(connection)) == "accepted"


@pytest.mark.parametrize("command", [b"\0" * 50, b"\0\0\2\0\x08\0\0\x001.2.3.4\0"], ids=["no command", "no field"])
def test_a_command_that_is_none_is_answered_with_an_abort(listener: Listener, command: bytes) -> None:
    before = listener.log.count("thread_failed")
    with opened(listener) as connection:
        connection.sendall(wire.pdata(3, command))
        assert wire.kind(wire.answer(connection)) == "aborted"
    assert listener.log.count("thread_failed") == before


def test_an_association_is_cheap(listener: Listener) -> None:
    """Some routers open one for each image: twenty in less than a second of the listener's processor time."""
    before = listener.processor_s
    for _ in range(20):
        with opened(listener) as connection:
            connection.sendall(wire.RELEASE)
            assert wire.kind(wire.answer(connection)) == "released"
    assert listener.processor_s - before < 1


def test_two_hundred_associations_at_once(tmp_path: Path) -> None:
    """Never more than allowed; the others are told so politely, none is left without an answer."""
    with running_listener(tmp_path, "max_associations = 10") as listener:
        connections = [wire.connect(listener.port, timeout=30) for _ in range(200)]
        for connection in connections:
            connection.sendall(wire.associate())
        answers = Counter(wire.kind(wire.answer(connection)) for connection in connections)
        for connection in connections:
            connection.close()
        assert answers == {"accepted": 10, "rejected": 190}
        until(lambda: _can_associate(listener))


def _can_associate(listener: Listener) -> bool:
    with association(listener.port) as again:
        return bool(again.is_established)


def test_an_object_over_the_limit_is_refused_and_the_next_is_taken(listener: Listener) -> None:
    """0xA700, the association goes on, and the object was never held whole."""
    before, fragment = listener.memory, bytes(100_000)
    with opened(listener) as connection:
        large = mr_image(501)
        connection.sendall(wire.store(large)[0])
        for _ in range(250):
            connection.sendall(wire.pdata(0, fragment))
        assert listener.memory - before < 15 * MEGABYTE
        connection.sendall(wire.pdata(2, b"end"))
        assert wire.status_of(wire.answer(connection)) == 0xA700
        connection.sendall(b"".join(wire.store(mr_image(502), message=2)))
        assert wire.status_of(wire.answer(connection)) == 0
    assert alert_kinds(listener)["refused"] >= 1


def test_many_large_objects_at_once_stay_in_the_limit_of_all(listener: Listener) -> None:
    before = listener.memory
    connections = [opened(listener) for _ in range(8)]
    for connection in connections:
        connection.sendall(wire.store(mr_image(503))[0])
        for _ in range(45):
            connection.sendall(wire.pdata(0, bytes(100_000)))
    assert listener.memory - before < 30 * MEGABYTE
    for connection in connections:
        connection.sendall(wire.pdata(2, b""))
    statuses = [wire.status_of(wire.answer(connection)) for connection in connections]
    assert statuses.count(0xA700) >= 5
    assert 0 not in statuses
    for connection in connections:
        connection.close()


def test_a_command_without_end(listener: Listener) -> None:
    before = listener.memory
    with opened(listener) as connection:
        # Far more than it takes: on a busy machine the listener reads on while it is cutting the connection.
        assert wire.is_cut(connection, wire.pdata(1, bytes(10_000)), times=50_000)
    assert listener.memory - before < 10 * MEGABYTE


@pytest.mark.parametrize(
    "pdu",
    [
        wire.pdata(2, b"")[:-2],
        struct.pack(">BBI", 4, 0, 6) + struct.pack(">IBB", 2, 1, 3),
        struct.pack(">BBI", 4, 0, 5) + struct.pack(">IB", 1, 1),
        wire.pdata(3, b"\0" * 50),
        wire.pdata(3, b"\xff" * 50),
        wire.pdata(2, b"data before any command"),
        wire.pdata(3, wire.store(mr_image())[0][12:], context=99) + wire.pdata(2, encode(mr_image()), context=99),
        b"\x99\x00\x00\x00\x00\x04abcd",
    ],
    ids=["short", "empty command", "no header", "zeros", "ones", "no command", "other context", "unknown type"],
)
def test_broken_data(listener: Listener, pdu: bytes) -> None:
    before = instances(listener)
    with opened(listener) as connection:
        connection.sendall(pdu)
        connection.settimeout(5)
        answer = wire.answer(connection)
        assert wire.status_of(answer) != 0
        assert answer or wire.is_closed(connection, 0.1)
    assert instances(listener) == before
    assert "thread_failed" not in listener.log


def test_fragments_of_two_contexts_in_one_message(listener: Listener) -> None:
    """A message has one context (PS3.8 E.2): its transfer syntax is how the data set is read."""
    before, image = instances(listener), mr_image(601)
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    with wire.connect(listener.port) as connection:
        connection.sendall(wire.associate(contexts=[(str(MRImageStorage), str(syntax)) for syntax in syntaxes]))
        assert wire.kind(wire.answer(connection)) == "accepted"
        command, *_ = wire.store(image)
        connection.sendall(command + wire.pdata(2, encode(image, implicit=True), context=3))
        assert wire.kind(wire.answer(connection)) == "aborted"
    assert instances(listener) == before


def test_thousands_of_fragments_in_one_pdu(listener: Listener) -> None:
    """Each is an object of its own in memory, though it has no byte of data."""
    values = b"\0\0\0\2\1\0" * 20_000
    with opened(listener) as connection:
        connection.sendall(wire.store(mr_image(602))[0])
        connection.sendall(struct.pack(">BBI", 4, 0, len(values)) + values)
        assert wire.is_closed(connection, 10)


@pytest.mark.parametrize("uid", ["../../x", "/etc/passwd", "1.2\0.3", "1." + "2" * 63, ""])
def test_uids_that_are_no_names(listener: Listener, uid: str) -> None:
    """Over the wire: whatever the answer is, it is not success, and nothing lies outside the folders."""
    with opened(listener) as connection:
        connection.sendall(b"".join(wire.store(mr_image(), uid=uid or "\0")))
        connection.settimeout(5)
        assert wire.status_of(wire.answer(connection)) != 0
    data = listener.settings.data_dir
    allowed = {
        "instances",
        "quarantine",
        "quarantine-notes",
        "spool",
        "results",
        "node.db",
        "node.db-wal",
        "clock.json",
        "node.db-shm",
        "listener.lock",
        "audit",
    }
    assert {path.name for path in data.iterdir()} <= allowed
    assert {path.suffix for path in (data / "quarantine").rglob("*") if path.is_file()} <= {".dcm"}


@pytest.mark.parametrize("depth", [300, 3000, 20000])
@pytest.mark.parametrize("length", ["undefined", "explicit"])
def test_nested_sequences(listener: Listener, depth: int, length: str) -> None:
    data = nested(depth, explicit=length == "explicit") + encode(mr_image(600))
    with opened(listener) as connection:
        connection.sendall(b"".join(wire.store(mr_image(600), data=data)))
        assert wire.status_of(wire.answer(connection)) in (0xC000, 0xA900, 0x0000)


def nested(depth: int, *, explicit: bool) -> bytes:
    """A sequence in a sequence, ``depth`` times, in explicit little endian."""
    tag, item = b"\x08\x00\x15\x11SQ\0\0", b"\xfe\xff\x00\xe0"
    if not explicit:
        return (tag + b"\xff" * 4 + item + b"\xff" * 4) * depth
    data = b""
    for _ in range(depth):
        data = item + struct.pack("<I", len(data)) + data
        data = tag + struct.pack("<I", len(data)) + data
    return data


def test_a_matrix_that_is_no_matrix(listener: Listener) -> None:
    """65535 x 65535 with 128 bytes: kept or refused, but never allocated."""
    before = listener.memory
    image = mr_image(700)
    image.Rows = image.Columns = 65535
    send(listener.port, image)
    again = mr_image(700, fill=9)
    again.Rows = again.Columns = 65535
    send(listener.port, again)
    assert listener.memory - before < 10 * MEGABYTE


def test_cut_in_the_middle_of_an_object(listener: Listener) -> None:
    before, spool = instances(listener), listener.settings.data_dir / "spool"
    for _ in range(10):
        connection = opened(listener)
        pdus = wire.store(mr_image(800), fragment=100)
        connection.sendall(b"".join(pdus[:-1]) + pdus[-1][:-3])
        connection.close()
    until(lambda: not list(spool.iterdir()))
    assert instances(listener) == before


def test_abort_after_some_images_keeps_those(listener: Listener) -> None:
    before = instances(listener)
    connection = opened(listener)
    for number in range(20):
        connection.sendall(b"".join(wire.store(mr_image(number + 1, study="1.2.50"), message=number + 1)))
        assert wire.status_of(wire.answer(connection)) == 0
    connection.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
    connection.close()
    assert instances(listener) == before + 20


def test_requests_without_waiting_for_answers(listener: Listener) -> None:
    """A thousand requests in one go: cut, or answered one by one; memory stays."""
    before = listener.memory
    connection = opened(listener)
    try:
        for number in range(1000):
            connection.sendall(b"".join(wire.store(mr_image(900), message=number % 60000 + 1)))
    except OSError:
        pass
    connection.close()
    assert listener.memory - before < 30 * MEGABYTE


def test_sigterm_in_the_middle_of_an_association(tmp_path: Path) -> None:
    """What is being sent may end; the process stops cleanly, and what was acknowledged is there."""
    with running_listener(tmp_path) as listener, opened(listener) as connection:
        connection.sendall(b"".join(wire.store(mr_image(1))))
        assert wire.status_of(wire.answer(connection)) == 0
        assert listener.stop() == 0
        assert "Traceback" not in listener.log
        assert instances(listener) == 1
        listener.start()
        assert send(listener.port, mr_image(1), mr_image(2)) == [0, 0]
        assert instances(listener) == 2
