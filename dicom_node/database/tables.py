"""The node's tables.

SQLite (write-ahead log, fully synchronous) and PostgreSQL share one schema. All times are UTC. No column holds patient
data: the files hold them, and the database holds UIDs. Only `ShownPatient` does, where the settings ask for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    false,
    or_,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from dicom_node.database.base import Base, index_where, one_of, unique_where
from dicom_node.database.words import JOB_STATES, OUTBOX_STATES, PROOFS, RESULT_ROLES, RESULT_STATUSES, STUDY_STATES


def is_due(column: InstrumentedAttribute[datetime], now: datetime, longest_s: float) -> ColumnElement[bool]:
    """Whether a time has come.

    A time further ahead than the longest pause was written before the clock was set back. It counts as come too;
    otherwise everything would stand still until the clock had caught up.
    """
    return or_(column <= now, column > now + timedelta(seconds=longest_s))


class Instance(Base):
    """One stored version of one SOP instance. Exactly one version of a SOP Instance UID is current."""

    __tablename__ = "instances"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "sha256"),
        unique_where("uq_instances_current", "sop_instance_uid", where="is_current"),
        Index("ix_instances_study_uid", "study_uid"),
        Index("ix_instances_path", "path", unique=True),
        # Few rows each: what `count_instances` must know beside the studies' own counts.
        index_where("ix_instances_replaced", "id", where="is_current = false"),
        index_where("ix_instances_own", "study_uid", "size", where="is_own_result = true"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    is_current: Mapped[bool] = mapped_column(Boolean)
    study_uid: Mapped[str] = mapped_column(String(64))
    series_uid: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    # The hash of the whole file.
    sha256: Mapped[str] = mapped_column(String(64))
    # Relative to the data folder.
    path: Mapped[str] = mapped_column(String(300))
    size: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime]
    calling_ae: Mapped[str] = mapped_column(String(16))
    calling_address: Mapped[str] = mapped_column(String(64))
    # Whether it is a result of a SpineOne node that a router sent back: such an object is kept, but never analysed.
    is_own_result: Mapped[bool] = mapped_column(Boolean)
    # When retention deleted its file. The row stays, so that late images of its study are not analysed alone.
    purged_at: Mapped[datetime | None]


class StudyRow(Base):
    """A study, and whether its images of this generation are complete."""

    __tablename__ = "studies"
    __table_args__ = (
        one_of("state", STUDY_STATES),
        Index("ix_studies_state", "state"),
        Index("ix_studies_last_received_at", "last_received_at"),
        index_where("ix_studies_on_disk", "last_received_at", where="files > 0"),
    )

    study_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    # Counts from 1; a late image opens the next one.
    generation: Mapped[int] = mapped_column(Integer)
    # The first and the last image of this generation.
    first_received_at: Mapped[datetime]
    last_received_at: Mapped[datetime]
    # When the association that brought the last image was released; None again as soon as another image comes.
    released_at: Mapped[datetime | None]
    # What the sender's archive answered: how many images it has, and how many of these were here at that time.
    asked_at: Mapped[datetime | None]
    images_expected: Mapped[int | None] = mapped_column(Integer)
    images_here: Mapped[int | None] = mapped_column(Integer)
    # When missing images were fetched from that archive.
    fetched_at: Mapped[datetime | None]
    # Whether a person asked for its analysis, whatever the rules of the settings say.
    analyse_anyway: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    # The totals over all generations and versions; deleted images count too.
    stored_images: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # The files that retention has not deleted: all versions, and our own results that came back.
    files: Mapped[int] = mapped_column(Integer, default=0, server_default="0")


class PatientRelease(Base):
    """For which patient a study was released that holds images of two.

    An image stands for the patient, so that no column holds patient data.
    """

    __tablename__ = "patient_releases"

    study_uid: Mapped[str] = mapped_column(String(64), ForeignKey("studies.study_uid"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    # The newest image of the study at that time: the person did not see what came later.
    last_instance_id: Mapped[int] = mapped_column(Integer)
    # Whether the birth date was chosen too, since images of two patients carry this Patient ID.
    by_birth_date: Mapped[bool] = mapped_column(Boolean)
    released_at: Mapped[datetime]


class ShownPatient(Base):
    """Whose study it is, for the screen: a row only while `[shown] patient` is set. The newest image says it."""

    __tablename__ = "shown_patients"
    __table_args__ = (
        Index("ix_shown_patients_patient_id", "patient_id"),
        Index("ix_shown_patients_accession", "accession"),
    )

    study_uid: Mapped[str] = mapped_column(String(64), ForeignKey("studies.study_uid"), primary_key=True)
    patient_id: Mapped[str] = mapped_column(String(64))
    accession: Mapped[str] = mapped_column(String(64))


class Job(Base):
    """One analysis of one generation of a study."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", JOB_STATES),
        CheckConstraint("(state = 'running') = (lease_token IS NOT NULL)", name="lease"),
        CheckConstraint("attempts >= 0", name="attempts"),
        unique_where("uq_jobs_active_study", "study_uid", where="state IN ('waiting', 'running')"),
        Index("ix_jobs_claim", "state", "not_before"),
        Index("ix_jobs_study_uid", "study_uid"),
        index_where("ix_jobs_newest", "state", "outcome", where="is_newest = true"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_uid: Mapped[str] = mapped_column(String(64), ForeignKey("studies.study_uid"))
    generation: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer)
    not_before: Mapped[datetime]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_owner: Mapped[str | None] = mapped_column(String(100))
    # Counts up; the reclaimer watches it change on its own monotonic clock.
    heartbeat: Mapped[int] = mapped_column(Integer)
    # The SHA-256 over the inputs of the last attempt.
    input_hash: Mapped[str | None] = mapped_column(String(64))
    result_id: Mapped[int | None] = mapped_column(ForeignKey("results.id"))
    # The status of that result, or "kept". It and `is_newest` (of its study) stand here so that studies are counted without
    # another table.
    outcome: Mapped[str | None] = mapped_column(String(16))
    is_newest: Mapped[bool] = mapped_column(Boolean, default=True, server_default=true())
    # Whether it found no series to analyse and waits, or waited, for one to come.
    is_put_off: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    # Why it was asked for (`words.Cause`), if a person did; once it has ended, why there is a new result, or none.
    cause: Mapped[str | None] = mapped_column(String(24))
    # What each series was taken for, as `analysis.explanation` says it (JSON), at the last attempt.
    selection: Mapped[str | None] = mapped_column(Text)
    # Why the job waits again, or why it failed.
    reason: Mapped[str] = mapped_column(Text)


