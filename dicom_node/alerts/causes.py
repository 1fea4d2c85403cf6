"""Closing alerts whose cause is over, where nothing else notices that: each kind has its own evidence.

What a person has acknowledged is closed too, but is no evidence of anything: retention, for one, looks at the outbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, StudyRow
from dicom_node.database.words import AlertKind
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.log import get_logger

# A refusal that did not come again for this time is over: whoever was refused has been mended, or has gone.
QUIET_AFTER_REFUSAL = timedelta(days=1)
_KEPT_AS = re.compile(r"kept as quarantine/([0-9A-Za-z.]+)")


class Causes:
    """Looks whether the causes of open alerts are still there.

    Parameters
    ----------
    settings, database
        The node's settings and database.
    """

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._quarantine = settings.data_dir / "quarantine"
        self._study = settings.study
        self._largest_object = settings.listener.max_object_mb * 1e6
        self._database = database
        self._looks: dict[str, Callable[[Session, Alert], bool]] = {
            str(AlertKind.REFUSED): self._is_quiet,
            str(AlertKind.QUARANTINE): self._is_dealt_with,
            str(AlertKind.STUDY_LIMIT): self._may_grow,
        }

    def close_past(self) -> None:
        """Close the alerts whose cause is over."""
        mine = select(Alert).where(Alert.kind.in_(self._looks), Alert.closed_at.is_(None))
        with self._database.read() as session:
            past = [alert.id for alert in session.scalars(mine) if self._is_over(session, alert)]
        for number in past:
            with self._database.write() as session:
                alert = session.get(Alert, number, with_for_update=True)
                # Its cause may have come again in the meantime.
                if alert is not None and alert.closed_at is None and self._is_over(session, alert):
                    alert.closed_at = utc_now()
                    get_logger().info("alert_over", kind=alert.kind, alert=alert.id)

    def _is_over(self, session: Session, alert: Alert) -> bool:
        return self._looks[alert.kind](session, alert)

    def _is_quiet(self, session: Session, alert: Alert) -> bool:
        """Whether nobody was refused for this reason for a day."""
        return alert.last_at < utc_now() - QUIET_AFTER_REFUSAL

    def _is_dealt_with(self, session: Session, alert: Alert) -> bool:
        """Whether the object was taken out of the quarantine."""
        kept = _KEPT_AS.search(alert.detail)
        return kept is not None and self._quarantine.is_dir() and not (self._quarantine / kept[1]).exists()

    def _may_grow(self, session: Session, alert: Alert) -> bool:
        """Whether the study took an image after the last refusal, or any image would now be taken."""
        study = session.get(StudyRow, alert.subject)
        if study is None or study.last_received_at > alert.last_at:
            return True
        # How large the refused image was is not known, so there must be room for the largest.
        size = study.stored_bytes + self._largest_object
        return study.stored_images < self._study.max_images and size <= self._study.max_gb * 1e9
