"""Sending by STOW-RS: one request for each object, so that what is said of a request is said of one object.

The stored file is sent byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_node.delivery.channel import Answer, Form, Offer, Outcome, Progress
from dicom_node.delivery.store_scu import NOT_SUPPORTED, classify
from dicom_node.dicomweb.multipart_writer import MultipartWriter
from dicom_node.dicomweb.remote import WebRemote, refusal
from dicom_node.dicomweb.stow import ALL_STORED, NONE_STORED, SOME_STORED, StoreAnswer, store
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.web_destinations import WebServer
from dicom_node.system.http_session import HttpSession

# HTTP statuses that are about the object: the same request gets the same answer again.
_HOPELESS = {
    400: "the destination finds no such request or object",
    413: "the object is too large for the destination",
    415: "the destination takes no such objects",
    422: "the destination cannot process the object",
}


def judge(answer: StoreAnswer, sop_instance_uid: str) -> Answer | None:
    """What the answer to a request with this one object means; None if it is not about the object at all.

    Failure and Warning Reasons are C-STORE statuses (PS3.18 I.2.2), and mean the same.
    """
    if sop_instance_uid in answer.failed:
        reason = answer.failed[sop_instance_uid]
        if reason == 0:
            return Answer(Outcome.FAILED, answer.status, f"status {answer.status}: refused without a reason")
        return classify(reason)
    if sop_instance_uid in answer.stored:
        said = classify(answer.stored[sop_instance_uid])
        return said if said.outcome is Outcome.SENT else Answer(Outcome.SENT, 0, "stored, with an unknown warning")
    if answer.status == ALL_STORED:
        return Answer(Outcome.SENT, 0, "stored, says the status; the answer does not name the object", was_there=True)
    if answer.status in (SOME_STORED, NONE_STORED):
        return Answer(Outcome.RETRY, answer.status, f"status {answer.status}; the answer does not name the object")
    if answer.status in _HOPELESS:
        return Answer(Outcome.FAILED, answer.status, f"status {answer.status}: {_HOPELESS[answer.status]}")
    return None


class StowSender:
    """The `DeliveryChannel` to a destination that takes STOW-RS."""

    def __init__(self, remote: WebRemote) -> None:
        self._remote = remote

    @classmethod
    def of(cls, settings: NodeSettings, server: WebServer) -> StowSender:
        """The channel to a destination of a node."""
        return cls(WebRemote.of(settings, server))

    def send(self, offers: Sequence[Offer], progress: Progress) -> None:
        """See `DeliveryChannel`. Nothing is negotiated: the second form goes where the first one's class is refused.

        Raises
        ------
        DeliveryError
            If there is no answer, or one that is not about an object (a login that is refused, a server that is busy).
        """
        begin = _Once(progress.begin)
        with self._remote.session() as session:
            for offer in offers:
                self._send(session, offer, begin, progress)

    def _send(self, session: HttpSession, offer: Offer, begin: Callable[[], None], progress: Progress) -> None:
        answer = self._store(session, offer.preferred, begin)
        if answer.status == NOT_SUPPORTED and len(offer.forms) > 1:
            other = offer.forms[1]
            progress.choose(other)
            progress.answer(other, self._store(session, other, begin))
            return
        if answer.outcome is Outcome.SENT and len(offer.forms) > 1:
            progress.choose(offer.preferred)
        progress.answer(offer.preferred, answer)

    def _store(self, session: HttpSession, form: Form, begin: Callable[[], None]) -> Answer:
        answer = store(self._remote, session, _Announced(form.path, begin))
        meaning = judge(answer, form.parcel.sop_instance_uid)
        if meaning is None:
            raise DeliveryError(f"{self._remote.where}: STOW-RS: {refusal(answer.status)}")
        return meaning


class _Announced(MultipartWriter):
    """A body that says when it is asked for: then there is a connection."""

    def __init__(self, path: Path, begin: Callable[[], None]) -> None:
        super().__init__([path])
        self._begin = begin

    def read(self, size: int = -1) -> bytes:
        self._begin()
        return super().read(size)


class _Once:
    """Calls something the first time that it is called."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then: Callable[[], None] | None = then

    def __call__(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()
