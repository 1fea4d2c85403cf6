"""What goes wrong below a node while studies stream in: the clock, the database file, the disk and its inodes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.tables import Instance
from tests.faults.disk import Disk
from tests.faults.document import Line
from tests.faults.node import Process, Role
from tests.faults.outages import all_run, recovers, served, told, until
from tests.faults.site import Site
from tests.faults.test_clock import LIBRARY, PROGRAM
from tests.faults.traffic import Ledger

_NOTICED_WITHIN_S = 60.0
_STEPS = ("+1d", "-1d", "+10y", "@1970-01-01 00:10:00")
# Once a process has looked at its clock again (FAKETIME_CACHE_DURATION).
_LOOKS_AFTER_S = 1.5


def clock_steps(site: Site, ledger: Ledger) -> Line:
    """The time of day of all processes of the node is another one for a while; afterwards they are started as before."""
    began, wrong = datetime.now(UTC), list[str]()
    with _movable_clock(site.folder / "clock") as clock:
        _start_again(site, movable=True)
        for step in _STEPS:
            _move(clock, step)
            if not until(lambda: _has_alert(site, "clock"), _NOTICED_WITHIN_S):
                wrong.append(f"{step}: no alert")
            if not recovers(ledger):
                wrong.append(f"{step}: no image was taken")
            _move(clock, "+0")
            if not until(lambda: not _has_alert(site, "clock"), _NOTICED_WITHIN_S):
                wrong.append(f"{step}: the alert stays")
        is_well = all_run(site)
    _start_again(site, movable=False)
    with site.database.read() as session:
        first, last = session.execute(select(func.min(Instance.received_at), func.max(Instance.received_at))).one()
    if last > datetime.now(UTC) + timedelta(minutes=1) or first < began - timedelta(days=1):
        wrong.append("images are dated by the wrong clock")
    return Line(
        "the clock is set by a day, back a day, by ten years and to 1970, and right again each time",
        "alert; images are taken and dated rightly; the alert closes",
        "; ".join(wrong) or f"so it was {len(_STEPS)} times; {served(recovers(ledger))}",
        is_well and not wrong,
    )


def has_movable_clock() -> bool:
    """Whether libfaketime is installed."""
    return LIBRARY is not None


@contextmanager
def _movable_clock(file: Path) -> Iterator[Path]:
    """Processes that start meanwhile have the time of day that the file says."""
    names = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    file.write_text("+0\n")
    os.environ.update(names)
    try:
        yield file
    finally:
        for name in names:
            del os.environ[name]


def _move(file: Path, to: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(to + "\n")
    new.replace(file)
    time.sleep(_LOOKS_AFTER_S)


def _start_again(site: Site, *, movable: bool) -> None:
    """All processes of the node, with or without a clock that can be moved."""
    site.stop()
    for name, command in site.ROLES.items():
        if movable:
            program = [sys.executable, "-c", PROGRAM, command, "--config", str(site.config)]
            site.roles[name] = Process(program, site.folder / f"{name}.log", Role.READY[command])
    if not movable:
        site.start()


def lost_database(site: Site, ledger: Ledger, seconds: float) -> Line:
    """The database file is taken away and put back."""
    file = site.settings.data_dir / "node.db"
    before = ledger.refusals()
    file.rename(file.with_name("aside"))
    began = time.monotonic()
    noticed = until(lambda: ledger.refusals() != before, _NOTICED_WITHIN_S)
    time.sleep(seconds)
    taken = len(ledger.since(began + 0.5))
    file.with_name("aside").rename(file)
    refused = ledger.refusals() - before
    recovered = recovers(ledger)
    return Line(
        f"database file taken away for {seconds:.0f} s",
        "0xA700, nothing acknowledged; goes on when it is back",
        f"{told(refused)}; {taken} images acknowledged; {served(recovered)}",
        all_run(site) and noticed and not taken and recovered,
    )


def no_inodes(site: Site, ledger: Ledger) -> Line:
    """All names that the disk can hold are taken, and then given back. The node must have its own disk for this."""
    folder = site.settings.data_dir.parent / "names"
    folder.mkdir()
    count = 0
    with suppress(OSError):
        while True:
            (folder / str(count)).touch()
            count += 1
    before = ledger.refusals()
    noticed = until(lambda: _has_alert(site, "disk_reserve"), _NOTICED_WITHIN_S)
    taken = len(ledger.since(time.monotonic() - 1))
    shutil.rmtree(folder)
    recovered = recovers(ledger)
    closed = until(lambda: not _has_alert(site, "disk_reserve"), _NOTICED_WITHIN_S)
    return Line(
        f"no inode left ({count} files)",
        "alert, nothing acknowledged; goes on when there are some",
        f"{'alert' if noticed else 'no alert'}, {'closed again' if closed else 'not closed'}; "
        f"{told(ledger.refusals() - before)}; {taken} images acknowledged; {served(recovered)}",
        all_run(site) and noticed and closed and not taken and recovered,
    )


def disk_error(site: Site, ledger: Ledger, disk: Disk, seconds: float) -> Line:
    """The disk turns read-only, as ext4 does after an error; it is mounted again, and the node is started again."""
    before = ledger.refusals()
    disk.fail()
    began = time.monotonic()
    noticed = until(lambda: ledger.refusals() != before, _NOTICED_WITHIN_S)
    time.sleep(seconds)
    taken = len(ledger.since(began + 0.5))
    alive = all_run(site)
    site.down()
    disk.mount_again()
    site.up()
    recovered = recovers(ledger)
    return Line(
        f"the disk is read-only for {seconds:.0f} s (an error of ext4)",
        "nothing acknowledged, no process ends; goes on after it is mounted again",
        f"{told(ledger.refusals() - before)}; {taken} images acknowledged; {served(recovered)}",
        alive and noticed and not taken and recovered,
    )


def _has_alert(site: Site, kind: str) -> bool:
    with site.database.read() as session:
        return any(alert.kind == kind for alert in open_alerts(session, limit=10_000))
