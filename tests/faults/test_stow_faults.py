"""STOW-RS in trouble: each fault gets the standard's status and names what failed; nothing acknowledged is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from dicom_node.database.connection import Database, open_database, prepare_database
from dicom_node.database.tables import Instance
from dicom_node.images import store as instance_store
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.web import connections
from dicom_node.web.stow_server import StowServer
from tests.fakes import wire
from tests.fakes.datasets import mr_image
from tests.fakes.scu import free_port
from tests.fakes.stow import (
    OTHER_TOKEN,
    TOKEN,
    TYPE,
    Answer,
    multipart,
    part10,
    post,
    store,
    stow_server,
    stow_settings,
)
from tests.faults.node import Process, until
from tests.peers import node_command

IDLE_S = 1.0
TYPE_JSON = 'multipart/related; type="application/dicom+json"; boundary=b'
IMAGES = [mr_image(number) for number in range(1, 4)]
UIDS = [image.SOPInstanceUID for image in IMAGES]
HEAD = (
    f"POST /dicom-web/studies HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {TYPE}\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
).encode()


@pytest.fixture
def settings(node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch) -> NodeSettings:
    limits = {"idle_timeout_s": IDLE_S, "max_parts": 3000, "max_request_gb": 0.003}
    made = stow_settings(node_settings, monkeypatch, **limits)
    return made.model_copy(update={"listener": made.listener.model_copy(update={"max_object_mb": 1})})


@pytest.fixture
def server(settings: NodeSettings, database: Database) -> Iterator[StowServer]:
    with stow_server(settings, database) as running:
        yield running


def kept(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Instance.sop_instance_uid)))


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def check_kept(answer: Answer, settings: NodeSettings, database: Database) -> None:
    """What the answer says is stored is indexed, and its file is whole."""
    with database.read() as session:
        rows = {row.sop_instance_uid: row for row in session.scalars(select(Instance))}
    files = {image.SOPInstanceUID: part10(image) for image in IMAGES}
    for uid in answer.stored:
        assert (settings.data_dir / rows[uid].path).read_bytes() == files[uid]


GOOD = multipart(map(part10, IMAGES[:2]))


@pytest.mark.parametrize(
    ("body", "status", "stored"),
    [
        (b"", 400, 0),
        (b"--b--", 400, 0),
        (b"no multipart" * 1000, 400, 0),
        (GOOD.replace(b"--b\r\n", b"--c\r\n"), 400, 0),
        (GOOD[:-10], 202, 1),
        (GOOD.removesuffix(b"--b--\r\n"), 202, 1),
        (GOOD.removesuffix(b"--b--\r\n") + b"--bx\r\n", 202, 1),
        (multipart(map(part10, IMAGES[:2]), "Content-Type: application/dicom\r\n folded\r\n"), 400, 0),
        (multipart(map(part10, IMAGES[:2]), "X: " + "x" * 9000 + "\r\n"), 413, 0),
    ],
    ids=["empty", "no part", "no boundary", "other boundary", "cut", "no end", "long boundary", "folded", "long head"],
)
def test_bad_multipart__what_was_kept_is_named(
    server: StowServer, settings: NodeSettings, database: Database, body: bytes, status: int, stored: int
) -> None:
    answer = post(server.port, body)
    assert answer.status == status
    if stored:
        assert (answer.stored, answer.others) == (UIDS[:stored], [0xC000])
        check_kept(answer, settings, database)
    assert len(kept(database)) == stored
    assert store(server.port, IMAGES).status == 200


@pytest.mark.parametrize(
    "head",
    ["Content-Type: application/dicom+json\r\n", "Content-Type: application/dicom\r\nContent-Encoding: gzip\r\n"],
    ids=["metadata", "compressed"],
)
def test_parts_of_wrong_types__fail_by_themselves(server: StowServer, database: Database, head: str) -> None:
    wrong = multipart([part10(IMAGES[1])], head).removesuffix(b"--b--\r\n")
    answer = post(server.port, wrong + multipart([part10(IMAGES[0])]))
    assert (answer.status, answer.stored, answer.others) == (202, UIDS[:1], [0xC000])
    assert post(server.port, multipart([part10(IMAGES[1])], head)).status == 409
    assert kept(database) == set(UIDS[:1])


def test_huge_part__is_dropped_and_the_next_is_kept(server: StowServer, database: Database) -> None:
    huge = mr_image(7)
    huge.Rows, huge.Columns = 1024, 1024
    huge.PixelData = bytes(2 * 1024 * 1024)
    answer = store(server.port, [IMAGES[0], huge, IMAGES[1]])
    assert (answer.status, answer.stored, answer.reasons) == (202, UIDS[:2], {huge.SOPInstanceUID: 0xA700})
    alone = store(server.port, [huge])
    assert (alone.status, alone.reasons) == (503, {huge.SOPInstanceUID: 0xA700})
    assert kept(database) == set(UIDS[:2])


@pytest.mark.parametrize("is_announced", [True, False], ids=["length", "chunks"])
def test_huge_request__413(server: StowServer, database: Database, is_announced: bool) -> None:
    body = multipart([bytes(100_000)], "Content-Type: text/plain\r\n").removesuffix(b"--b--\r\n") * 60
    if is_announced:
        assert post(server.port, body).status == 413
        return
    image = multipart([part10(IMAGES[0])]).removesuffix(b"--b--\r\n")
    answer = post(server.port, iter([image, *[body[at : at + 65536] for at in range(0, len(body), 65536)]]))
    assert (answer.status, answer.stored, answer.others[-1]) == (202, UIDS[:1], 0xA700)


def test_thousands_of_parts__are_counted(server: StowServer, settings: NodeSettings, database: Database) -> None:
    """Empty parts are one alert and one file of no bytes; the limit ends the rest."""
    image = multipart([part10(IMAGES[0])]).removesuffix(b"--b--\r\n")
    answer = post(server.port, image + multipart([b""] * 4000, "Content-Type: text/plain\r\n"))
    assert (answer.status, answer.stored, len(answer.others)) == (202, UIDS[:1], 3000)
    assert set(answer.others[:-1]) == {0xC000}
    assert answer.others[-1] == 0xA700
    assert store(server.port, IMAGES).status == 200


def test_cut_connection__what_was_kept_stays_and_the_place_is_free(server: StowServer, database: Database) -> None:
    for _ in range(3):
        with wire.connect(server.port) as connection:
            connection.sendall(HEAD + chunk(GOOD[:-100]))
            until(lambda: UIDS[0] in kept(database))
    until(lambda: server.door.visits() == 0)
    assert store(server.port, IMAGES).status == 200
    assert kept(database) == set(UIDS)


def test_silence__in_the_body_is_given_up(server: StowServer, database: Database) -> None:
    with wire.connect(server.port) as connection:
        connection.sendall(HEAD + chunk(GOOD[:-100]))
        began = time.monotonic()
        answer = HTTPResponse(connection)
        answer.begin()
        assert IDLE_S / 2 < time.monotonic() - began < 5 * IDLE_S
        assert answer.status == 202
        assert UIDS[0].encode() in answer.read()
    with wire.connect(server.port) as connection:
        connection.sendall(HEAD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
    assert server.door.visits() == 0


def test_trickle__a_request_has_a_deadline(
    node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stow_settings(node_settings, monkeypatch, request_timeout_s=2 * IDLE_S)
    with stow_server(settings, database) as server, wire.connect(server.port) as connection:
        connection.sendall(HEAD)
        began = time.monotonic()
        connection.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - began < 10 * IDLE_S:
            connection.sendall(chunk(b"-"))
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))
        assert time.monotonic() - began < 4 * IDLE_S


def test_strangers__hold_nothing_for_long(server: StowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent connections, and a wrong token with an endless body: a good sender is served all the while."""
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", IDLE_S)
    held = [wire.connect(server.port) for _ in range(2 * connections.MOST_WAITING)]
    assert store(server.port, IMAGES).status == 200
    with wire.connect(server.port) as connection:
        connection.sendall(HEAD.replace(TOKEN.encode(), b"x" * 30))
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert wire.is_cut(connection, chunk(bytes(1000)), times=100, pause=0.1)
    assert all(wire.is_closed(connection, 3 * IDLE_S) for connection in held)
    for connection in held:
        connection.close()


