"""Whether the node can take in a study and bring it to a result, which `/readyz` answers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from dicom_node.database.connection import Database
from dicom_node.health.heartbeats import Running, running
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
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
    return [*_database_and_processes(database), disk(settings)]


def free_bytes(settings: NodeSettings) -> int:
    """The free space on the data folder's file system, in bytes."""
    return shutil.disk_usage(settings.data_dir).free


def disk(settings: NodeSettings) -> Check:
    """Whether the reserve of free space is untouched."""
    reserve = settings.retention.disk_reserve_gb
    try:
        free = free_bytes(settings) / 1e9
    except OSError as error:
        return Check("disk", False, f"the data folder cannot be read ({error.strerror})")
    return Check("disk", free >= reserve, f"{free:.1f} GB free, {reserve:g} GB are the reserve")


def _database_and_processes(database: Database) -> list[Check]:
    try:
        with database.read() as session:
            processes = running(session, now=utc_now())
    except Exception as error:  # whatever it is, the node is not ready
        get_logger().exception("readiness_failed")
        unknown = [Check(role, False, "not known without the database") for role in NEEDED_ROLES]
        return [Check("database", False, f"does not answer ({describe(error)})"), *unknown]
    return [Check("database", True, "answers"), *(_role(role, processes) for role in NEEDED_ROLES)]


def _role(role: str, processes: list[Running]) -> Check:
    mine = [process for process in processes if process.role == role]
    alive = [process for process in mine if process.is_alive]
    if alive:
        return Check(role, True, f"{len(alive)} at work")
    return Check(role, False, f"silent for {min(p.silent_s for p in mine):.0f} s" if mine else "not running")
