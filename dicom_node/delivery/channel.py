"""What a channel to a destination must be able to do, and what its answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from dicom_node.delivery.outbox import Parcel


class Outcome(StrEnum):
    """What an answer means for the parcel."""

    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination says about one parcel.

    Parameters
    ----------
    status
        The C-STORE status, or an HTTP status that says no more; None if there was none.
    was_there
        Whether the destination says that it already had an object with this UID, or does not say which objects it has
        taken. That it has ours must be proven.
    """

    outcome: Outcome
    status: int | None
    message: str
    was_there: bool = False


NO_ANSWER = Answer(Outcome.RETRY, None, "no answer: the association was aborted or timed out")


@dataclass(frozen=True, slots=True)
class Form:
    """A parcel in one SOP class, with its file on disk."""

    parcel: Parcel
    path: Path


@dataclass(frozen=True, slots=True)
class Offer:
    """One content in one or more forms, the preferred one first. Only one of them is sent."""

    forms: tuple[Form, ...]

    @property
    def preferred(self) -> Form:
        """The form that is sent to a destination that takes them all."""
        return self.forms[0]


class Progress(Protocol):
    """Keeps the record of a sending. A channel calls it as soon as something happens."""

    def begin(self) -> None:
        """The destination was reached; nothing has been sent yet."""

    def choose(self, form: Form) -> None:
        """This form of an offer with several forms is the one for the destination, now and at every later attempt.

        The channel calls this before it sends any byte of it; if the first form is sent on trial, as soon as that is
        taken.
        """

    def answer(self, form: Form, answer: Answer) -> None:
        """The destination has answered a form that was sent, or will never take it."""


class DeliveryChannel(Protocol):
    """A channel to one destination."""

    def send(self, offers: Sequence[Offer], progress: Progress) -> None:
        """Send one form of each offer, byte for byte as in its file, in the order of the offers.

        After an unanswered form nothing more is sent; `progress` hears nothing about the offers that follow.

        Raises
        ------
        DeliveryError
            If the destination cannot be reached, or lets nothing through; what was not answered is sent again.
        """