def test_length_and_chunks_at_once__one_answer(server: StowServer) -> None:
    with wire.connect(server.port) as connection:
        connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"0\r\n\r\n" + HEAD)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_memory__is_bounded_for_all_requests_together(
    node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stow_settings(node_settings, monkeypatch)
    settings = made.model_copy(
        update={"listener": made.listener.model_copy(update={"max_object_mb": 10, "max_memory_mb": 1})}
    )
    large = mr_image(7)
    large.Rows, large.Columns = 1024, 1024
    large.PixelData = bytes(2 * 1024 * 1024)
    with stow_server(settings, database) as server:
        answer = store(server.port, [IMAGES[0], large, IMAGES[1]])
    assert (answer.status, answer.stored, answer.reasons) == (202, UIDS[:2], {large.SOPInstanceUID: 0xA700})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"token": None}, 401),
        ({"token": "x" * 32}, 401),
        ({"token": TOKEN.upper()}, 401),
        ({"token": OTHER_TOKEN}, 403),
        ({"path": "/dicom-web/studies/name^of^someone"}, 400),
        ({"path": "/dicom-web/series"}, 404),
        ({"method": "GET"}, 405),
        ({"content_type": "application/dicom"}, 415),
        ({"content_type": TYPE_JSON}, 415),
        ({"content_type": TYPE_JSON.replace("json", "xml")}, 415),
        ({"content_type": TYPE + "; boundary=c"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Encoding": "deflate"}, 415),
        ({"content_type": "multipart/related; type=application/dicom"}, 400),
        ({"Accept": "application/dicom+xml"}, 406),
    ],
)
def test_refusals__before_the_body_is_read(
    server: StowServer, database: Database, request_: dict[str, str], status: int
) -> None:
    answer = store(server.port, [mr_image()], **request_)
    assert answer.status == status
    assert "SECRET" not in answer.text
    assert TOKEN not in answer.text
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert kept(database) == set()
    assert store(server.port, [mr_image()], Accept="application/json, */*").status == 200


