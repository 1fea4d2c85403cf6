"""Why an association is refused: in words for people and metrics, and in the numbers of the A-ASSOCIATE-RJ.

This module imports nothing of the node and no library: whoever counts refusals needs no DICOM for it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Rejection(NamedTuple):
    """What an A-ASSOCIATE-RJ says (PS3.8 9.3.4): its bytes 8 to 10, each 1 to 255."""

    # 1 rejected-permanent, 2 rejected-transient.
    result: int
    # 1 the service user, 2 the service provider (ACSE), 3 the service provider (presentation).
    source: int
    # Its meaning depends on the source.
    reason: int


# The peer asks in another version of the protocol than the only one there is. Nobody is told of it.
UNKNOWN_VERSION = Rejection(1, 2, 2)


class Refusal(Enum):
    """Why an association is refused.

    Parameters
    ----------
    words
        For the log, the alert, the audit message and the label of the metric.
    rejection
        What the peer is answered.
    """

    WRONG_CALLED_AE = "wrong called AE title", Rejection(1, 1, 7)
    UNKNOWN_CALLING_AE = "unknown calling AE title", Rejection(1, 1, 3)
    # The standard has no reason for it: no-reason-given.
    ADDRESS = "address not allowed", Rejection(1, 1, 1)
    DISK_RESERVE = "disk reserve", Rejection(2, 3, 1)
    TOO_MANY = "too many associations", Rejection(2, 3, 2)
    TOO_MANY_OF_PEER = "too many associations of this peer", Rejection(2, 3, 2)

    def __init__(self, words: str, rejection: Rejection) -> None:
        self.words = words
        self.rejection = rejection

    @property
    def is_about_caller(self) -> bool:
        """Whether it is because of who calls, not because the node has no room now."""
        return self.rejection.result == 1

    def alert_subject(self, address: str) -> str:
        """The subject of the alert about a caller from this address."""
        return f"{address}: {self.words}"

    @staticmethod
    def of_alert(subject: str) -> Refusal | None:
        """The refusal that an alert's subject is about; None where it is about something else."""
        told = subject.rpartition(": ")[2]
        return next((refusal for refusal in Refusal if refusal.words == told), None)
