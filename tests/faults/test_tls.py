"""Bad certificates, those of others and old versions of TLS, at the listener and at a destination."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_node.delivery.store_scu import Sender
from dicom_node.errors import DeliveryError
from dicom_node.receiving.anteroom import MOST_WAITING
from dicom_node.settings.sections import Destination
from tests.fakes import wire
from tests.fakes.certificates import Certificates
from tests.fakes.datasets import mr_image
from tests.fakes.scu import association, free_port, send
from tests.faults.node import Listener, running_listener, until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.make_authority()
    made.make("good")
    made.make("impostor")
    made.make("expired", days=-1)
    made.make("elsewhere", host="DNS:pacs.invalid")
    made.make("self-signed", signed=False)
    return made


@pytest.fixture(scope="module")
def listener(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    cert, key = certificates.pair("good")
    rules = f'tls_cert = "{cert}"\ntls_key = "{key}"\ntls_ca = "{certificates.folder / "ca.pem"}"\npdu_timeout_s = 5'
    bound = f'[[peers]]\nae_title = "BOUND"\ncertificates = ["{certificates.fingerprint("good")}"]'
    with running_listener(tmp_path_factory.mktemp("node"), rules, f'[[peers]]\nae_title = "TEST"\n{bound}') as running:
        yield running


def client(certificates: Certificates, name: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.folder / "ca.pem"))
    if name:
        context.load_cert_chain(*certificates.pair(name))
    return context


@pytest.mark.parametrize("name", ["", "expired", "self-signed"])
def test_listener__refuses_certificates_that_are_not_good(
    listener: Listener, certificates: Certificates, name: str
) -> None:
    with association(listener.port, tls=(client(certificates, name), "127.0.0.1")) as opened:
        assert not opened.is_established
    good = (client(certificates, "good"), "127.0.0.1")
    assert send(listener.port, mr_image(1), tls=good) == [0]
    until(lambda: "tls_failed" in listener.log)
    assert "Traceback" not in listener.log


def test_listener__a_certificate_is_bound_to_an_ae_title(listener: Listener, certificates: Certificates) -> None:
    """A good certificate of somebody else is a good certificate, but not the one that goes with the title."""
    stolen = (client(certificates, "impostor"), "127.0.0.1")
    with association(listener.port, calling="BOUND", tls=stolen) as opened:
        assert opened.is_rejected
    until(lambda: "certificate of another peer" in listener.log)
    assert send(listener.port, mr_image(1), calling="TEST", tls=stolen) == [0]
    own = (client(certificates, "good"), "127.0.0.1")
    assert send(listener.port, mr_image(1), calling="BOUND", tls=own) == [0]


def test_listener__refuses_old_versions(listener: Listener, certificates: Certificates) -> None:
    context = client(certificates, "good")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with association(listener.port, tls=(context, "127.0.0.1")) as opened:
        assert not opened.is_established


def test_listener__has_one_deadline_for_the_handshake(listener: Listener) -> None:
    """Bytes come one at a time, and no second handshake is awaited to report that the first one failed."""
    with wire.connect(listener.port) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")
        assert wire.is_cut(connection, b"\x01", times=35, pause=0.2)


@pytest.mark.parametrize("then", ["wait", "leave"])
def test_listener__a_flood_of_handshakes_takes_no_place_from_a_permitted_peer(
    listener: Listener, certificates: Certificates, then: str
) -> None:
    """Each connection makes the listener sign, which costs it more than the caller; more are held than there are places."""
    good, hello = (client(certificates, "good"), "127.0.0.1"), client_hello()
    assert send(listener.port, mr_image(1), tls=good) == [0]
    begun, over = [0], threading.Event()

    def flood() -> None:
        held: list[socket.socket] = []
        while not over.is_set():
            with suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", listener.port), 2, ("127.0.0.2", 0)))
                held[-1].sendall(hello)
                begun[0] += 1
                if then == "leave":
                    held[-1].recv(1)
            while len(held) > (MOST_WAITING if then == "wait" else 0):
                held.pop(0).close()
        for connection in held:
            connection.close()

    floods = [threading.Thread(target=flood) for _ in range(3)]
    for running in floods:
        running.start()
    try:
        until(lambda: begun[0] > 2 * MOST_WAITING)
        for number in range(5):
            began = time.monotonic()
            assert send(listener.port, mr_image(number), tls=good, timeout=30) == [0]
            assert time.monotonic() - began < 10
    finally:
        over.set()
        for running in floods:
            running.join()
    assert listener.is_running()


def client_hello() -> bytes:
    """The first bytes of a handshake."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("name", "good"), [("good", True), ("expired", False), ("elsewhere", False), ("self-signed", False)]
)
def test_delivery__sends_only_to_whom_it_can_trust(certificates: Certificates, name: str, good: bool) -> None:
    assert is_trusted(certificates, name, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) is good


def test_delivery__refuses_old_versions(certificates: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    assert not is_trusted(certificates, "good", context)


def is_trusted(certificates: Certificates, name: str, context: ssl.SSLContext) -> bool:
    """Whether the node talks to a destination that shows this certificate."""
    context.load_cert_chain(*certificates.pair(name))
    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", port), block=False, ssl_context=context)
    assert server is not None
    destination = Destination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, tls=True, tls_ca=certificates.folder / "ca.pem"
    )
    sender = Sender(destination, calling_ae="SPINEONE", timeout_s=5)
    try:
        sender.echo()
    except DeliveryError as error:
        if "cannot be reached" not in str(error):
            raise
        return False
    finally:
        server.shutdown()
    return True


def test_delivery__a_plain_destination_fails_fast(certificates: Certificates) -> None:
    ae, port = AE("PACS"), free_port()
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", port), block=False)
    assert server is not None
    destination = Destination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, tls=True, tls_ca=certificates.folder / "ca.pem"
    )
    with pytest.raises(DeliveryError):
        Sender(destination, calling_ae="SPINEONE", timeout_s=2).echo()
    server.shutdown()
