"""Why an association or a STOW-RS request is refused: in words for people and metrics, and as the A-ASSOCIATE-RJ's numbers.

This module imports nothing from the node and no library: counting refusals needs no DICOM.
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


# The peer asks for another version of the protocol than the only one that exists. Nobody is told of this refusal.
UNKNOWN_VERSION = Rejection(1, 2, 2)


class Refusal(Enum):
    """Why an association is refused.

    Parameters
    ----------
    words
        The words for the log, the alert, the audit message and the label of the metric.
    rejection
        The answer to the peer.
    """

    WRONG_CALLED_AE = "wrong called AE title", Rejection(1, 1, 7)
    UNKNOWN_CALLING_AE = "unknown calling AE title", Rejection(1, 1, 3)
    # The standard has no reason for these two, so the peer gets no-reason-given.
    ADDRESS = "address not allowed", Rejection(1, 1, 1)
    CERTIFICATE = "certificate of another peer", Rejection(1, 1, 1)
    # By STOW-RS alone, where a token stands for the title; no association is refused so.
    TOKEN = "no token of a peer", Rejection(1, 1, 3)
    DISK_RESERVE = "disk reserve", Rejection(2, 3, 1)
    TOO_MANY = "too many associations", Rejection(2, 3, 2)
    TOO_MANY_OF_PEER = "too many associations of this peer", Rejection(2, 3, 2)

    def __init__(self, words: str, rejection: Rejection) -> None:
        self.words = words
        self.rejection = rejection

    @property
    def is_about_caller(self) -> bool:
        """Whether the refusal is about who calls, rather than about a lack of room in the node."""
        return self.rejection.result == 1

    def alert_subject(self, address: str) -> str:
        """The subject of the alert about a caller from this address."""
        return f"{address}: {self.words}"

    @staticmethod
    def of_words(words: str) -> Refusal:
        """The refusal with these words.

        Raises
        ------
        StopIteration
            If there is none.
        """
        return next(refusal for refusal in Refusal if refusal.words == words)

    @staticmethod
    def of_alert(subject: str) -> Refusal | None:
        """The refusal that an alert's subject is about; None if it is about something else."""
        told = subject.rpartition(": ")[2]
        return next((refusal for refusal in Refusal if refusal.words == told), None)