def test_disk_full__503_and_each_instance_is_named(
    server: StowServer, settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(*arguments: object) -> object:
        written.append(1)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        return spool(*arguments)  # type: ignore[arg-type]

    spool = instance_store.write_spool_file
    monkeypatch.setattr(instance_store, "write_spool_file", write)
    answer = store(server.port, IMAGES)
    assert (answer.status, answer.stored, answer.reasons) == (202, UIDS[:1], dict.fromkeys(UIDS[1:], 0xA700))
    check_kept(answer, settings, database)
    answer = store(server.port, IMAGES[1:])
    assert (answer.status, answer.reasons) == (503, dict.fromkeys(UIDS[1:], 0xA700))
    assert "retry-after" in answer.headers
    monkeypatch.setattr(instance_store, "write_spool_file", spool)
    monkeypatch.setattr(InstanceStore, "has_room", lambda self, size=0: False)
    refused = store(server.port, IMAGES)
    assert (refused.status, "disk reserve" in refused.text) == (503, True)


def test_database_locked__the_answer_waits(server: StowServer, settings: NodeSettings, database: Database) -> None:
    locked, released = threading.Event(), []

    def hold() -> None:
        with database.write() as session:
            session.connection()
            locked.set()
            time.sleep(2 * IDLE_S)
            released.append(time.monotonic())

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    answer = store(server.port, IMAGES[:1])
    answered = time.monotonic()
    holder.join()
    assert (answer.status, answer.stored) == (200, UIDS[:1])
    assert answered >= released[0]


def test_database_lost__503_and_nothing_is_acknowledged(
    server: StowServer, settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: object) -> object:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(InstanceStore, "_index_row", lost)
        answer = store(server.port, IMAGES[:2])
    assert (answer.status, answer.reasons) == (503, dict.fromkeys(UIDS[:2], 0xA700))
    assert kept(database) == set()
    assert store(server.port, IMAGES[:2]).status == 200


def test_killed__what_was_acknowledged_is_there(tmp_path: Path) -> None:
    """The process dies in the middle of a request: all that an answer had named is on disk and indexed."""
    config, port = tmp_path / "node.toml", free_port()
    (tmp_path / "token").write_text(TOKEN)
    config.write_text(
        f"""
        data_dir = "data"
        [retention]
        disk_reserve_gb = 0
        [[peers]]
        ae_title = "ROUTER"
        [[tokens]]
        peer = "ROUTER"
        file = "token"
        [dicomweb]
        enabled = true
        port = {port}
        """
    )
    settings = load_settings(config)
    settings.data_dir.mkdir()
    prepare_database(settings.database).close()
    node = Process(node_command("stow", "--config", config), tmp_path / "log", "stow_listening")
    try:
        assert store(port, IMAGES[:2]).stored == UIDS[:2]
        with wire.connect(port) as connection:
            connection.sendall(HEAD + chunk(multipart([part10(IMAGES[2])])[:-200]))
            node.process.kill()
            node.process.wait(10)
        database = open_database(settings.database)
        assert kept(database) == set(UIDS[:2])
        node.start()
        answer = store(port, IMAGES)
        assert answer.stored == UIDS
        check_kept(answer, settings, database)
        database.close()
        node.process.terminate()
        assert node.process.wait(20) == 0
        assert TOKEN not in node.log
    finally:
        node.process.kill()
