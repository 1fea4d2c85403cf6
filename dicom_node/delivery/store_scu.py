"""Sending by C-STORE: one association for each study and destination.

The stored file is sent byte for byte. An association that failed in any way is never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info

from dicom_node.delivery.channel import NO_ANSWER, Answer, Form, Offer, Outcome, Progress
from dicom_node.dicom.remote import RemoteAE
from dicom_node.dicom.sop_classes import class_name

_DUPLICATE = 0x0111
# The destination does not take objects of this SOP class.
NOT_SUPPORTED = 0x0122
# C-STORE statuses with their own meaning (PS3.4 B.2.3, PS3.7 C). All others are judged by their class, below.
_STATUSES: dict[int, tuple[Outcome, str]] = {
    0x0000: (Outcome.SENT, "stored"),
    0x0107: (Outcome.SENT, "stored, with a warning about its attributes"),
    0x0110: (Outcome.RETRY, "processing failure"),
    _DUPLICATE: (Outcome.SENT, "was there already"),
    0x0116: (Outcome.SENT, "stored, with a warning about a value"),
    0x0213: (Outcome.RETRY, "resource limitation"),
    0x0117: (Outcome.FAILED, "the destination takes the UID for invalid"),
    NOT_SUPPORTED: (Outcome.FAILED, "the destination does not support this SOP class"),
    0x0124: (Outcome.FAILED, "the destination does not allow us to store"),
}


def classify(status: int) -> Answer:
    """What a C-STORE status means: stored, try again, or never."""
    outcome, text = _STATUSES.get(status) or _by_class(status)
    return Answer(outcome, status, f"0x{status:04X} {text}", was_there=status == _DUPLICATE)


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
    """The `DeliveryChannel` to a destination that takes C-STORE."""

    def send(self, offers: Sequence[Offer], progress: Progress) -> None:
        """See `DeliveryChannel`. All objects go over one association, which is given up after an unanswered object.

        The form that is sent of an offer is the first one whose SOP class the destination accepted.

        Raises
        ------
        DeliveryError
            If there is no association; nothing was sent.
        """
        forms = [form for offer in offers for form in offer.forms]
        contexts = {(form.parcel.sop_class_uid, (_syntax_of(form.path),)) for form in forms}
        with self.association(sorted(contexts)) as association:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
            progress.begin()
            for message_id, offer in enumerate(offers, start=1):
                form = _acceptable(offer, accepted)
                if len(offer.forms) > 1 and form.parcel.sop_class_uid in accepted:
                    progress.choose(form)
                answer = _store(association, form, message_id)
                progress.answer(form, answer)
                if answer is NO_ANSWER:
                    return


def _acceptable(offer: Offer, accepted: set[str]) -> Form:
    return next((form for form in offer.forms if form.parcel.sop_class_uid in accepted), offer.preferred)


def _store(association: Any, form: Form, message_id: int) -> Answer:
    if not association.is_established:
        return NO_ANSWER
    try:
        status = association.send_c_store(form.path, msg_id=message_id)
    except ValueError:
        # No accepted presentation context: pynetdicom finds that before it sends anything.
        return Answer(Outcome.FAILED, None, f"the destination takes no {class_name(form.parcel.sop_class_uid)}")
    except (OSError, RuntimeError, AttributeError):
        return NO_ANSWER
    return classify(int(status.Status)) if "Status" in status else NO_ANSWER


def _syntax_of(path: Path) -> str:
    return str(read_file_meta_info(path).TransferSyntaxUID)
