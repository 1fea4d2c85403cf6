"""What fails around a node while studies stream in: crowds of callers, a locked database, a full disk, a lost PACS."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import open_database
from dicom_node.database.tables import Instance, OutboxRow
from tests.fakes import wire
from tests.faults.document import Line
from tests.faults.site import Site
from tests.faults.traffic import Image, Ledger, deliver

_RECOVER_WITHIN_S = 90.0


def crowd(site: Site, ledger: Ledger, images: list[Image]) -> Line:
    """As many callers at once as there are images; each is told politely to wait until its turn comes."""
    answers: Counter[str] = Counter()
    sockets = [wire.connect(site.port, timeout=30) for _ in images]
    for connection in sockets:
        connection.sendall(wire.associate(calling="CROWD"))
    for connection in sockets:
        answers[wire.kind(wire.answer(connection))] += 1
    for connection in sockets:
        connection.close()
    senders = [threading.Thread(target=deliver, args=(site.port, [image], ledger), daemon=True) for image in images]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    taken = sum(image.uid in ledger.acknowledged for image in images)
    polite = answers["accepted"] + answers["rejected"]
    return Line(
        f"{len(images)} associations at once",
        "served or refused politely; no image lost",
        f"{answers['accepted']} served, {answers['rejected']} refused politely, {len(images) - polite} without an answer; "
        f"{taken} of {len(images)} images taken in the end",
        all_run(site) and polite == len(images) == taken,
    )


def locked_database(site: Site, ledger: Ledger, seconds: float) -> Line:
    """Another writer holds the database longer than anybody waits."""
    database = open_database(site.settings.database)
    before = ledger.refusals()
    with database.write() as session:
        # Only this takes the lock.
        session.connection()
        began = time.monotonic()
        time.sleep(seconds)
        uids = ledger.since(began + 0.5)
        with database.read() as reading:
            false = len(uids) - _count_indexed(reading, uids)
    refused = ledger.refusals() - before
    database.close()
    recovered = recovers(ledger)
    return Line(
        f"database locked for {seconds:.0f} s",
        "waits or refuses; no success without an index row",
        f"{false} of {len(uids)} successes meanwhile without a row; {told(refused)}; {served(recovered)}",
        all_run(site) and not false and recovered,
    )


def full_disk(site: Site, ledger: Ledger, seconds: float) -> Line:
    """The last byte of the node's disk is taken and then given back. The node must have its own disk for this."""
    before = ledger.refusals()
    with _ballast(site.settings.data_dir):
        noticed = until(lambda: ledger.refusals() != before, _RECOVER_WITHIN_S)
        began = time.monotonic()
        time.sleep(seconds)
        refused = ledger.refusals() - before
        meanwhile = len(ledger.since(began))
    recovered = recovers(ledger)
    return Line(
        f"disk full for {seconds:.0f} s",
        "0xA700, nothing half written; goes on when there is room",
        f"{told(refused)}; {meanwhile} images still found room; {served(recovered)}",
        all_run(site) and noticed and recovered,
    )


def pacs_away(site: Site, seconds: float, *, kills: int, seed: int) -> Line:
    """The PACS dies at random moments, and stays away for a while."""
    source = random.Random(seed)
    for _ in range(kills):
        time.sleep(source.uniform(0, 2))
        site.pacs.kill()
        site.pacs.start()
    site.pacs.kill()
    has_alert = until(lambda: _is_down(site), _RECOVER_WITHIN_S)
    time.sleep(seconds)
    with site.database.read() as session:
        waiting = session.scalar(select(func.count()).where(OutboxRow.state == "waiting")) or 0
    site.pacs.start()
    began = time.monotonic()
    recovered = until(lambda: not _is_down(site), _RECOVER_WITHIN_S)
    after = f"delivered again after {time.monotonic() - began:.0f} s" if recovered else "not delivered again"
    return Line(
        f"PACS killed {kills + 1} times, then away for {seconds:.0f} s",
        "alert; results wait, each is sent once",
        f"{'alert' if has_alert else 'no alert'}; {waiting} objects waited; {after}",
        all_run(site) and has_alert and waiting > 0 and recovered,
    )


def _is_down(site: Site) -> bool:
    with site.database.read() as session:
        return any(alert.kind == "destination_down" for alert in open_alerts(session))


def recovers(ledger: Ledger) -> bool:
    """Whether images are taken again."""
    now = time.monotonic()
    return until(lambda: len(ledger.since(now)) > 0, _RECOVER_WITHIN_S)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it happens in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def all_run(site: Site) -> bool:
    """Whether no process has ended."""
    ended = site.fallen()
    if ended:
        print(f"ended by themselves, and started again: {', '.join(ended)}", flush=True)
    return not ended


def _count_indexed(session: Session, uids: list[str]) -> int:
    query = select(func.count()).where(Instance.sop_instance_uid.in_(uids), Instance.is_current)
    return session.scalar(query) or 0


def told(refused: Counter[int]) -> str:
    """What senders were told."""
    named = {-1: "no answer", 0xA700: "0xA700"}
    parts = [f"{count} times {named.get(status, f'0x{status:04X}')}" for status, count in sorted(refused.items())]
    return "senders got " + (", ".join(parts) if parts else "no refusal")


def served(recovered: bool) -> str:
    return "served again" if recovered else "not served again"


# ---------------------------------------------------------------- disks


@contextmanager
def _ballast(folder: Path) -> Iterator[None]:
    """Take all free space, to the last block, and keep taking it."""
    path = folder.parent / "ballast"
    over = threading.Event()

    def fill() -> None:
        with path.open("ab") as file:
            while not over.wait(0.05):
                for size in (1 << 30, 1 << 24, 1 << 16, 1 << 12):
                    with suppress(OSError):
                        while not over.is_set():
                            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    try:
        yield
    finally:
        over.set()
        filling.join()
        path.unlink()
