"""The job table: it has one literal table of transitions, claims by lease, and an event for each transition.

The job table is the queue. A claim sets a lease token; a worker that no longer holds the token cannot finish the job. A
lease ends when the reclaimer has seen no heartbeat for the lease's length on its own monotonic clock, so clock jumps
and reboots do not matter. It ends at once when the supervisor has seen the worker die.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.database.tables import Job, JobEvent, ResultRow, StudyRow, is_due
from dicom_node.database.words import KEPT, AlertKind, Cause, JobState, StudyState
from dicom_node.errors import InvalidTransitionError, LeaseLostError
from dicom_node.system.clock import utc_now
from dicom_node.system.transitions import next_state


class Event(StrEnum):
    """What can happen to a job."""

    CLAIMED = "claimed"
    SUCCEEDED = "succeeded"
    FAILED_TRANSIENT = "failed_transient"
    # The study has no series to analyse yet: one may come.
    PUT_OFF = "put_off"
    # More images came before it was done: the job of all of them takes its place.
    SUPERSEDED = "superseded"
    # A rule of the settings keeps the study: nothing is analysed.
    KEPT = "kept"
    REJECTED = "rejected"
    # The study waits for a person's decision; this is no failure of the analysis.
    PUT_ASIDE = "put_aside"
    EXHAUSTED = "exhausted"
    LEASE_EXPIRED = "lease_expired"
    HANDED_BACK = "handed_back"
    RETRIED = "retried"
    # The job stays as it is; its history says that its images were deleted.
    PURGED = "purged"
    # The job stays as it is; its history says that images were missing when it was queued.
    INCOMPLETE = "incomplete"


TRANSITIONS: dict[tuple[JobState, Event], JobState] = {
    (JobState.WAITING, Event.CLAIMED): JobState.RUNNING,
    (JobState.RUNNING, Event.SUCCEEDED): JobState.DONE,
    (JobState.RUNNING, Event.FAILED_TRANSIENT): JobState.WAITING,
    (JobState.RUNNING, Event.PUT_OFF): JobState.WAITING,
    (JobState.RUNNING, Event.KEPT): JobState.DONE,
    (JobState.WAITING, Event.SUPERSEDED): JobState.DONE,
    (JobState.RUNNING, Event.REJECTED): JobState.FAILED,
    (JobState.RUNNING, Event.PUT_ASIDE): JobState.FAILED,
    (JobState.RUNNING, Event.EXHAUSTED): JobState.FAILED,
    (JobState.RUNNING, Event.LEASE_EXPIRED): JobState.WAITING,
    (JobState.RUNNING, Event.HANDED_BACK): JobState.WAITING,
    (JobState.WAITING, Event.RETRIED): JobState.WAITING,
    (JobState.WAITING, Event.INCOMPLETE): JobState.WAITING,
    (JobState.FAILED, Event.RETRIED): JobState.WAITING,
    (JobState.DONE, Event.PURGED): JobState.DONE,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in the hands of one worker.

    ``may_wait`` says whether it may be put off until a series comes: once, and not if a person asked for it.
    """

    job_id: int
    token: str
    study_uid: str
    generation: int
    attempts: int
    created_at: datetime
    may_wait: bool = True
    cause: Cause | None = None


def enqueue(
    session: Session,
    study_uid: str,
    generation: int,
    *,
    now: datetime,
    priority: int = 0,
    cause: Cause | None = None,
) -> Job:
    """Add a waiting job. The database refuses a second unfinished job of the same study."""
    session.execute(update(Job).where(Job.study_uid == study_uid, Job.is_newest).values(is_newest=False))
    job = Job(
        study_uid=study_uid,
        generation=generation,
        state=JobState.WAITING,
        priority=priority,
        attempts=0,
        not_before=now,
        created_at=now,
        heartbeat=0,
        cause=cause,
        reason="",
    )
    session.add(job)
    session.flush()
    return job


