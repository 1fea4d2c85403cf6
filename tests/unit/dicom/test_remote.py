"""Why there is no association, in words that lead to the cause."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicom_node.dicom.remote import RemoteAE
from dicom_node.errors import DeliveryError
from dicom_node.settings.sections import Partner
from tests.fakes.scu import free_port


def why_not(host: str, port: int, *, tls: bool = False, timeout_s: float = 5) -> str:
    partner = Partner(name="pacs", ae_title="PACS", host=host, port=port, tls=tls)
    with pytest.raises(DeliveryError) as error:
        RemoteAE(partner, calling_ae="SPINEONE", timeout_s=timeout_s).echo()
    return str(error.value)


def test_refused__is_called_that() -> None:
    port = free_port()
    assert why_not("127.0.0.1", port) == f"PACS cannot be reached: connection refused at 127.0.0.1:{port}"


def test_name__without_an_address() -> None:
    assert why_not("no-such-host.invalid", 104).startswith(
        "PACS cannot be reached: the name no-such-host.invalid has no address ("
    )


def test_tls__with_a_partner_that_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"no TLS here\r\n"), daemon=True).start()
        said = why_not("127.0.0.1", server.getsockname()[1], tls=True)
    assert said.startswith("PACS cannot be reached: no TLS at 127.0.0.1:")


def test_silence__after_the_connection_is_no_refused_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert why_not("127.0.0.1", port, timeout_s=0.5) == (
            f"PACS at 127.0.0.1:{port} aborted the association, or did not answer in 0.5 s"
        )


def test_abort__is_called_that() -> None:
    ae = AE("PACS")
    ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, lambda e: e.assoc.abort())]
    )
    assert server is not None
    try:
        assert "aborted the association" in why_not("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("timed out"), "no connection to 192.0.2.1:104 in 5 s"),
        (OSError(113, "No route to host"), "No route to host at 192.0.2.1:104"),
        (ssl.SSLError(1, "[SSL] strange"), "no TLS at 192.0.2.1:104"),
    ],
)
def test_other_errors__are_words(error: OSError, words: str) -> None:
    partner = Partner(name="pacs", ae_title="PACS", host="192.0.2.1", port=104)
    said = str(RemoteAE(partner, calling_ae="A", timeout_s=5)._unreachable(error))
    assert said.startswith(f"PACS cannot be reached: {words}")
