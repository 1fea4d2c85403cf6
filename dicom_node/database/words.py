"""The words that columns hold: states, roles, kinds of alerts. There is no SQL here."""

from __future__ import annotations

from enum import StrEnum


class StudyState(StrEnum):
    """Whether images of a study may still be coming."""

    RECEIVING = "receiving"
    COMPLETE = "complete"


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class OutboxState(StrEnum):
    """Whether a destination has an object."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


class Proof(StrEnum):
    """Evidence that a destination keeps an object, and how far the node is with getting it."""

    NONE = "none"
    WANTED = "wanted"
    ASKED = "asked"
    COMMITTED = "committed"
    FOUND = "found"


class Cause(StrEnum):
    """Why a result was made, or why a job gave none: what is different from the study's last result."""

    FIRST = "first"
    BY_HAND = "by_hand"
    RELEASED = "released"
    CORRECTED_PATIENT = "corrected_patient"
    NEW_ACCESSION = "new_accession"
    CHANGED_SERIES = "changed_series"
    # Other slices, pixels or attributes that the result repeats or reads.
    CHANGED_IMAGES = "changed_images"
    NEW_MODEL = "new_model"
    NEW_SETTINGS = "new_settings"
    # The job found what an earlier one had found: there is no new result.
    UNCHANGED = "unchanged"


STUDY_STATES = tuple(state.value for state in StudyState)
JOB_STATES = tuple(state.value for state in JobState)
ACTIVE_JOB_STATES = (JobState.WAITING.value, JobState.RUNNING.value)
RESULT_STATUSES = ("analysed", "not_analysable")
OUTBOX_STATES = tuple(state.value for state in OutboxState)
PROOFS = tuple(proof.value for proof in Proof)
UNPROVEN = (Proof.WANTED.value, Proof.ASKED.value)
EVIDENCE = (Proof.COMMITTED.value, Proof.FOUND.value)
RESULT_ROLES = (
    "report",
    "report_2d",
    "overlay",
    "table",
    "sheet",
    "picture",
    "presentation",
    "key_object",
    "findings",
)
# The kinds of results that a destination may get: a role, which covers the object that stands in for it.
SENT_ROLES = ("report", "overlay", "table", "sheet", "presentation", "key_object")
# The outcome of a job whose study a rule of the settings keeps, beside the statuses of results.
KEPT = "kept"


class AlertKind(StrEnum):
    """Every kind of alert; ``words`` tell its receivers what it is about."""

    words: str

    def __new__(cls, value: str, words: str) -> AlertKind:
        """The member for a stored value, with its words."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member

    QUARANTINE = "quarantine", "an object was put aside; the detail says why and where"
    MISSING_FILE = "missing_file", "an indexed file is not on disk, or has other bytes"
    DISK_RESERVE = "disk_reserve", "too little free space, or nothing can be written: images are refused"
    REFUSED = "refused", "an association or an object was refused"
    STUDY_LIMIT = "study_limit", "a study is larger than the settings allow: its further images are refused"
    INCOMPLETE_STUDY = (
        "incomplete_study",
        "the sender's archive has more images of a study than came; it was analysed as it is",
    )
    TWO_PATIENTS = (
        "two_patients",
        "the images of a study contradict each other about the patient: it is put aside until it is released",
    )
    IDENTIFIER = (
        "identifier",
        "an identifier of a study does not fit its attribute in the result; the detail says what became of it",
    )
    JOB_FAILED = "job_failed", "an analysis was given up"
    DELIVERY_FAILED = "delivery_failed", "a destination refuses a result for good"
    NOT_KEPT = "not_kept", "a destination does not have what it had acknowledged; it is sent again"
    NOT_PROVEN = (
        "not_proven",
        "a destination does not answer the question whether it keeps what it got; it is asked again",
    )
    COMMITMENT_UNANSWERED = (
        "commitment_unanswered",
        "a sender that asked us to keep its images could not be given the answer",
    )
    DESTINATION_DOWN = "destination_down", "a destination cannot be reached; delivery goes on trying"
    RECEIVER_DOWN = "receiver_down", "a receiver of alerts cannot be told; it is tried again"
    CLOCK = (
        "clock",
        "the time of day is not plausible; nothing is analysed, sent or deleted until it is, or you say it is",
    )
    TIMER_STUCK = "timer_stuck", "a timer of the node stands still: it has not come to the end of a turn for too long"
    DATABASE_LOST = "database_lost", "the database file was deleted or replaced under the node; restart it"
    PROCESS_RESTARTED = "process_restarted", "a process of the node ended by itself"
    WEB_UNAVAILABLE = "web_unavailable", "the web process cannot listen on its port"
    AUDIT_BEHIND = "audit_behind", "the audit repository cannot be reached; its messages are kept and sent later"

    @staticmethod
    def words_of(kind: str) -> str:
        """The words of a stored kind; empty for one that only another version of the node knows."""
        return next((known.words for known in AlertKind if known == kind), "")
