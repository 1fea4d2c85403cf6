"""Storage commitment at the listener.

Senders ask us to keep their images (N-ACTION), and destinations report which of our results they keep (N-EVENT-REPORT).
"""

from __future__ import annotations

import time
from typing import Any

from pynetdicom import evt

from dicom_node.commitment import evidence, messages, promises
from dicom_node.commitment.promises import Promise
from dicom_node.database.connection import Database
from dicom_node.dicom.headers import NoRoomError
from dicom_node.images.incoming import SUCCESS
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.server import title
from dicom_node.settings.node import NodeSettings
from dicom_node.system.log import get_logger

# References take about this many bytes of memory for each byte of a message.
_MADE_OF_A_BYTE = 8
# The answer to a sender without an address for it goes out on the sender's own association: this long after the
# response (seconds), and it is given up after the grace.
_IN_PLACE_PAUSE_S = 0.3
IN_PLACE_GRACE_S = 60.0


class CommitmentRequests:
    """Serves the requests and reports of peers.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database
        Where requests and reports are kept.
    peers
        Knows who may ask.
    """

    def __init__(self, settings: NodeSettings, database: Database, peers: Peers) -> None:
        self._settings = settings
        self._database = database
        self._peers = peers

    def handlers(self) -> list[Any]:
        """pynetdicom's pairs of event and handler."""
        return [(evt.EVT_N_ACTION, self._on_request), (evt.EVT_N_EVENT_REPORT, self._on_report)]

    def _on_request(self, event: Any) -> tuple[int, None]:
        """A sender asks us to keep its images: the request is recorded first and answered after the response."""
        calling = title(event.assoc.requestor.ae_title)
        if not self._peers.may_send(calling, event.assoc.requestor.address):
            return messages.NOT_AUTHORISED, None
        if event.action_type != messages.REQUEST:
            return messages.NO_SUCH_ACTION, None
        in_place = self._settings.answers_to(calling) is None
        try:
            with self._database.read() as session:
                promises.check_room(session, calling)
            request = messages.read_request(*_encoded(event.request.ActionInformation, event))
            with self._database.write() as session:
                delay = IN_PLACE_GRACE_S if in_place else 0.0
                promise = promises.accept(session, request, calling, due_in_s=delay)
        except messages.MessageError as error:
            get_logger().warning("commitment_refused", calling_ae=calling, why=str(error))
            return error.status, None
        except Exception:  # nothing that a peer sends may end the process
            get_logger().exception("commitment_failed")
            return messages.PROCESSING_FAILURE, None
        finally:
            event.assoc.dimse.done()
        get_logger().info("commitment_asked", calling_ae=calling, transaction_uid=request.transaction_uid)
        if in_place:
            event.assoc.dimse.after_response = lambda: self._answer_in_place(event.assoc, promise)
        return SUCCESS, None

    def _answer_in_place(self, association: Any, promise: Promise) -> None:
        """Answer a sender that has no address for the answer, while its association lasts."""
        answer = promises.judge(self._database, self._settings.data_dir, promise)
        # By now, a sender that does not wait has asked to release the association.
        time.sleep(_IN_PLACE_PAUSE_S)
        if not association.is_established or association.dul.peek_next_pdu() is not None:
            return
        try:
            status, _ = association.send_n_event_report(
                messages.encode_answer(answer),
                answer.event_type,
                messages.SOP_CLASS,
                messages.SOP_INSTANCE,
                msg_id=1,
            )
        except (OSError, RuntimeError, ValueError, AttributeError):
            get_logger().exception("commitment_not_answered")
            return
        if "Status" in status and status.Status == SUCCESS:
            with self._database.write() as session:
                promises.mark_answered(session, promise)

    def _on_report(self, event: Any) -> tuple[int, None]:
        """A destination reports what it keeps of our results."""
        calling = title(event.assoc.requestor.ae_title)
        names = [d.name for d in self._settings.application_entities if d.ae_title == calling]
        try:
            answer = messages.read_answer(*_encoded(event.request.EventInformation, event))
            with self._database.write() as session:
                evidence.record(session, names, answer, self._settings.delivery)
        except messages.MessageError as error:
            get_logger().warning("commitment_unreadable", calling_ae=calling, why=str(error))
            return error.status, None
        except Exception:  # as above; the destination reports again
            get_logger().exception("commitment_failed")
            return messages.PROCESSING_FAILURE, None
        finally:
            event.assoc.dimse.done()
        return SUCCESS, None


def _encoded(information: Any, event: Any) -> tuple[bytes, str]:
    """The data set of a DIMSE-N message as it came, and its transfer syntax.

    Raises
    ------
    MessageError
        If there is no memory for what is made of it.
    """
    data = information.getvalue() if information else b""
    try:
        event.assoc.dimse.hold(_MADE_OF_A_BYTE * len(data))
    except NoRoomError:
        raise messages.MessageError(messages.RESOURCE_LIMITATION, "no memory for it now") from None
    return data, str(event.context.transfer_syntax)
