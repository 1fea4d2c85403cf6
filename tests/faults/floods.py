"""Floods against a node while studies stream in: strangers, idle web sockets, objects for the quarantine; and steady traffic."""

from __future__ import annotations

import itertools
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress

from pydicom.dataset import Dataset
from sqlalchemy import func, select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.tables import Alert, OutboxRow
from tests.fakes import wire
from tests.fakes.datasets import mr_image
from tests.faults.document import Line
from tests.faults.outages import all_run, told, until
from tests.faults.site import Site
from tests.faults.traffic import Ledger

_STRANGERS_AT_ONCE = 40
_WRITTEN_WITHIN_S = 30.0
_HEALTHY_WITHIN_S = 5.0
_LARGE = 4_000_000
_numbers = itertools.count(1)


def strangers(site: Site, calls: int) -> Line:
    """Calls to another AE title, many at once; each is refused, all are counted, and senders are served meanwhile."""
    began, answers = time.monotonic(), Counter[str]()
    left, lock = iter(range(calls)), threading.Lock()

    def call() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            outcome = "closed"
            with suppress(OSError), wire.connect(site.port, timeout=30) as connection:
                connection.sendall(wire.associate(calling=f"EVIL{number}", called="ANOTHER"))
                outcome = wire.kind(wire.answer(connection))
            with lock:
                answers[outcome] += 1

    before = _refusals(site)
    callers = [threading.Thread(target=call, daemon=True) for _ in range(_STRANGERS_AT_ONCE)]
    for caller in callers:
        caller.start()
    served = _is_served(site)
    for caller in callers:
        caller.join()
    seconds = time.monotonic() - began
    rejected = answers["rejected"]
    counted = until(lambda: _refusals(site) - before >= rejected, _WRITTEN_WITHIN_S)
    return Line(
        f"{calls} calls of strangers, {_STRANGERS_AT_ONCE} at once",
        "each refused and counted, or its connection ends; a sender is served meanwhile",
        f"{rejected} refused, {calls - rejected} ended, in {seconds:.0f} s; {'all' if counted else 'not all'} counted; "
        f"{_said(served)}",
        all_run(site) and rejected > 0 and counted and served,
    )


def _refusals(site: Site) -> int:
    query = select(func.sum(Alert.count)).where(Alert.kind == "refused", Alert.subject.contains("called AE title"))
    with site.database.read() as session:
        return int(session.scalar(query) or 0)


def idle_sockets(site: Site, count: int) -> Line:
    """Sockets that say nothing to the web port; health is asked for meanwhile."""
    held = []
    for _ in range(count):
        with suppress(OSError):
            held.append(wire.connect(site.web_port))
    began = time.monotonic()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.web_port}/healthz", timeout=_HEALTHY_WITHIN_S) as page:
            status = str(page.status)
    except OSError as error:
        status = type(error).__name__
    seconds = time.monotonic() - began
    for connection in held:
        connection.close()
    return Line(
        f"{count} sockets that say nothing to the web port",
        f"`/healthz` answers 200 within {_HEALTHY_WITHIN_S:.0f} s",
        f"{status} after {seconds:.1f} s",
        all_run(site) and status == "200",
    )


def quarantine(site: Site) -> Line:
    """Objects that contradict one that is known, until the quarantine is full; what it has stays, others are served."""
    folder = site.settings.data_dir / "quarantine"
    most = int(site.settings.retention.quarantine_max_gb * 1e9)
    first = mr_image(1, study="1.2.826.0.1.3680043.10.9.1")
    first.PatientName, first.PatientID = "SECRET^NAME", "SECRET-ID"
    statuses = [_status(site, first)]
    for number in range(2 * most // _LARGE + 2):
        other = mr_image(1, study=f"1.2.826.0.1.3680043.10.9.{number + 2}")
        other.SOPInstanceUID, other.PixelData = first.SOPInstanceUID, bytes(_LARGE)
        statuses.append(_status(site, other))
        if statuses[-1] != 0:
            break
    size = sum(path.stat().st_size for path in folder.iterdir())
    with site.database.read() as session:
        has_alert = any("quarantine_max_gb" in alert.detail for alert in open_alerts(session, limit=10_000))
    served = _is_served(site)
    kept = len(statuses) - 2
    return Line(
        "objects for the quarantine until it is full",
        "0xA700 and an alert at `retention.quarantine_max_gb`; other images are served",
        f"{kept} were kept, the next got 0x{statuses[-1]:04X}; {size / 1e6:.0f} of {most / 1e6:.0f} MB; "
        f"{'alert' if has_alert else 'no alert'}; {_said(served)}",
        all_run(site) and statuses[-1] == 0xA700 and has_alert and size <= most and served,
    )


def _status(site: Site, dataset: Dataset) -> int:
    """The answer to one image; tried again while all places are taken."""
    for _ in range(100):
        with suppress(OSError), wire.connect(site.port, timeout=30) as connection:
            connection.sendall(wire.associate(calling="HOARDER"))
            if wire.kind(wire.answer(connection)) == "accepted":
                connection.sendall(b"".join(wire.store(dataset)))
                return wire.status_of(wire.answer(connection))
        time.sleep(0.2)
    return -1


def _is_served(site: Site) -> bool:
    """Whether a good image is taken now."""
    image = mr_image(1, study=f"1.2.826.0.1.3680043.10.9.0.{next(_numbers)}")
    image.SOPInstanceUID = f"{image.StudyInstanceUID}.1"
    image.PatientName, image.PatientID = "SECRET^NAME", "SECRET-ID"
    return _status(site, image) == 0


def _said(served: bool) -> str:
    return "a sender was served" if served else "a sender was not served"


def soak(site: Site, ledger: Ledger, seconds: float) -> Line:
    """Steady traffic and nothing else."""
    refused, studies, sent = ledger.refusals(), len(ledger.studies), _sent(site)
    began = time.monotonic()
    longest, last = 0.0, began
    while time.monotonic() - began < seconds:
        time.sleep(1)
        moments = [ledger.moments[uid] for uid in ledger.since(last)]
        gaps = [b - a for a, b in zip([last, *sorted(moments)], sorted(moments), strict=False)]
        longest, last = max([longest, *gaps]), max([last, *moments])
    longest = max(longest, time.monotonic() - last)
    after = ledger.refusals() - refused
    return Line(
        f"{seconds / 60:g} minutes of steady traffic",
        "every image is taken at the first attempt; results are delivered",
        f"{len(ledger.studies) - studies} studies, {told(after)}; {_sent(site) - sent} objects delivered; "
        f"longest time between two images {longest:.1f} s",
        all_run(site) and not after and len(ledger.studies) > studies,
    )


def _sent(site: Site) -> int:
    with site.database.read() as session:
        return session.scalar(select(func.count()).where(OutboxRow.state == "sent")) or 0
