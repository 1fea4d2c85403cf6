"""Telling that the database file is gone. The alert stands in the file that the running processes still have open."""

from __future__ import annotations

from dicom_node.alerts.record import close_alert, open_alert, raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind

_SUBJECT = "database"
_ADVICE = (
    "nothing more is accepted, analysed or sent; put the file back, or restore a backup, and restart the node: it then "
    "finds again what is in the data folder"
)


class DatabaseWatch:
    """Opens an alert while the database file is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_told = False

    def look(self) -> None:
        """One look at the file."""
        why = self._database.lost()
        if bool(why) == self._is_told:
            return
        with self._database.write(even_if_lost=True) as session:
            if not why:
                close_alert(session, AlertKind.DATABASE_LOST, _SUBJECT)
            elif open_alert(session, AlertKind.DATABASE_LOST, _SUBJECT) is None:
                raise_alert(session, AlertKind.DATABASE_LOST, _SUBJECT, f"{why}: {_ADVICE}")
        self._is_told = bool(why)