def claim(session: Session, owner: str, *, now: datetime, longest_pause_s: float = 604800) -> Claim | None:
    """Take the next waiting job: highest priority first, then oldest. None if there is none.

    The job of a study that is receiving again is left: half of a series might be read, and the job of all its images
    takes its place. No job waits longer than ``longest_pause_s`` (by default the most that the settings allow).
    """
    query = (
        select(Job)
        .where(Job.state == JobState.WAITING, is_due(Job.not_before, now, longest_pause_s), ~_is_receiving())
        .order_by(Job.priority.desc(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = session.scalar(query)
    if job is None:
        return None
    job.lease_token, job.lease_owner = uuid4().hex, owner
    job.attempts += 1
    job.heartbeat += 1
    _apply(session, job, Event.CLAIMED, owner)
    cause = Cause(job.cause) if job.cause else None
    may_wait = not job.is_put_off and cause is not Cause.BY_HAND
    return Claim(job.id, job.lease_token, job.study_uid, job.generation, job.attempts, job.created_at, may_wait, cause)


def _is_receiving() -> ColumnElement[bool]:
    return exists().where(StudyRow.study_uid == Job.study_uid, StudyRow.state == StudyState.RECEIVING)


def beat(session: Session, held: Claim) -> bool:
    """Say that the worker is alive. False if the lease was lost."""
    mine = (Job.id == held.job_id, Job.lease_token == held.token)
    changed = session.scalars(update(Job).where(*mine).values(heartbeat=Job.heartbeat + 1).returning(Job.id))
    return changed.first() is not None


def note_selection(session: Session, held: Claim, selection: str) -> None:
    """Keep what each series of the study was taken for (JSON)."""
    _held(session, held).selection = selection


def put_off(session: Session, held: Claim, reason: str, *, until: datetime) -> None:
    """Let a job wait for more images, without counting the attempt; if none come until then, it is done as it is."""
    job = _held(session, held)
    job.attempts -= 1
    job.not_before, job.is_put_off, job.reason = until, True, reason
    _apply(session, job, Event.PUT_OFF, reason)


def supersede(session: Session, job: Job) -> None:
    """End a waiting job without a result, because the job of a later generation takes its place."""
    job.reason = "more images came: a later job takes its place"
    _apply(session, job, Event.SUPERSEDED, job.reason)


def keep(session: Session, held: Claim, reason: str) -> None:
    """End a job without a result, because a rule of the settings keeps its study."""
    job = _held(session, held)
    job.outcome, job.reason = KEPT, reason
    _apply(session, job, Event.KEPT, reason)
    close_alert(session, AlertKind.JOB_FAILED, job.study_uid)


def succeed(
    session: Session, held: Claim, *, result_id: int, input_hash: str, detail: str, cause: Cause | None = None
) -> None:
    """Finish a job with its result, in the same transaction as the result's rows.

    Raises
    ------
    LeaseLostError
        If another worker has the job.
    """
    job = _held(session, held)
    job.result_id, job.input_hash, job.reason = result_id, input_hash, detail
    job.outcome, job.cause = session.get_one(ResultRow, result_id).status, cause
    _apply(session, job, Event.SUCCEEDED, detail)
    close_alert(session, AlertKind.JOB_FAILED, job.study_uid)


def fail(session: Session, held: Claim, why: str, *, after: float, max_attempts: int) -> JobState:
    """Note a transient failure: try again after ``after`` seconds, or give up with an alert after the last attempt."""
    job = _held(session, held)
    job.reason = why
    if job.attempts >= max_attempts:
        return _give_up(session, job, Event.EXHAUSTED, f"{why} ({job.attempts} attempts)")
    job.not_before = utc_now() + timedelta(seconds=after)
    _apply(session, job, Event.FAILED_TRANSIENT, why)
    return JobState(job.state)


def reject(session: Session, held: Claim, reason: str) -> None:
    """Note a permanent failure: the job is put aside with an alert."""
    job = _held(session, held)
    _give_up(session, job, Event.REJECTED, reason)


def put_aside(session: Session, held: Claim, kind: AlertKind, reason: str) -> None:
    """Note that the study waits for a person's decision, with the alert that says what about."""
    job = _held(session, held)
    job.reason = reason
    _apply(session, job, Event.PUT_ASIDE, reason)
    close_alert(session, AlertKind.JOB_FAILED, job.study_uid)
    raise_alert(session, kind, job.study_uid, reason)


def hand_back(session: Session, held: Claim) -> None:
    """Give an unfinished job back, as on shutdown; the attempt does not count."""
    job = _held(session, held)
    job.attempts -= 1
    _apply(session, job, Event.HANDED_BACK, "")


def retry(session: Session, job_id: int) -> Job:
    """Try a failed job again, or a waiting one at once, because an operator asked for it.

    Raises
    ------
    InvalidTransitionError
        If there is no such job, or it is running or done.
    """
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise InvalidTransitionError(f"there is no job {job_id}")
    job.attempts, job.not_before = 0, utc_now()
    _apply(session, job, Event.RETRIED, "by an operator")
    close_alert(session, AlertKind.JOB_FAILED, job.study_uid)
    return job


def note_purge(session: Session, job_id: int, detail: str) -> None:
    """Note that the images of a finished job are deleted, in the transaction that decides it.

    Raises
    ------
    InvalidTransitionError
        If the job is not done.
    """
    _apply(session, session.get_one(Job, job_id, with_for_update=True), Event.PURGED, detail)


def note_incomplete(session: Session, job: Job, detail: str) -> None:
    """Note that images of a study are missing, in the transaction that queues its job."""
    _apply(session, job, Event.INCOMPLETE, detail)


def expire_all_of(session: Session, owner: str, why: str, *, max_attempts: int) -> list[int]:
    """Give the jobs of a worker that is known to be dead back to the queue at once; returns their numbers.

    The attempt counts: a job that kills its workers is given up in the end.
    """
    mine = select(Job).where(Job.state == JobState.RUNNING, Job.lease_owner == owner).order_by(Job.id)
    held = session.scalars(mine.with_for_update()).all()
    for job in held:
        _expire(session, job, max_attempts, why)
    return [job.id for job in held]


class LeaseWatch:
    """Finds running jobs whose worker has fallen silent.

    It remembers what it saw, so each reclaimer needs one instance.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[int, tuple[int, float]] = {}

    def reclaim(self, session: Session, *, max_attempts: int, monotonic: float | None = None) -> list[int]:
        """Give the jobs of silent workers back to the queue; returns their numbers."""
        now = time.monotonic() if monotonic is None else monotonic
        running = session.scalars(
            select(Job).where(Job.state == JobState.RUNNING).order_by(Job.id).with_for_update()
        ).all()
        silent = [job for job in running if self._silent(job, now)]
        self._seen = {job.id: self._seen[job.id] for job in running if job not in silent}
        for job in silent:
            _expire(session, job, max_attempts, "fell silent")
        return [job.id for job in silent]

    def _silent(self, job: Job, now: float) -> bool:
        heartbeat, since = self._seen.get(job.id, (None, now))
        if heartbeat != job.heartbeat:
            self._seen[job.id] = (job.heartbeat, now)
            return False
        return now - since >= self._lease_s


def _expire(session: Session, job: Job, max_attempts: int, why: str) -> None:
    detail = f"worker {job.lease_owner} {why}"
    if job.attempts >= max_attempts:
        _give_up(session, job, Event.EXHAUSTED, f"{detail} ({job.attempts} attempts)")
        return
    job.reason = detail
    _apply(session, job, Event.LEASE_EXPIRED, detail)


def _give_up(session: Session, job: Job, event: Event, reason: str) -> JobState:
    job.reason = reason
    _apply(session, job, event, reason)
    raise_alert(session, AlertKind.JOB_FAILED, job.study_uid, f"job {job.id}: {reason}")
    return JobState(job.state)


def _held(session: Session, held: Claim) -> Job:
    job = session.get(Job, held.job_id, with_for_update=True, populate_existing=True)
    if job is None or job.lease_token != held.token:
        raise LeaseLostError(f"job {held.job_id} was given to another worker")
    return job


def _apply(session: Session, job: Job, event: Event, detail: str) -> None:
    """Change a job's state, which happens nowhere else."""
    before = JobState(job.state)
    after = next_state(TRANSITIONS, before, event, f"job {job.id}")
    job.state = after
    if after is not JobState.RUNNING:
        job.lease_token = job.lease_owner = None
    if after is not before:
        job.finished_at = utc_now() if after in (JobState.DONE, JobState.FAILED) else None
    session.add(
        JobEvent(job_id=job.id, at=utc_now(), event=event, from_state=before, to_state=after, detail=detail[:500])
    )
    session.flush()


def newest(session: Session, study_uid: str, *, state: JobState | None = None) -> Job | None:
    """The last job of a study, or its last job in this state; None if there is none."""
    query = select(Job).where(Job.study_uid == study_uid).order_by(Job.id.desc()).limit(1)
    return session.scalar(query if state is None else query.where(Job.state == state))


def history(session: Session, job_id: int) -> Sequence[JobEvent]:
    """All events of a job, oldest first."""
    return session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id)).all()
