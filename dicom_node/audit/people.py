"""Who did something: a person who gave a command, or a process of the node."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import (
    APPLICATION,
    APPLICATION_LAUNCHER,
    EventOutcome,
    Participant,
    host_name,
)
from dicom_node.database.connection import Database


def person(*, is_requestor: bool = True) -> Participant:
    """The person who runs this command, by login name, even behind sudo."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())
    return Participant(name, is_requestor=is_requestor, address=host_name())


def looked_at(audit: AuditLog, database: Database, who: Participant, study_uids: Sequence[str]) -> None:
    """Record that someone was shown whose studies these are."""
    if study_uids:
        studies = [audit.study(database, uid) for uid in study_uids]
        audit.record(audit_message.accessed([who, audit.node()], studies))


@contextmanager
def activity(audit: AuditLog, role: str) -> Iterator[None]:
    """Record the start and stop of a process of the node; a stop because of an error is a major failure."""
    titles = f"AETITLES={audit.settings.listener.ae_title}"
    process = Participant(f"{role}:{os.getpid()}", APPLICATION, address=host_name(), alternative_id=titles)
    launcher = person()
    launcher = Participant(launcher.user_id, APPLICATION_LAUNCHER, is_requestor=True, address=launcher.address)
    outcome = EventOutcome.MAJOR_FAILURE
    audit.record(audit_message.application(process, launcher, started=True, outcome=EventOutcome.SUCCESS))
    try:
        yield
        outcome = EventOutcome.SUCCESS
    finally:
        audit.record(audit_message.application(process, launcher, started=False, outcome=outcome))


@contextmanager
def command(audit: AuditLog, what: str) -> Iterator[None]:
    """Record that a person changes something with a command."""
    outcome = EventOutcome.SERIOUS_FAILURE
    try:
        yield
        outcome = EventOutcome.SUCCESS
    finally:
        who = [person(), audit.node()]
        title = audit.settings.listener.ae_title
        audit.record(audit_message.function_used(who, title, what, outcome=outcome))
