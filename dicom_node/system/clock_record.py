"""What the node remembers about the time over its restarts: ``clock.json`` in the data folder.

It holds the last plausible time, and for each machine, by the identifier of its present start, how far its time of day
is ahead of the time since that start. With that, a process that starts while the clock is wrong knows the right time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.system.clock import Anchor
from dicom_node.system.files import move_into_place, write_spool_file
from dicom_node.system.log import get_logger

NAME = "clock.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Starts of machines that are remembered, the latest last.
_MOST_BOOTS = 32


@dataclass(frozen=True, slots=True)
class ClockRecord:
    """What is remembered.

    Parameters
    ----------
    last_at
        The last plausible time (seconds since 1970); 0 if there was none.
    rows_until
        Rows of the database up to this time (seconds since 1970) say nothing: a person has said that they were dated by
        a wrong clock.
    anchors
        By the machine's start.
    """

    last_at: float = 0.0
    rows_until: float = 0.0
    anchors: dict[str, Anchor] = field(default_factory=dict)

    def anchor(self) -> Anchor | None:
        """The anchor of this machine since it was started."""
        return self.anchors.get(boot_id())

    def with_anchor(self, anchor: Anchor, *, last_at: float, rows_until: float) -> ClockRecord:
        """The record with the anchor of this machine."""
        mine = boot_id()
        others = {boot: known for boot, known in self.anchors.items() if boot != mine}
        kept = dict([*others.items()][-_MOST_BOOTS + 1 :])
        return ClockRecord(last_at, rows_until, {**kept, mine: anchor})


def boot_id() -> str:
    """The identifier of the machine's present start; the containers of a machine share it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def read_record(data_dir: Path) -> ClockRecord:
    """The record; an empty one if there is none or it cannot be read."""
    try:
        values = json.loads((data_dir / NAME).read_text(encoding="utf-8"))
        anchors = {str(b): Anchor(float(a["lead_s"]), bool(a["is_sure"])) for b, a in values["anchors"].items()}
        return ClockRecord(float(values["last_at"]), float(values["rows_until"]), anchors)
    except FileNotFoundError:
        return ClockRecord()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        get_logger().warning("clock_record_unreadable", file=NAME)
        return ClockRecord()


def write_record(data_dir: Path, record: ClockRecord) -> None:
    """Write the record durably.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    """
    anchors = {boot: {"lead_s": a.lead_s, "is_sure": a.is_sure} for boot, a in record.anchors.items()}
    values = {"last_at": record.last_at, "rows_until": record.rows_until, "anchors": anchors}
    # The listener sweeps the spool, so a kill in between leaves nothing for long.
    spooled = write_spool_file(data_dir / "spool", (json.dumps(values, indent=1).encode(),))
    move_into_place(spooled, data_dir / NAME)
