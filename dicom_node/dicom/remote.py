"""Calling another application entity: the associations that we open. Every wait for the peer has a time-out."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from pynetdicom import evt
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import Verification

from dicom_node.dicom.bounded_dimse import BoundedDimse
from dicom_node.dicom.budget import Budget
from dicom_node.dicom.pdu_items import has_too_many_items
from dicom_node.dicom.pynetdicom_setup import application_entity
from dicom_node.errors import DeliveryError, NotOfferedError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Partner
from dicom_node.system.tls import client_context

_MAX_PDU = 131072
# We announce the limit above. A peer that does not keep to it is tolerated, but only up to this size.
_PDU_CAP = 1024 * 1024
_PDU_TYPES = range(1, 8)
# What a partner may make us hold at a time, unless images are fetched from it: answers and reports of commitment.
_MOST_HELD = 32_000_000

# A SOP class and the transfer syntaxes to propose for it (pynetdicom's own if none are given).
Context = tuple[str, Sequence[str]]


class RemoteAE:
    """Another application entity.

    Parameters
    ----------
    partner
        Whom to call.
    calling_ae
        Our AE title.
    timeout_s
        How long to wait for a connection, for an answer, and for the peer to take a block of data (seconds).
    """

    def __init__(self, partner: Partner, *, calling_ae: str, timeout_s: float) -> None:
        self.partner = partner
        self.calling_ae = calling_ae
        self.timeout_s = timeout_s

    @classmethod
    def of(cls, settings: NodeSettings, partner: Partner, *, longest_s: float = math.inf) -> Self:
        """A partner of a node; our AE title and the time-out come from the settings (``[listener]``, ``[delivery]``).

        ``longest_s`` (seconds) caps the time-out, for a person who waits for a command.
        """
        timeout_s = min(longest_s, settings.delivery.timeout_s)
        return cls(partner, calling_ae=settings.listener.ae_title, timeout_s=timeout_s)

    @contextmanager
    def association(
        self, contexts: Sequence[Context], *, as_scp: Sequence[str] = (), handlers: Sequence[Any] = ()
    ) -> Iterator[Any]:
        """Open an association. It is released at the end, or aborted if that is not possible.

        Parameters
        ----------
        as_scp
            SOP classes for which we are the SCP (PS3.7 D.3.3.4).
        handlers
            pynetdicom's pairs of event and handler.

        Raises
        ------
        NotOfferedError
            If the partner accepts none of the contexts.
        DeliveryError
            If there is no association for another reason.
        """
        association = self._associate(contexts, as_scp, handlers)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()
            if association.is_alive():
                association.abort()

    def echo(self) -> None:
        """C-ECHO.

        Raises
        ------
        DeliveryError
            If the partner does not answer with success.
        """
        with self.association([(str(Verification), ())]) as association:
            status = association.send_c_echo()
            if "Status" not in status or status.Status != 0:
                raise DeliveryError("no answer to C-ECHO")

    def _associate(self, contexts: Sequence[Context], as_scp: Sequence[str], handlers: Sequence[Any]) -> Any:
        ae = application_entity(self.calling_ae)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.timeout_s
        for sop_class, syntaxes in contexts:
            ae.add_requested_context(sop_class, list(syntaxes)) if syntaxes else ae.add_requested_context(sop_class)
        try:
            association = ae.associate(
                self.partner.host,
                self.partner.port,
                ae_title=self.partner.ae_title,
                max_pdu=_MAX_PDU,
                tls_args=self._tls(),
                ext_neg=[build_role(uid, scp_role=True) for uid in as_scp],
                evt_handlers=[(evt.EVT_CONN_OPEN, self._on_open), *handlers],
            )
        except OSError as error:
            # The name has no address, or the CA certificates cannot be read.
            raise self._unreachable(error) from None
        if not association.is_established:
            raise self._why_not(association)
        _serve_while_waiting(association)
        return association

    def _on_open(self, event: Any) -> None:
        # pynetdicom clears the socket's time-out; then a send to a peer that reads nothing would block forever.
        connection = event.assoc.dul.socket
        connection.socket.settimeout(self.timeout_s)
        connection.recv = _within_bounds(connection.recv)
        event.assoc.dimse = BoundedDimse(event.assoc, Budget(_MOST_HELD, _MOST_HELD))

    def _tls(self) -> tuple[ssl.SSLContext, str] | None:
        if not self.partner.tls:
            return None
        return client_context(self.partner.tls_ca), self.partner.host

    def _why_not(self, association: Any) -> DeliveryError:
        where = f"{self.partner.ae_title} at {self.partner.host}:{self.partner.port}"
        if association.is_rejected:
            primitive = association.acceptor.primitive
            why = getattr(primitive, "reason_str", "no reason given")
            return DeliveryError(f"{where} rejected the association: {why}")
        if association.rejected_contexts:
            return NotOfferedError(f"{where} accepts none of the proposed SOP classes")
        failure = getattr(association, "failure", None)
        if failure is not None:
            return self._unreachable(failure)
        return DeliveryError(f"{where} aborted the association, or did not answer in {self.timeout_s:g} s")

    def _unreachable(self, error: OSError) -> DeliveryError:
        """Why there is not even a connection, in the words of who runs networks."""
        partner = self.partner
        where = f"{partner.host}:{partner.port}"
        if isinstance(error, ConnectionRefusedError):
            why = f"connection refused at {where}"
        elif isinstance(error, TimeoutError):
            why = f"no connection to {where} in {self.timeout_s:g} s"
        elif isinstance(error, socket.gaierror):
            why = f"the name {partner.host} has no address ({error.strerror})"
        elif isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not accepted at {where}: {error.verify_message}"
        elif isinstance(error, ssl.SSLError):
            why = f"no TLS at {where} ({getattr(error, 'reason', None) or 'the connection was closed'})"
        else:
            why = f"{error.strerror or type(error).__name__} at {where}"
        return DeliveryError(f"{partner.ae_title} cannot be reached: {why}")


def _within_bounds(receive: Callable[[int], bytearray]) -> Callable[[int], bytearray]:
    """A socket's ``recv`` with limits on the length of a PDU and on its parts."""
    kind = 0

    def receive_within_bounds(size: int) -> bytearray:
        nonlocal kind
        if size > _PDU_CAP:
            raise OSError(f"a PDU of {size} bytes is announced; the limit is {_PDU_CAP}")
        received = receive(size)
        if kind and has_too_many_items(kind, received):
            raise OSError("a PDU has too many parts")
        # The first six bytes of a PDU and its body come in turns.
        kind = received[0] if not kind and received and received[0] in _PDU_TYPES else 0
        return received

    return receive_within_bounds


def _serve_while_waiting(association: Any) -> None:
    """Serve requests of the peer while we wait for a response.

    pynetdicom takes the first message after a request for its response, even if that message is a request from the peer
    (a commitment that is reported before the N-ACTION is answered). Such a request is served first.
    """
    get = association.dimse.get_msg

    def get_response(block: bool = False) -> Any:
        context_id, message = get(block)
        while block and message is not None and message.is_valid_request:
            association._serve_request(message, context_id)
            # Serving a request lets the association's own thread continue; it must be held until the response is here.
            association._is_paused = True
            context_id, message = get(block)
        return context_id, message

    association.dimse.get_msg = get_response


def after_response(association: Any, kind: type[Any], then: Callable[[], None]) -> None:
    """Call ``then`` whenever a response of this kind was handed over for sending.

    Releasing the association before that would break the protocol.
    """
    send = association.dimse.send_msg

    def send_and_tell(primitive: Any, context_id: int) -> None:
        send(primitive, context_id)
        if isinstance(primitive, kind) and primitive.MessageIDBeingRespondedTo is not None:
            then()

    association.dimse.send_msg = send_and_tell
