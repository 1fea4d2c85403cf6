"""Doing jobs: read the study, make its result, and store all of it in one transaction."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.analysis import jobs
from dicom_node.analysis.analyse import Analysis, Reading, make, read
from dicom_node.analysis.detector import StudyReader
from dicom_node.analysis.explanation import explanation_of
from dicom_node.analysis.inputs import Input
from dicom_node.analysis.jobs import Claim
from dicom_node.analysis.lease import Lease, owner_name
from dicom_node.analysis.origin import origin_of
from dicom_node.analysis.patient import TwoPatientsError
from dicom_node.analysis.products import Origin, RefusedByGateError
from dicom_node.analysis.release import Share, share_of
from dicom_node.analysis.storing import DamagedResultError, end_with_known, replaced_reports, store_result, write_files
from dicom_node.analysis.study_rules import rule_that_fits
from dicom_node.analysis.time_limit import TimedReader, TimeIsUp, TimeLimit
from dicom_node.analysis.waiting import wait_until
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.database.words import AlertKind
from dicom_node.errors import Done, LeaseLostError, NodeError, Reject, Retry, StepResult
from dicom_node.images.folders import unwritable
from dicom_node.images.records import count_purged, inputs_of, is_intact
from dicom_node.results.sr_document import Predecessor
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import back_off, clock, utc_now
from dicom_node.system.files import safe_path
from dicom_node.system.lifecycle import StopFlag, notify_ready
from dicom_node.system.log import describe, get_logger
from dicom_node.system.loops import keep_doing
from spineone_core.imaging.files import read_dataset


class IncompleteError(NodeError):
    """Images of the study are not on disk as they were received. Send or pull the study again; then it is analysed."""


class Worker:
    """Takes jobs and does them one after the other."""

    def __init__(self, settings: NodeSettings, database: Database, detector: StudyReader) -> None:
        self._settings = settings
        self._database = database
        self._limit = TimeLimit(settings.worker.job_limit_s, settings.data_dir)
        self._detector = TimedReader(detector, self._limit)
        self._owner = owner_name(os.getpid())
        self._audit = AuditLog(settings)

    def run(self, stop: StopFlag) -> None:
        """Work until asked to stop."""
        get_logger().info("working", model=self._detector.identity.name, digest=self._detector.identity.digest)
        notify_ready()
        # A locked or unreachable database comes back; until then the lease protects the job.
        keep_doing(lambda: self.run_once(stop), stop, self._settings.worker.poll_seconds, failed="worker_error")
        get_logger().info("stopped")

    def run_once(self, stop: StopFlag | None = None) -> bool:
        """Do the next job; False if there was none.

        None is begun while its result would be dated by a clock that is not plausible, or could not be written: the attempts
        of a job are not used up on that.
        """
        if clock.fault() or unwritable(self._settings.data_dir):
            return False
        with self._database.write() as session:
            # The longest that a job may wait, for its next attempt or for a series.
            pause = max(self._settings.worker.retry_max_s, self._settings.study.wait_for_series_seconds)
            claim = jobs.claim(session, self._owner, now=utc_now(), longest_pause_s=pause)
        if claim is None:
            return False
        log = get_logger().bind(job=claim.job_id, study_uid=claim.study_uid, attempt=claim.attempts)
        log.info("job_started")
        began = time.monotonic()
        with Lease(self._database, claim, self._settings.worker.heartbeat_s, stop):
            outcome = self._attempt(claim)
        self._tell_audit(claim.study_uid, outcome)
        log.info("job_ended", outcome=type(outcome).__name__.lower(), seconds=round(time.monotonic() - began, 2))
        return True

    def _tell_audit(self, study_uid: str, outcome: StepResult) -> None:
        """Record that the study was read, and whether that gave a result."""
        study = self._audit.study(self._database, study_uid)
        failure = "" if isinstance(outcome, Done) else "the analysis failed"
        us = self._audit.node(is_requestor=True)
        self._audit.record(audit_message.accessed([us], [study], failure=failure))

    def _attempt(self, claim: Claim) -> StepResult:
        """Make one attempt; its outcome is then in the database."""
        outcome: Reject | Retry
        try:
            with self._limit.of_job(claim.job_id):
                return self._do(claim)
        except LeaseLostError:
            return Reject("the job was given to another worker")
        except TwoPatientsError as error:
            return self._put_aside(claim, str(error))
        except (RefusedByGateError, IncompleteError, DamagedResultError) as error:
            outcome = Reject(str(error))
        except TimeIsUp as error:  # outside the detector, which makes a refusal of it
            outcome = Reject(f"the job {error}")
        except Exception as error:  # out of memory, device lost, disk full: it may pass; the attempts are counted
            get_logger().exception("job_error", job=claim.job_id, study_uid=claim.study_uid)
            outcome = Retry(describe(error))
        self._put_back(claim, outcome)
        return outcome

    def _put_aside(self, claim: Claim, reason: str) -> Reject:
        """Put the study aside until a person decides whose it is, or until it is sent again."""
        try:
            with self._database.write() as session:
                jobs.put_aside(session, claim, AlertKind.TWO_PATIENTS, reason)
        except LeaseLostError:
            get_logger().warning("lease_lost", job=claim.job_id)
        return Reject(reason)

    def _put_back(self, claim: Claim, outcome: Reject | Retry) -> None:
        rules = self._settings.worker
        try:
            with self._database.write() as session:
                if isinstance(outcome, Reject):
                    jobs.reject(session, claim, outcome.reason)
                    return
                after = outcome.after or back_off(claim.attempts, rules.retry_first_s, rules.retry_max_s)
                jobs.fail(session, claim, outcome.why, after=after, max_attempts=rules.max_attempts)
        except LeaseLostError:
            get_logger().warning("lease_lost", job=claim.job_id)

    def _do(self, claim: Claim) -> Done:
        share = self._share(claim.study_uid)
        if self._is_kept(claim, share):
            return Done()
        inputs = [self._input(row) for row in share.rows]
        when = claim.created_at
        reading = read(
            self._detector,
            claim.study_uid,
            inputs,
            self._settings,
            created=when,
            confirmed=share.confirmed,
            left_out=share.left_out,
        )
        with self._database.write() as session:
            if end_with_known(session, claim, reading) or self._waits(session, claim, reading):
                return Done()
            origin = origin_of(session, self._settings.data_dir, claim, reading)
        made = make(reading, self._settings, created=when, history=self._replaced_reports, origin=origin)
        folder = safe_path(self._settings.data_dir / "results", claim.study_uid, made.key.digest[:32])
        analysis = write_files(made, folder)
        with self._database.write() as session:
            self._store(session, claim, reading, analysis, folder, origin)
        return Done()

    def _is_kept(self, claim: Claim, share: Share) -> bool:
        """Whether a rule of the settings keeps the study; its job then ends."""
        rules = self._settings.rules
        if not rules:
            return False
        with self._database.read() as session:
            if session.get_one(StudyRow, claim.study_uid).analyse_anyway:
                return False
        paths = {row.series_uid: self._settings.data_dir / row.path for row in share.rows}
        rule = rule_that_fits(rules, [read_dataset(path, pixels=False) for path in paths.values()])
        if rule is None or rule.action == "analyse":
            return False
        with self._database.write() as session:
            jobs.keep(session, claim, f"kept, not analysed: rule {rule.name!r}")
        return True

    def _waits(self, session: Session, claim: Claim, reading: Reading) -> bool:
        """Whether the study waits for a series that can be analysed; its job then is put off."""
        detection, study = reading.detection, session.get_one(StudyRow, claim.study_uid)
        until = wait_until(study, detection.reason, self._settings.study, utc_now()) if claim.may_wait else None
        if until is None:
            return False
        if reading.selection is not None:
            jobs.note_selection(session, claim, json.dumps(explanation_of(reading.selection)))
        why = f"waits for a series until {until:%Y-%m-%d %H:%M:%S} UTC; so far {detection.reason}: {detection.reason_detail}"
        jobs.put_off(session, claim, why, until=until)
        return True

    def _share(self, study_uid: str) -> Share:
        """The images of the study, or those of the patient that it was released for."""
        data_dir = self._settings.data_dir
        with self._database.read() as session:
            rows = inputs_of(session, study_uid)
            purged = count_purged(session, study_uid)
            if purged:
                raise IncompleteError(
                    f"{purged} images of the study were deleted by retention: send or pull all of it again"
                )
            share = share_of(session, study_uid, rows, data_dir)
        self._check_bytes(share.rows)
        return share

    def _input(self, row: Instance) -> Input:
        path = self._settings.data_dir / row.path
        return Input(path, row.sop_instance_uid, row.sop_class_uid, row.sha256, row.version, row.received_at)

    def _check_bytes(self, rows: Sequence[Instance]) -> None:
        """Check the bytes: a file that was cut or changed may still be readable, but would be measured wrongly."""
        damaged = [row for row in rows if not is_intact(row, self._settings.data_dir)]
        if not damaged:
            return
        with self._database.write() as session:
            for row in damaged:
                raise_alert(
                    session, AlertKind.MISSING_FILE, row.sop_instance_uid, f"{row.path} is missing or has other bytes"
                )
        raise IncompleteError(f"{len(damaged)} images are missing or damaged on disk: send or pull the study again")

    def _replaced_reports(self, study_uid: str) -> dict[str, Predecessor]:
        return replaced_reports(self._database, self._settings.data_dir, study_uid)

    def _store(
        self, session: Session, claim: Claim, reading: Reading, analysis: Analysis, folder: Path, origin: Origin
    ) -> None:
        """Store everything or nothing."""
        if analysis.departures:
            raise_alert(session, AlertKind.IDENTIFIER, claim.study_uid, "; ".join(analysis.departures))
        else:
            close_alert(session, AlertKind.IDENTIFIER, claim.study_uid)
        store_result(session, claim, reading, analysis, folder, self._settings, origin)
