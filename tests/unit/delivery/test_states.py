"""What may become of a row of the outbox, and of its proof."""

from __future__ import annotations

from itertools import product

import pytest

from dicom_node.database.tables import OutboxRow
from dicom_node.database.words import OutboxState, Proof
from dicom_node.delivery.states import (
    OUTBOX_TRANSITIONS,
    PROOF_TRANSITIONS,
    OutboxEvent,
    ProofEvent,
    move,
    move_proof,
)
from dicom_node.errors import InvalidTransitionError
from dicom_node.system.clock import utc_now


def row(state: str = "waiting", proof: str = "none") -> OutboxRow:
    return OutboxRow(id=7, state=state, proof=proof, proof_at=utc_now())


def test_tables__name_every_state_and_every_event() -> None:
    assert set(OUTBOX_TRANSITIONS.values()) == set(OutboxState)
    assert {event for _, event in OUTBOX_TRANSITIONS} == set(OutboxEvent)
    assert set(PROOF_TRANSITIONS.values()) == set(Proof)
    assert {event for _, event in PROOF_TRANSITIONS} == set(ProofEvent)


def test_outbox__a_person_may_have_everything_sent_again() -> None:
    for state in OutboxState:
        assert OUTBOX_TRANSITIONS[state, OutboxEvent.RESENT] is OutboxState.WAITING


def test_outbox__only_what_waits_is_answered_and_only_what_was_sent_is_lost() -> None:
    answers = {OutboxEvent.ACKNOWLEDGED, OutboxEvent.PUT_OFF, OutboxEvent.REFUSED}
    assert {state for state, event in OUTBOX_TRANSITIONS if event in answers} == {OutboxState.WAITING}
    losses = {OutboxEvent.LOST, OutboxEvent.GIVEN_UP}
    assert {state for state, event in OUTBOX_TRANSITIONS if event in losses} == {OutboxState.SENT}


@pytest.mark.parametrize(("state", "event"), list(product(OutboxState, OutboxEvent)))
def test_move__by_the_table_or_not_at_all(state: OutboxState, event: OutboxEvent) -> None:
    moved = row(state)
    if (state, event) in OUTBOX_TRANSITIONS:
        move(moved, event)
        assert moved.state == OUTBOX_TRANSITIONS[state, event]
        return
    with pytest.raises(InvalidTransitionError, match=f"delivery 7 is {state}: it cannot be "):
        move(moved, event)
    assert moved.state == state


@pytest.mark.parametrize("proof", Proof)
def test_move__drops_the_proof_of_an_earlier_sending(proof: Proof) -> None:
    moved = row("sent", proof)
    move(moved, OutboxEvent.RESENT)
    assert (moved.state, moved.proof, moved.proof_at) == ("waiting", "none", None)


@pytest.mark.parametrize(("proof", "event"), list(product(Proof, ProofEvent)))
def test_move_proof__by_the_table_or_not_at_all(proof: Proof, event: ProofEvent) -> None:
    moved = row("sent", proof)
    if (proof, event) in PROOF_TRANSITIONS:
        move_proof(moved, event)
        assert moved.proof == PROOF_TRANSITIONS[proof, event]
        return
    with pytest.raises(InvalidTransitionError, match="the proof of delivery 7"):
        move_proof(moved, event)
    assert moved.proof == proof


def test_proof__evidence_is_never_taken_back_by_a_question() -> None:
    for proof in (Proof.COMMITTED, Proof.FOUND):
        assert {event for state, event in PROOF_TRANSITIONS if state is proof} == {
            ProofEvent.COMMITTED,
            ProofEvent.DROPPED,
        }
