"""Floods of strangers: what they cost is small, and a permitted sender is served while they last."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.listener import StorageListener
from dicom_node.settings.node import NodeSettings
from tests.fakes import wire
from tests.fakes.datasets import mr_image
from tests.fakes.scu import association, free_port, send
from tests.faults.node import running_listener, until

# How long each write takes on the slow disk (seconds), and how many calls come at once.
SLOW_S, CALLS = 0.2, 40


@pytest.fixture
def slow_disk(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every transaction takes a while, one after the other; returns when each began."""
    turn, write, began = threading.Lock(), database.write, []

    @contextmanager
    def slow(**options: bool) -> Iterator[Session]:
        with turn:
            began.append(time.monotonic())
            time.sleep(SLOW_S)
            with write(**options) as session:
                yield session

    monkeypatch.setattr(database, "write", slow)
    return began


def test_refused_calls__write_together_and_none_is_lost(
    database: Database, node_settings: NodeSettings, slow_disk: list[float]
) -> None:
    """Forty writes of their own would take eight seconds, and a sender would wait behind them."""
    listening = node_settings.listener.model_copy(update={"port": free_port()})
    peers = [{"ae_title": "TEST"}]
    settings = NodeSettings(**{**node_settings.model_dump(), "listener": listening.model_dump(), "peers": peers})
    listener = StorageListener(settings, database, InstanceStore.of(settings, database))
    listener.start()
    threads, began = threading.active_count(), time.monotonic()
    strangers = [wire.connect(listener.port, timeout=30) for _ in range(CALLS)]
    for number, stranger in enumerate(strangers):
        stranger.sendall(wire.associate(calling=f"EVIL{number}"))
    assert send(listener.port, mr_image(1)) == [0]
    assert {wire.kind(wire.answer(stranger)) for stranger in strangers} == {"rejected"}
    assert time.monotonic() - began < CALLS * SLOW_S / 2
    # What the served association leaves behind, at most.
    assert threading.active_count() <= threads + 4
    for stranger in strangers:
        stranger.close()
    listener.stop()
    # The image, the first report and the last one.
    assert len(slow_disk) <= 5
    with database.read() as session:
        (alert,) = open_alerts(session)
    assert (alert.subject, alert.count) == ("127.0.0.1: unknown calling AE title", CALLS)


def test_no_descriptor_is_left__one_log_line_no_busy_loop_and_a_sender_is_served(tmp_path: Path) -> None:
    with running_listener(tmp_path, "pdu_timeout_s = 30") as listener:
        assert send(listener.port, mr_image(1)) == [0]
        _, most = resource.prlimit(listener.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(listener.process.pid, resource.RLIMIT_NOFILE, (listener.descriptors + 8, most))
        silent = [wire.connect(listener.port) for _ in range(20)]
        until(lambda: "no_descriptor" in listener.log)
        before, began = listener.processor_s, time.monotonic()
        with association(listener.port, timeout=20) as opened:
            assert opened.send_c_echo().Status == 0
        time.sleep(1)
        assert listener.processor_s - before < (time.monotonic() - began) / 2
        assert listener.log.count('"event": "no_descriptor"') == 1
        for connection in silent:
            connection.close()
