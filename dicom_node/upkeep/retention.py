"""Deleting received images, but only on evidence: never those of a study whose result has not reached its destinations.

A study is marked in one transaction, with an event in its job's history; then its files are deleted. A crash in between
leaves files that the next start of the listener deletes. The index rows stay, so that late images of such a study are
never analysed alone.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.analysis import jobs
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import Participant
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, OutboxRow, ResultFile, ResultRow, StudyRow
from dicom_node.database.words import EVIDENCE, KEPT, JobState, OutboxState, StudyState
from dicom_node.images.records import delete_purged
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import clock, utc_now
from dicom_node.system.log import get_logger


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one study: how many files and bytes it has on disk, and why they are kept.

    The reason is empty if they may be, or were, deleted.
    """

    study_uid: str
    files: int
    size: int
    kept_because: str

    def line(self, *, done: bool) -> str:
        """The verdict as a line for a person."""
        what = f"kept: {self.kept_because}" if self.kept_because else ("deleted" if done else "would be deleted")
        return f"{self.study_uid}: {self.files} files, {self.size / 1e6:.1f} MB, {what}"


class Retention:
    """Judges which studies may be deleted, and deletes them.

    Parameters
    ----------
    settings, database
        The node's settings and database.
    asked_by
        The person who asks for it; None if only the rules do.
    """

    def __init__(self, settings: NodeSettings, database: Database, *, asked_by: Participant | None = None) -> None:
        self._rules = settings.retention
        self._data_dir = settings.data_dir
        self._database = database
        self._audit = AuditLog(settings)
        self._who = [self._audit.node(is_requestor=asked_by is None), *([asked_by] if asked_by else [])]

    def purge_due(self) -> None:
        """Delete what is old enough and, if space is short, the oldest before its time, if the settings say so.

        Nothing is deleted while the time of day is not plausible: the oldest study is then not known.
        """
        if clock.fault():
            return
        if self._rules.keep_days:
            for study in self.older_than(self._rules.keep_days):
                self.purge(study)
        if self._is_pressed():
            for study in self.older_than(0):
                if not self._is_pressed():
                    return
                self.purge(study)

    def older_than(self, days: float) -> list[str]:
        """The studies with images on disk that received none for ``days`` days, oldest first."""
        long_ago = StudyRow.last_received_at <= utc_now() - timedelta(days=days)
        query = select(StudyRow.study_uid).where(long_ago, StudyRow.files > 0).order_by(StudyRow.last_received_at)
        with self._database.read() as session:
            return list(session.scalars(query))

    def judge(self, study_uid: str) -> Verdict:
        """What `purge` would do."""
        with self._database.read() as session:
            return self._judge(session, study_uid)

    def purge(self, study_uid: str) -> Verdict:
        """Delete the images of a study, if the evidence allows it at this moment."""
        study = self._audit.study(self._database, study_uid)
        with self._database.write() as session:
            study_row = session.get(StudyRow, study_uid, with_for_update=True)
            verdict = self._judge(session, study_uid)
            if verdict.kept_because:
                return verdict
            rows = _on_disk(session, study_uid)
            for row in rows:
                row.purged_at = utc_now()
            if study_row is not None:
                study_row.files -= len(rows)
            job = jobs.newest(session, study_uid)
            assert job is not None
            jobs.note_purge(
                session, job.id, f"{verdict.files} files, {verdict.size} bytes; evidence: {self._rules.evidence}"
            )
            names = [row.path for row in rows]
        delete_purged(self._database, self._data_dir, *names)
        self._remove_empty_folders(names)
        self._audit.record(audit_message.deleted(self._who, study, f"evidence: {self._rules.evidence}"))
        get_logger().info("study_purged", study_uid=study_uid, files=verdict.files, bytes=verdict.size)
        return verdict

    def _judge(self, session: Session, study_uid: str) -> Verdict:
        rows = _on_disk(session, study_uid)
        reason = "there is nothing on disk" if not rows else self._kept_because(session, study_uid)
        return Verdict(study_uid, len(rows), sum(row.size for row in rows), reason)

    def _kept_because(self, session: Session, study_uid: str) -> str:
        if fault := clock.fault():
            return fault
        study, job = session.get(StudyRow, study_uid), jobs.newest(session, study_uid)
        if study is None or study.state != StudyState.COMPLETE:
            return "its images are still coming"
        is_done = job is not None and job.state == JobState.DONE and job.generation == study.generation
        if is_done and job is not None and job.outcome == KEPT:
            return ""
        if job is None or not is_done or job.result_id is None:
            return "it has no result yet" if job is None or job.state != JobState.FAILED else "its analysis failed"
        parcels = session.execute(
            select(OutboxRow, ResultFile.result_id)
            .join(ResultFile, ResultFile.id == OutboxRow.result_file_id)
            .join(ResultRow, ResultRow.id == ResultFile.result_id)
            .where(ResultRow.study_uid == study_uid)
        ).all()
        behind = sorted({row.destination for row, _ in parcels if row.state != OutboxState.SENT})
        if behind:
            return f"a result has not reached {', '.join(behind)}"
        mine = [row for row, result in parcels if result == job.result_id]
        return self._not_evident(mine, session.get_one(ResultRow, job.result_id))

    def _not_evident(self, parcels: list[OutboxRow], result: ResultRow) -> str:
        if self._rules.evidence == "analysed" or (result.is_withheld and not parcels):
            return ""
        if not parcels:
            return "its result has no destination"
        unproven = sorted({row.destination for row in parcels if row.proof not in EVIDENCE})
        if self._rules.evidence == "proven" and unproven:
            return f"no proof that {', '.join(unproven)} keeps the result"
        return ""

    def _is_pressed(self) -> bool:
        return shutil.disk_usage(self._data_dir).free < self._rules.purge_below_gb * 1_000_000_000

    def _remove_empty_folders(self, names: list[str]) -> None:
        series = {(self._data_dir / name).parent for name in names}
        for folder in [*sorted(series), *sorted({folder.parent for folder in series})]:
            try:
                folder.rmdir()
            except OSError:
                # Not empty, or in use again.
                continue


def _on_disk(session: Session, study_uid: str) -> list[Instance]:
    query = select(Instance).where(Instance.study_uid == study_uid, Instance.purged_at.is_(None))
    return list(session.scalars(query.order_by(Instance.id)))
