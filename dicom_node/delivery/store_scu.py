"""Sending by C-STORE: one association for each study and destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from dicom_node.delivery.channel import NO_ANSWER, Answer, Offer, Outcome
from dicom_node.delivery.outbox import Parcel
from dicom_node.dicom.remote import RemoteAE

DUPLICATE = 0x0111
# C-STORE statuses with a meaning of their own (PS3.4 B.2.3, PS3.7 C). The rest is decided by their class below.
_STATUSES: dict[int, tuple[Outcome, str]] = {
    0x0000: (Outcome.SENT, "stored"),
    0x0107: (Outcome.SENT, "stored, with a warning about its attributes"),
    0x0110: (Outcome.RETRY, "processing failure"),
    DUPLICATE: (Outcome.SENT, "was there already"),
    0x0116: (Outcome.SENT, "stored, with a warning about a value"),
    0x0213: (Outcome.RETRY, "resource limitation"),
    0x0117: (Outcome.FAILED, "the destination takes the UID for invalid"),
    0x0122: (Outcome.FAILED, "the destination does not support this SOP class"),
    0x0124: (Outcome.FAILED, "the destination does not allow us to store"),
}


def classify(status: int) -> Answer:
    """What a C-STORE status means: stored, try again, or never."""
    outcome, text = _STATUSES.get(status) or _by_class(status)
    return Answer(outcome, status, f"0x{status:04X} {text}")


def _by_class(status: int) -> tuple[Outcome, str]:
    high = status >> 8
    if high >> 4 == 0xB:
        return Outcome.SENT, "stored, with a warning"
    if high == 0xA7:
        return Outcome.RETRY, "the destination is out of resources"
    if high == 0xA9:
        return Outcome.FAILED, "the destination finds that the data set does not match its SOP class"
    if high >> 4 == 0xC:
        return Outcome.FAILED, "the destination cannot understand the data set"
    return Outcome.FAILED, "refused"


class Sender(RemoteAE):
    """Sends the objects of a study to one destination."""

    def send(
        self,
        offers: Sequence[Offer],
        report: Callable[[Parcel, Answer], None],
        chosen: Callable[[Parcel], None] = lambda parcel: None,
        began: Callable[[], None] = lambda: None,
    ) -> None:
        """Send one file of each offer on one association, reporting each as soon as it is answered.

        ``began`` is told when there is an association.

        Of an offer, the first file is sent whose SOP class the destination accepted; ``chosen`` is told before, where
        there was a choice. After an unanswered file the association is given up, and the files behind it are not reported.

        Raises
        ------
        DeliveryError
            If there is no association; nothing was sent.
        """
        contexts = {(parcel.sop_class_uid, (_syntax_of(path),)) for offer in offers for parcel, path in offer}
        with self.association(sorted(contexts)) as association:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
            began()
            for message_id, offer in enumerate(offers, start=1):
                parcel, path = _acceptable(offer, accepted)
                if len(offer) > 1 and parcel.sop_class_uid in accepted:
                    chosen(parcel)
                answer = _store(association, parcel, path, message_id)
                report(parcel, answer)
                if answer is NO_ANSWER:
                    return


def _acceptable(offer: Offer, accepted: set[str]) -> tuple[Parcel, Path]:
    return next((form for form in offer if form[0].sop_class_uid in accepted), offer[0])


def _store(association: Any, parcel: Parcel, path: Path, message_id: int) -> Answer:
    if not association.is_established:
        return NO_ANSWER
    try:
        status = association.send_c_store(path, msg_id=message_id)
    except ValueError:
        # No accepted presentation context: pynetdicom finds that before it sends anything.
        return Answer(Outcome.FAILED, None, f"the destination takes no {class_name(parcel.sop_class_uid)}")
    except (OSError, RuntimeError, AttributeError):
        return NO_ANSWER
    return classify(int(status.Status)) if "Status" in status else NO_ANSWER


def _syntax_of(path: Path) -> str:
    return str(read_file_meta_info(path).TransferSyntaxUID)


def class_name(uid: str) -> str:
    return UID(uid).name
