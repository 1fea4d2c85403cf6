"""Strangers at the web port: health is answered whatever they hold, and nothing is said twice or under another name."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dicom_node.database.connection import Database, prepare_database
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.web import connections, request_guard, server
from dicom_node.web.status_page import Page
from tests.fakes import wire
from tests.fakes.scu import free_port
from tests.fakes.stops import ImpatientStop
from tests.faults.node import Role, until

HEAD_S = 1.0


@pytest.fixture
def port(node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The web server of this process, with short deadlines."""
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", HEAD_S)
    web = node_settings.web.model_copy(update={"port": free_port(), "hosts": ("node.hospital.example",)})
    stop = ImpatientStop()
    settings = node_settings.model_copy(update={"web": web})
    runner = threading.Thread(target=server.run_web, args=(settings, database, stop))
    runner.start()
    until(lambda: answers(web.port))
    yield web.port
    stop.set()
    runner.join(10)
    assert not runner.is_alive()


def answers(port: int) -> bool:
    try:
        return status(port, "/healthz") == 200
    except OSError:
        return False


def request(path: str, host: str = "127.0.0.1", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


def ask(port: int, data: bytes, seconds: float = 10) -> bytes:
    """All that comes until the server closes the connection."""
    with wire.connect(port, timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while block := connection.recv(65536):
            answer += block
        return answer


def status(port: int, path: str, host: str = "127.0.0.1") -> int:
    answer = ask(port, request(path, host, "Connection: close\r\n"))
    return int(answer.split(maxsplit=2)[1])


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: "], ids=["silent", "half a head"])
def test_idle_sockets__health_is_answered_and_they_end(port: int, start: bytes) -> None:
    held = [wire.connect(port) for _ in range(3 * connections.MOST_WAITING)]
    for connection in held:
        with suppress(OSError):
            connection.sendall(start)
    assert [status(port, path) for path in ("/healthz", "/healthz")] == [200, 200]
    assert status(port, "/readyz") == 503
    assert wire.is_closed(held[0], HEAD_S)
    assert wire.is_closed(held[-1], 3 * HEAD_S)
    for connection in held:
        connection.close()


def test_one_address__holds_a_few_connections_without_a_head(port: int) -> None:
    held = [wire.connect(port) for _ in range(connections.MOST_WAITING_OF_ONE + 5)]
    assert [wire.is_closed(connection, HEAD_S / 2) for connection in held[:5]] == [True] * 5
    assert not wire.is_closed(held[-1], 0.01)
    for connection in held:
        connection.close()


@pytest.mark.parametrize("before", [b"", request("/healthz")], ids=["first", "after an answer"])
def test_a_head_byte_by_byte__meets_a_deadline(port: int, before: bytes) -> None:
    with wire.connect(port) as connection:
        connection.sendall(before)
        began = time.monotonic()
        assert wire.is_cut(connection, b"G", times=100, pause=0.05)
        assert time.monotonic() - began < 3 * HEAD_S


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The status page is not ready before this event."""
    goes_on = threading.Event()

    def render(*arguments: object) -> Page:
        goes_on.wait(20)
        return Page("page", ())

    monkeypatch.setattr("dicom_node.web.app.render_page", render)
    yield goes_on
    goes_on.set()


def test_all_places_held__health_and_readiness_are_answered(stuck: threading.Event, port: int) -> None:
    held = []
    for _ in range(request_guard.MOST_REQUESTS):
        held.append(wire.connect(port))
        held[-1].sendall(request("/"))
    until(lambda: status(port, "/style.css") == 503, 5)
    assert status(port, "/healthz") == 200
    assert b"ready" in ask(port, request("/readyz", more="Connection: close\r\n"))
    stuck.set()
    assert all(connection.recv(100).startswith(b"HTTP/1.1 200") for connection in held)
    assert status(port, "/") == 200
    for connection in held:
        connection.close()


def test_an_answer__has_a_deadline(stuck: threading.Event, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ANSWER_WITHIN_S", 3 * HEAD_S)
    with wire.connect(port) as connection:
        connection.sendall(request("/"))
        assert not wire.is_closed(connection, 1.5 * HEAD_S)
        assert wire.is_closed(connection, 4 * HEAD_S)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_length_and_chunks_at_once__one_answer(port: int, method: str) -> None:
    """Whoever trusts the length sees one request here, whoever trusts the chunks sees two."""
    smuggled = (
        f"{method} /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 55\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    answer = ask(port, smuggled.encode() + request("/healthz", "a", "Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Content-Length or Transfer-Encoding, not both" in answer


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("127.0.0.1:8080", "/", 200),
        ("192.0.2.7", "/", 200),
        ("[2001:db8::1]:8080", "/", 200),
        ("localhost:8080", "/", 200),
        ("node.localhost", "/", 200),
        (socket.gethostname().upper(), "/", 200),
        ("node.hospital.example:443", "/", 200),
        ("Node.Hospital.Example.", "/", 200),
        ("attacker.example", "/", 421),
        ("127.0.0.1.attacker.example", "/style.css", 421),
        ("localhost.attacker.example", "/", 421),
        ("attacker.example", "/healthz", 200),
        ("attacker.example", "/readyz", 503),
        ("node:8080", "/metrics", 200),
        ("", "/", 400),
        ("a b", "/", 400),
        ("user@127.0.0.1", "/", 400),
    ],
)
def test_host__names_of_the_node_only(port: int, host: str, path: str, expected: int) -> None:
    assert status(port, path, host) == expected


def test_host__an_unknown_name_is_told_what_to_do(port: int) -> None:
    answer = ask(port, request("/", "attacker.example", "Connection: close\r\n"))
    assert b"add it to hosts in [web] of node.toml" in answer
    assert b"attacker" not in answer


def test_no_descriptor_is_left__one_log_line_and_health_is_answered(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "node.toml"
    config.write_text(f"[web]\nport = {port}\n")
    settings = load_settings(config)
    settings.data_dir.mkdir()
    prepare_database(settings.database).close()
    web = Role("web", config, tmp_path / "web.log")
    try:
        assert answers(port)
        _, most = resource.prlimit(web.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(web.process.pid, resource.RLIMIT_NOFILE, (web.descriptors + 8, most))
        held = [wire.connect(port) for _ in range(30)]
        until(lambda: "no_descriptor" in web.log)
        assert answered_within(port, 15)
        assert web.log.count("\n") < 20
        assert web.log.count('"event": "no_descriptor"') == 1
        for connection in held:
            connection.close()
        assert web.stop() == 0
    finally:
        if web.is_running():
            web.kill()


def answered_within(port: int, seconds: float) -> bool:
    """Whether a single connection, that waits in the backlog like those of others, gets its answer."""
    return ask(port, request("/healthz", more="Connection: close\r\n"), seconds).startswith(b"HTTP/1.1 200")