class JobEvent(Base):
    """One transition of a job. The table is append-only."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[datetime]
    event: Mapped[str] = mapped_column(String(32))
    from_state: Mapped[str] = mapped_column(String(16))
    to_state: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text)


class ResultRow(Base):
    """The result for one (study, generation, inputs, model, settings): exactly one row."""

    __tablename__ = "results"
    __table_args__ = (
        one_of("status", RESULT_STATUSES),
        UniqueConstraint("study_uid", "generation", "input_hash", "model_digest", "settings_digest"),
        Index("ix_results_status", "status", "reason"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_uid: Mapped[str] = mapped_column(String(64), ForeignKey("studies.study_uid"))
    generation: Mapped[int] = mapped_column(Integer)
    input_hash: Mapped[str] = mapped_column(String(64))
    model_digest: Mapped[str] = mapped_column(String(64))
    settings_digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(64))
    # The JSON object that findings.json holds.
    findings: Mapped[str] = mapped_column(Text)
    # Whether the settings let none of it be sent, although there may be destinations.
    is_withheld: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    created_at: Mapped[datetime]


class ResultFile(Base):
    """A file of a result. ``report_2d`` is the same report for destinations that take no Comprehensive 3D SR."""

    __tablename__ = "result_files"
    __table_args__ = (
        one_of("role", RESULT_ROLES),
        UniqueConstraint("result_id", "role"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id"))
    role: Mapped[str] = mapped_column(String(16))
    # Relative to the data folder.
    path: Mapped[str] = mapped_column(String(300))
    sha256: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str | None] = mapped_column(String(64))
    sop_instance_uid: Mapped[str | None] = mapped_column(String(64))


class OutboxRow(Base):
    """One file that must reach one destination."""

    __tablename__ = "outbox"
    __table_args__ = (
        one_of("state", OUTBOX_STATES),
        one_of("proof", PROOFS),
        UniqueConstraint("result_file_id", "destination"),
        Index("ix_outbox_due", "state", "destination", "next_attempt_at"),
        Index("ix_outbox_proof", "proof", "destination", "proof_at"),
        Index("ix_outbox_study_uid", "study_uid"),
        Index("ix_outbox_counts", "destination", "state", "proof"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    result_file_id: Mapped[int] = mapped_column(ForeignKey("result_files.id"))
    study_uid: Mapped[str] = mapped_column(String(64))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    next_attempt_at: Mapped[datetime]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    # The C-STORE status of the last answer; None if there was none.
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_message: Mapped[str] = mapped_column(Text)
    # Whether this file was put on the wire: from then on it is always this one, never an alternative to it.
    is_bound: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    proof: Mapped[str] = mapped_column(String(16), default="none", server_default="none")
    # When to ask (again); once there is evidence, when it came.
    proof_at: Mapped[datetime | None]
    # The number of questions since the object was last sent.
    proof_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # How often the destination no longer had what it had acknowledged.
    losses: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # The transaction of the last commitment request.
    transaction_uid: Mapped[str | None] = mapped_column(String(64))


class PauseRow(Base):
    """A destination to which an operator lets nothing be sent for a while."""

    __tablename__ = "pauses"

    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[datetime]


class CommitmentRow(Base):
    """A commitment request that we sent to a destination (storage commitment as SCU)."""

    __tablename__ = "commitments"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64), unique=True)
    destination: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]


class PromiseRow(Base):
    """A commitment request that a sender made to us, until it is answered (storage commitment as SCP)."""

    __tablename__ = "promises"
    __table_args__ = (Index("ix_promises_due", "next_attempt_at"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(String(64))
    calling_ae: Mapped[str] = mapped_column(String(16))
    # A JSON list of [SOP class UID, SOP instance UID]; it is emptied when the request is answered.
    instances: Mapped[str] = mapped_column(Text)
    # A Failure Reason for all instances; None if each of them is checked when the request is answered.
    refusal: Mapped[int | None] = mapped_column(Integer)
    received_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(Integer)
    # None if there is nothing (more) to do.
    next_attempt_at: Mapped[datetime | None]
    last_message: Mapped[str] = mapped_column(Text)


class Alert(Base):
    """Something that a person should know; it stays open until it has passed or is acknowledged."""

    __tablename__ = "alerts"
    __table_args__ = (
        unique_where("uq_alerts_open", "kind", "subject", where="closed_at IS NULL"),
        Index("ix_alerts_closed_at", "closed_at"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    # A UID, an AE title or a destination: never patient data.
    subject: Mapped[str] = mapped_column(String(200))
    detail: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(Integer)
    opened_at: Mapped[datetime]
    last_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class ReceiverRow(Base):
    """Someone who is told of alerts, and how telling them goes."""

    __tablename__ = "receivers"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Alerts that were over before this time are not told.
    since: Mapped[datetime]
    last_sent_at: Mapped[datetime | None]
    # The number of failures since the last message was sent.
    attempts: Mapped[int] = mapped_column(Integer)
    next_attempt_at: Mapped[datetime | None]
    last_message: Mapped[str] = mapped_column(Text)


class NoticeRow(Base):
    """What a receiver was told of an alert."""

    __tablename__ = "notices"
    __table_args__ = (UniqueConstraint("alert_id", "receiver"), Index("ix_notices_open", "receiver", "is_over"))

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"))
    receiver: Mapped[str] = mapped_column(String(64))
    told_at: Mapped[datetime]
    # Whether the receiver was also told that the alert is over; then there is nothing more to say.
    is_over: Mapped[bool] = mapped_column(Boolean)


class ProcessRow(Base):
    """A running process of the node, and when it last said that it is alive. The row goes when the process stops."""

    __tablename__ = "processes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(100))
    pid: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    # What runs: the version of the software, and the model of a worker.
    version: Mapped[str | None] = mapped_column(String(40))
    model: Mapped[str | None] = mapped_column(String(200))
    # The GPU of a worker that uses one.
    gpu_device: Mapped[str | None] = mapped_column(String(16))
    gpu_free_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpu_total_bytes: Mapped[int | None] = mapped_column(BigInteger)
