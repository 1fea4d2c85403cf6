"""Whether the node can take in a study and bring it to a result, which `/readyz` answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert
from dicom_node.database.words import AlertKind
from dicom_node.health.heartbeats import Running, running
from dicom_node.images.folders import unwritable
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import clock, utc_now
from dicom_node.system.disk import free_room
from dicom_node.system.log import describe, get_logger

# Unless there is one process of each role, a study gets no result.
NEEDED_ROLES = ("listener", "worker", "delivery")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be in order, and what was seen of it."""

    name: str
    is_well: bool
    seen: str


def checks(settings: NodeSettings, database: Database) -> list[Check]:
    """All checks; one that fails does not hide the others."""
    return [*_database_and_processes(settings, database), disk(settings)]


def needed_roles(settings: NodeSettings) -> tuple[str, ...]:
    """The roles without which the node does not do what its settings say."""
    return (*NEEDED_ROLES, "stow") if settings.dicomweb.enabled else NEEDED_ROLES


def disk(settings: NodeSettings) -> Check:
    """Whether the reserve of free space and of names is untouched, and files can be made."""
    reserve = settings.retention.disk_reserve_gb
    try:
        room = free_room(settings.data_dir)
    except OSError as error:
        return Check("disk", False, f"the data folder cannot be read ({error.strerror})")
    lack = room.lack(reserve * 1e9) or unwritable(settings.data_dir)
    return Check("disk", not lack, lack or f"{room.size / 1e9:.1f} GB free, {reserve:g} GB are the reserve")


def _database_and_processes(settings: NodeSettings, database: Database) -> list[Check]:
    needed = needed_roles(settings)
    try:
        with database.read() as session:
            processes = running(session, now=utc_now())
            told = _open(session, AlertKind.CLOCK, AlertKind.TIMER_STUCK)
    except Exception as error:  # whatever it is, the node is not ready
        get_logger().exception("readiness_failed")
        why = database.lost() or f"does not answer ({describe(error)})"
        unknown = [Check(name, False, "not known without the database") for name in (*needed, "timers")]
        return [Check("database", False, why), *unknown, _clock([])]
    roles = [_role(role, processes) for role in needed]
    return [Check("database", True, "answers"), *roles, _timers(told), _clock(told)]


def _open(session: Session, *kinds: AlertKind) -> Sequence[Alert]:
    return session.scalars(select(Alert).where(Alert.kind.in_(kinds), Alert.closed_at.is_(None))).all()


def _role(role: str, processes: list[Running]) -> Check:
    mine = [process for process in processes if process.role == role]
    alive = [process for process in mine if process.is_alive]
    if alive:
        return Check(role, True, f"{len(alive)} at work")
    return Check(role, False, f"silent for {min(p.silent_s for p in mine):.0f} s" if mine else "not running")


def _timers(told: Sequence[Alert]) -> Check:
    stuck = [f"{alert.subject}: {alert.detail}" for alert in told if alert.kind == AlertKind.TIMER_STUCK]
    return Check("timers", not stuck, "; ".join(stuck) or "run")


def _clock(told: Sequence[Alert]) -> Check:
    """The clock of this process, and that of any other which has opened an alert."""
    faults = [alert.detail for alert in told if alert.kind == AlertKind.CLOCK] or [clock.fault()]
    return Check("clock", not any(faults), "; ".join(filter(None, faults)) or "plausible")
