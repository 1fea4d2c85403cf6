"""Asking a sender's archive how many images a study has (C-FIND, or QIDO-RS).

The answer saves waiting for a study that is already complete, and keeps an incomplete one from being taken for
complete. The census runs in its own threads: an archive that hangs holds up nothing, and then the quiet time decides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import audit_query
from dicom_node.database.connection import Database
from dicom_node.dicom.query import FIND, find, query_of, text_of
from dicom_node.dicom.remote import RemoteAE
from dicom_node.dicomweb.qido import QidoClient, value_of
from dicom_node.dicomweb.remote import WebRemote
from dicom_node.errors import DeliveryError
from dicom_node.images import studies
from dicom_node.settings.node import AnyArchive, NodeSettings
from dicom_node.settings.sections import Archive
from dicom_node.system.clock import utc_now
from dicom_node.system.lifecycle import StopFlag
from dicom_node.system.log import get_logger
from dicom_node.system.loops import keep_doing

_LOOK_EVERY_S = 1.0
# Only MR images are counted: nothing else is analysed, and the node's results, which the archive has, never come back.
_MODALITY = "MR"
# The digits of a number of images that is believed (VR IS, PS3.5 6.2, has twelve characters).
_LONGEST_NUMBER = 12


class Census:
    """Counts the images of studies that are being received.

    Parameters
    ----------
    fetch
        Fetches the missing images of a study from an archive.
    """

    def __init__(self, settings: NodeSettings, database: Database, fetch: Callable[[AnyArchive, str], object]) -> None:
        self._settings = settings
        self._database = database
        self._fetch = fetch
        self._audit = AuditLog(settings)

    def start(self, stop: StopFlag) -> None:
        """Count until asked to stop, in threads that end with the process."""
        for archive in self._settings.archives:
            if not self._senders(archive):
                continue
            steps = [self.ask_due, *([self.fetch_due] if archive.fetch_missing else [])]
            for step in steps:
                name = f"census-{archive.name}-{step.__name__}"
                threading.Thread(target=self._run, args=(step, archive, stop), name=name, daemon=True).start()

    def _run(self, step: Callable[[AnyArchive], None], archive: AnyArchive, stop: StopFlag) -> None:
        # Where a step fails, the quiet time decides.
        keep_doing(
            lambda: step(archive), stop, _LOOK_EVERY_S, failed="census_failed", wait_first=True, archive=archive.name
        )

    def _senders(self, archive: AnyArchive) -> list[str]:
        return [peer.ae_title for peer in self._settings.peers if peer.archive == archive.name]

    def ask_due(self, archive: AnyArchive) -> None:
        """Ask an archive once about every study that is due, on one association or session."""
        with self._database.read() as session:
            due = studies.to_ask(session, self._senders(archive), utc_now())
        if not due:
            return
        try:
            with self._counting(archive) as count:
                for study_uid in due:
                    audit_query(self._audit, archive, _series_query(study_uid))
                    self._ask(count, study_uid)
        except DeliveryError as error:
            self._not_answered(due, error)

    @contextmanager
    def _counting(self, archive: AnyArchive) -> Iterator[Callable[[str], dict[str, int]]]:
        """What counts the images of a study, in the archive's way."""
        if isinstance(archive, Archive):
            with RemoteAE.of(self._settings, archive).association([(FIND, ())]) as association:
                yield lambda study_uid: count_by_series(association, study_uid)
        else:
            remote = WebRemote.of(self._settings, archive)
            with remote.session() as session:
                qido = QidoClient(remote, session)
                yield lambda study_uid: count_by_qido(qido, study_uid)

    def _ask(self, count: Callable[[str], dict[str, int]], study_uid: str) -> None:
        asked_at = utc_now()
        try:
            series = count(study_uid)
        except DeliveryError as error:
            self._not_answered([study_uid], error)
            return
        with self._database.write() as session:
            studies.note_count(session, study_uid, series, asked_at)
        get_logger().info("census", study_uid=study_uid, archive_has=sum(series.values()))

    def _not_answered(self, study_uids: Sequence[str], error: DeliveryError) -> None:
        get_logger().warning("census_not_answered", studies=len(study_uids), why=str(error))
        with self._database.write() as session:
            for study_uid in study_uids:
                studies.note_count(session, study_uid, None, utc_now())

    def fetch_due(self, archive: AnyArchive) -> None:
        """Fetch the missing images of every study that is due, once."""
        with self._database.read() as session:
            due = studies.to_fetch(session, self._senders(archive), utc_now(), self._settings.study.quiet_seconds)
        for study_uid in due:
            with self._database.write() as session:
                studies.note_fetch(session, study_uid, utc_now())
            get_logger().info("fetching_missing", archive=archive.name, study_uid=study_uid)
            try:
                self._fetch(archive, study_uid)
            except DeliveryError as error:
                get_logger().warning("not_fetched", archive=archive.name, study_uid=study_uid, why=str(error))


def count_by_series(association: Any, study_uid: str) -> dict[str, int]:
    """How many images an archive has in each MR series of a study.

    The query uses the study root (PS3.4 C.6.2) at the level SERIES, and at the level IMAGE for a series whose number of
    images the archive does not give.

    Raises
    ------
    DeliveryError
        If the archive does not answer, or does not answer with a number.
    """
    counts: dict[str, int] = {}
    for match in find(association, _series_query(study_uid)):
        uid, modality = text_of(match, "SeriesInstanceUID"), text_of(match, "Modality")
        if not uid or modality not in ("", _MODALITY):
            continue
        number = text_of(match, "NumberOfSeriesRelatedInstances")
        counts[uid] = int(number) if number.isdecimal() else _count_images(association, study_uid, uid)
    return counts


def count_by_qido(qido: QidoClient, study_uid: str) -> dict[str, int]:
    """As `count_by_series`, by QIDO-RS (PS3.18 10.6): the same series count, in the same way.

    Raises
    ------
    DeliveryError
        If the archive does not answer.
    """
    counts: dict[str, int] = {}
    for match in qido.series(study_uid, _MODALITY):
        uid, number = value_of(match, "SeriesInstanceUID"), value_of(match, "NumberOfSeriesRelatedInstances")
        is_number = number.isdecimal() and len(number) <= _LONGEST_NUMBER
        counts[uid] = int(number) if is_number else len(qido.instances(study_uid, uid))
    return counts


def _series_query(study_uid: str) -> Dataset:
    returned = {"SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": ""}
    return query_of("SERIES", {"StudyInstanceUID": study_uid, "Modality": _MODALITY, **returned})


def _count_images(association: Any, study_uid: str, series_uid: str) -> int:
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": ""}
    return len({text_of(match, "SOPInstanceUID") for match in find(association, query_of("IMAGE", keys))} - {""})
