"""Making disk and index agree after a crash. The first listener on a data folder does this before it receives."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from dicom_node.alerts.record import raise_alert
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance
from dicom_node.database.words import AlertKind
from dicom_node.dicom.headers import HeaderError, shown_uid
from dicom_node.images.folders import check_name, files_below
from dicom_node.images.incoming import OUT_OF_RESOURCES, incoming_from_file
from dicom_node.images.quarantine import Note
from dicom_node.images.records import delete_purged
from dicom_node.images.store import InstanceStore
from dicom_node.system.files import sha256_of
from dicom_node.system.log import describe, get_logger


def reconcile(database: Database, store: InstanceStore) -> None:
    """Empty the spool, index files that have no row, and report lost files.

    A file without a row was never acknowledged. It is complete (it was synced before it was renamed), so it is indexed.
    Only one process may do this at a time.
    """
    _Reconciliation(database, store).run()


class _Reconciliation:
    def __init__(self, database: Database, store: InstanceStore) -> None:
        self._database = database
        self._store = store
        self._data_dir = store.data_dir

    def run(self) -> None:
        for path in (self._data_dir / "spool").glob("*.tmp"):
            path.unlink(missing_ok=True)
        with _no_garbage():
            on_disk = files_below(self._data_dir, "instances")
            kept, purged = self._indexed()
        if on_disk == kept:
            return
        # Whole sets are compared at once: a loop over a hundred thousand rows would delay every start.
        for name in sorted(on_disk.keys() - kept.keys() - purged, key=self._written_at):
            self._adopt(self._data_dir / name)
        delete_purged(self._database, self._data_dir, *sorted(on_disk.keys() & purged))
        for name, _ in sorted(kept.items() - on_disk.items()):
            self._alert_missing(name, "has another size than the index says" if name in on_disk else "is not on disk")

    def _indexed(self) -> tuple[dict[str, int], set[str]]:
        """The names and sizes of the files that must be there, and the names of those that were purged."""
        with self._database.read() as session:
            kept = session.execute(select(Instance.path, Instance.size).where(Instance.purged_at.is_(None)))
            purged = session.scalars(select(Instance.path).where(Instance.purged_at.is_not(None)))
            return {path: size for path, size in kept}, set(purged)  # noqa: C416 (dict() takes no rows)

    def _written_at(self, name: str) -> tuple[float, str]:
        """Of two versions of an image the later one is the current one."""
        return (self._data_dir / name).stat().st_mtime, name

    def _alert_missing(self, name: str, what: str) -> None:
        with self._database.write() as session:
            uid = session.scalar(select(Instance.sop_instance_uid).where(Instance.path == name))
            raise_alert(session, AlertKind.MISSING_FILE, uid or name, f"{name} is in the index but {what}")

    def _adopt(self, path: Path) -> None:
        """Index a file that a crash left without a row, by the same rules as a file that is received."""
        try:
            check_name(path)
            incoming = incoming_from_file(path)
        except Exception as error:  # whatever is wrong with it, it must not keep the node from starting
            reason = str(error) if isinstance(error, HeaderError) else describe(error)
            why = f"a file without index row cannot be indexed ({reason})"
            target = self._store.quarantine.take_in(path, sha256_of(path), Note.of(why, ""))
            self._store.alert(AlertKind.QUARANTINE, target.stem, f"{why}; kept as quarantine/{target.name}")
            return
        status = self._store.receive(incoming)
        get_logger().info(
            "instance_adopted", sop_instance_uid=shown_uid(incoming.sop_instance_uid), status=f"0x{status:04X}"
        )
        with self._database.read() as session:
            name = str(path.relative_to(self._data_dir))
            if session.scalar(select(Instance.id).where(Instance.path == name)) is None and status != OUT_OF_RESOURCES:
                path.unlink(missing_ok=True)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Turn the garbage collector off while many lasting objects are made: it would scan all of them again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
