"""pynetdicom's global switches: nobody makes an application entity without them."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from pynetdicom import _config, dul

import dicom_node
from dicom_node.delivery.store_scu import Sender
from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dicom.pynetdicom_setup import application_entity, set_up_pynetdicom
from dicom_node.dicom.remote import RemoteAE
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Partner
from tests.fakes.scu import free_port

SWITCHES = {
    "LOG_HANDLER_LEVEL": "none",
    "LOG_REQUEST_IDENTIFIERS": False,
    "LOG_RESPONSE_IDENTIFIERS": False,
    "UNRESTRICTED_STORAGE_SERVICE": False,
    "STORE_SEND_CHUNKED_DATASET": True,
}
# The demo has its own PACS.
EXCEPT = {"dicom/pynetdicom_setup.py", "demo.py"}


@pytest.fixture
def as_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The opposite of every switch."""
    for name, value in SWITCHES.items():
        monkeypatch.setattr(_config, name, "standard" if value == "none" else not value)


def switches() -> dict[str, object]:
    return {name: getattr(_config, name) for name in SWITCHES}


@pytest.mark.usefixtures("as_delivered")
def test_application_entity__sets_the_switches() -> None:
    ae = application_entity("SPINEONE")
    assert switches() == SWITCHES
    assert ae.ae_title == "SPINEONE"
    assert ae.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert ae.implementation_version_name == IMPLEMENTATION_VERSION_NAME


@pytest.mark.usefixtures("as_delivered")
def test_call__sets_the_switches() -> None:
    remote = RemoteAE(
        Partner(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port()), calling_ae="A", timeout_s=1
    )
    assert switches() != SWITCHES
    with pytest.raises(DeliveryError):
        remote.echo()
    assert switches() == SWITCHES


def test_node__makes_application_entities_in_one_place() -> None:
    root = Path(dicom_node.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "AE")
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "_config" for alias in node.names))
    }
    assert found - {"demo.py"} == EXCEPT - {"demo.py"}


def test_remote__of_settings(node_settings: NodeSettings) -> None:
    partner = Partner(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    values = {**node_settings.model_dump(), "listener": {"ae_title": "NODE"}, "delivery": {"timeout_s": 20}}
    settings = NodeSettings(**values)
    remote = Sender.of(settings, partner)
    assert isinstance(remote, Sender)
    assert (remote.partner, remote.calling_ae, remote.timeout_s) == (partner, "NODE", 20)
    assert RemoteAE.of(settings, partner, longest_s=10).timeout_s == 10
    assert RemoteAE.of(settings, partner, longest_s=60).timeout_s == 20


def test_timer__goes_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """An association's idle time-out and the ARTIM timer, though the time of day is moved while they run."""
    set_up_pynetdicom()
    timer = dul.Timer(0.2)
    assert (timer.remaining, timer.expired) == (0.2, False)
    timer.start()
    for moved in (-3600, 3600, 10 * 365 * 86400):
        monkeypatch.setattr("pynetdicom.timer.time.time", lambda moved=moved: 1.8e9 + moved)
        assert 0 < timer.remaining <= 0.2
        assert not timer.expired
    time.sleep(0.25)
    monkeypatch.setattr("pynetdicom.timer.time.time", lambda: 0.0)
    assert timer.expired
    timer.restart()
    timer.stop()
    time.sleep(0.25)
    assert not timer.expired
    assert dul.Timer(None).remaining == 1
