"""The listener's limits also apply to what an archive sends by C-GET and to what any partner announces."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database
from dicom_node.dicom.budget import Budget
from dicom_node.dicom.remote import RemoteAE
from dicom_node.errors import DeliveryError
from dicom_node.receiving import dimse_pull
from dicom_node.receiving.pull import Retriever
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Partner
from tests.fakes.archive import sending_archive
from tests.fakes.datasets import STUDY, mr_image


def large(number: int) -> Dataset:
    """An image of 6 MB."""
    image = mr_image(number)
    image.Rows, image.Columns = 1000, 3000
    image.PixelData = bytes(6_000_000)
    return image


class Watched(Budget):
    """Remembers the most that was held."""

    def __init__(self, *limits: int) -> None:
        super().__init__(*limits)
        self.peak = 0

    def take(self, association: Any, size: int) -> bool:
        taken = super().take(association, size)
        self.peak = max(self.peak, sum(self._held.values()))
        return taken


def with_limits(settings: NodeSettings, port: int, **limits: int) -> NodeSettings:
    values = settings.model_dump()
    values["listener"] |= limits
    archive = {"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "retrieve": "get"}
    return NodeSettings(**{**values, "archives": [archive]})


@pytest.mark.parametrize("limits", [{"max_object_mb": 2}, {"max_memory_mb": 2}])
def test_get__an_object_over_a_limit_is_refused_and_never_held(
    limits: dict[str, int], node_settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[Watched] = []

    def watched(rules: Any) -> Watched:
        budgets.append(Watched(rules.max_memory_mb * 1_000_000, rules.max_object_mb * 1_000_000))
        return budgets[-1]

    monkeypatch.setattr(dimse_pull.Budget, "of", watched)
    with sending_archive([mr_image(1), large(2), mr_image(3)]) as port:
        settings = with_limits(node_settings, port, **limits)
        pulled = Retriever(settings, database, settings.archives[0]).pull(STUDY, "MR")
    assert (pulled.images, pulled.received, pulled.missing) == (3, 2, 1)
    assert "an object is over max_object_mb or max_memory_mb" in pulled.problem
    assert "1 images failed" in pulled.problem
    assert budgets[0].peak <= 2_000_000
    with database.read() as session:
        (alert,) = open_alerts(session)
    assert (alert.kind, alert.subject) == ("refused", "ARCHIVE: an object is too large")
    assert not list((settings.data_dir / "quarantine").iterdir())


def test_get__within_the_limits_all_is_kept(node_settings: NodeSettings, database: Database) -> None:
    with sending_archive([large(number) for number in range(1, 6)]) as port:
        # This is less than all images together: what was stored is no longer held.
        settings = with_limits(node_settings, port, max_object_mb=7, max_memory_mb=8)
        pulled = Retriever(settings, database, settings.archives[0]).pull(STUDY, "MR")
    assert (pulled.received, pulled.problem) == (5, "")


@pytest.fixture
def endless() -> Iterator[tuple[int, list[int]]]:
    """A partner that announces a PDU of 4 GiB and sends it: its port, and the bytes sent."""
    sent = [0]

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x02\x00\xff\xff\xff\xff")
            try:
                while sent[0] < 200_000_000:
                    sent[0] += connection.send(bytes(65536))
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], sent


def test_partner__that_announces_an_endless_pdu_is_cut_off(endless: tuple[int, list[int]]) -> None:
    port, sent = endless
    partner = Partner(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    with pytest.raises(DeliveryError):
        RemoteAE(partner, calling_ae="SPINEONE", timeout_s=5).echo()
    # What fits the buffers of the sockets.
    assert sent[0] < 20_000_000
