"""The states of an outbox row: whether the destination has the object, and whether that is proven.

There are two literal tables, and only two functions change these columns. A proof belongs to an object that was sent:
whatever ends that state also ends the proof.
"""

from __future__ import annotations

from enum import StrEnum

from dicom_node.database.tables import OutboxRow
from dicom_node.database.words import OutboxState, Proof
from dicom_node.system.transitions import next_state


class OutboxEvent(StrEnum):
    """What can happen to a row of the outbox."""

    # The destination says that it has the object.
    ACKNOWLEDGED = "acknowledged"
    PUT_OFF = "put_off"
    # The destination refuses the object for good.
    REFUSED = "refused"
    # An operator asked for it to be sent again.
    RESENT = "resent"
    # The destination no longer has what it had acknowledged.
    LOST = "lost"
    GIVEN_UP = "given_up"


OUTBOX_TRANSITIONS: dict[tuple[OutboxState, OutboxEvent], OutboxState] = {
    (OutboxState.WAITING, OutboxEvent.ACKNOWLEDGED): OutboxState.SENT,
    (OutboxState.WAITING, OutboxEvent.PUT_OFF): OutboxState.WAITING,
    (OutboxState.WAITING, OutboxEvent.REFUSED): OutboxState.FAILED,
    (OutboxState.WAITING, OutboxEvent.RESENT): OutboxState.WAITING,
    (OutboxState.SENT, OutboxEvent.RESENT): OutboxState.WAITING,
    (OutboxState.FAILED, OutboxEvent.RESENT): OutboxState.WAITING,
    (OutboxState.SENT, OutboxEvent.LOST): OutboxState.WAITING,
    (OutboxState.SENT, OutboxEvent.GIVEN_UP): OutboxState.FAILED,
}


class ProofEvent(StrEnum):
    """What can happen to the proof that a destination keeps an object."""

    WANTED = "wanted"
    ASKED = "asked"
    # The question could not be asked, was refused, or must be asked again later.
    NOT_ANSWERED = "not_answered"
    # Evidence, by storage commitment or by C-FIND.
    COMMITTED = "committed"
    FOUND = "found"
    # This sending will not be proven.
    DROPPED = "dropped"


PROOF_TRANSITIONS: dict[tuple[Proof, ProofEvent], Proof] = {
    (Proof.NONE, ProofEvent.WANTED): Proof.WANTED,
    (Proof.WANTED, ProofEvent.ASKED): Proof.ASKED,
    (Proof.ASKED, ProofEvent.ASKED): Proof.ASKED,
    (Proof.WANTED, ProofEvent.NOT_ANSWERED): Proof.WANTED,
    (Proof.ASKED, ProofEvent.NOT_ANSWERED): Proof.WANTED,
    # A late answer is evidence too, even if nobody waits for it any more.
    (Proof.NONE, ProofEvent.COMMITTED): Proof.COMMITTED,
    (Proof.WANTED, ProofEvent.COMMITTED): Proof.COMMITTED,
    (Proof.ASKED, ProofEvent.COMMITTED): Proof.COMMITTED,
    (Proof.COMMITTED, ProofEvent.COMMITTED): Proof.COMMITTED,
    (Proof.FOUND, ProofEvent.COMMITTED): Proof.COMMITTED,
    (Proof.WANTED, ProofEvent.FOUND): Proof.FOUND,
    (Proof.ASKED, ProofEvent.FOUND): Proof.FOUND,
    (Proof.NONE, ProofEvent.DROPPED): Proof.NONE,
    (Proof.WANTED, ProofEvent.DROPPED): Proof.NONE,
    (Proof.ASKED, ProofEvent.DROPPED): Proof.NONE,
    (Proof.COMMITTED, ProofEvent.DROPPED): Proof.NONE,
    (Proof.FOUND, ProofEvent.DROPPED): Proof.NONE,
}


def move(row: OutboxRow, event: OutboxEvent) -> None:
    """Change the state of a row; a proof of an earlier sending is dropped.

    Raises
    ------
    InvalidTransitionError
        If the event cannot happen in the row's current state.
    """
    row.state = next_state(OUTBOX_TRANSITIONS, OutboxState(row.state), event, f"delivery {row.id}")
    move_proof(row, ProofEvent.DROPPED)
    row.proof_at = None


def move_proof(row: OutboxRow, event: ProofEvent) -> None:
    """Change what is known about the proof.

    Raises
    ------
    InvalidTransitionError
        If the event cannot happen in the current state of the row's proof.
    """
    row.proof = next_state(PROOF_TRANSITIONS, Proof(row.proof), event, f"the proof of delivery {row.id}")
