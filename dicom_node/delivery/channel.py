"""What a way to a destination must be able to do, and what its answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.delivery.outbox import Parcel


class Outcome(StrEnum):
    """What an answer means for the parcel."""

    SENT = "sent"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a destination to one parcel; ``status`` is the C-STORE status or None where there was none."""

    outcome: Outcome
    status: int | None
    message: str


# One content in one or more SOP classes, the preferred one first.
Offer = Sequence[tuple[Parcel, Path]]

NO_ANSWER = Answer(Outcome.RETRY, None, "no answer: the association was aborted or timed out")
