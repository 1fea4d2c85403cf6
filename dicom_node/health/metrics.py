"""The node's Prometheus metrics. Each scrape makes them from the database: no process keeps counts that a restart would
lose.

No metric has a label that names a patient, a study or an object: labels are states, reasons, kinds, roles, levels and
the names of destinations.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from dicom_node.analysis.jobs import Event
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance, Job, JobEvent, OutboxRow, ReceiverRow, ResultRow, StudyRow
from dicom_node.database.words import (
    EVIDENCE,
    JOB_STATES,
    KEPT,
    OUTBOX_STATES,
    RESULT_STATUSES,
    AlertKind,
    JobState,
    OutboxState,
    StudyState,
)
from dicom_node.health import overview
from dicom_node.health.heartbeats import ROLES, running
from dicom_node.health.parcels import Parcels
from dicom_node.receiving.refusals import Refusal
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.disk import free_room
from spineone_core.findings import Status

# Latencies and class rates cover this many of the newest jobs, sent files and results.
WINDOW = 200
_QUANTILES = (0.5, 0.95, 1.0)


class NodeCollector(Collector):
    """Reads the database at each scrape."""

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics at this moment."""
        room = free_room(self._settings.data_dir)
        yield _gauge("spineone_disk_free_bytes", "Free space of the data folder's file system", room.size)
        if room.names is not None:
            yield _gauge("spineone_disk_free_inodes", "Files that the file system can still take", room.names)
        reserve = self._settings.retention.disk_reserve_gb * 1e9
        yield _gauge("spineone_disk_reserve_bytes", "Free space below which images are refused", reserve)
        with self._database.read() as session:
            now = utc_now()
            yield from _receiving(session)
            yield from _alerts(session)
            yield _receivers(session, self._settings)
            yield from _jobs(session, now)
            yield from _results(session)
            yield from _deliveries(session, self._settings, now)
            yield from _latencies(session)
            yield from _class_rates(session)
            yield _processes(session, self._settings, now)
            yield from _gpus(session, now)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _table(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    rows: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = kind(name, text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _count(session: Session, *conditions: Any) -> int:
    return session.scalar(select(func.count()).where(*conditions)) or 0


def _by_state(session: Session, column: Any, states: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    """The count of every state, even of those without rows: a missing series looks like a fault to a dashboard."""
    counts: dict[str, int] = {}
    for state, number in session.execute(select(column, func.count()).group_by(column)):
        counts[state] = number
    return [((state,), counts.get(state, 0)) for state in states]


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


# ---------------------------------------------------------------- receiving


def _receiving(session: Session) -> Iterator[Metric]:
    # From the counts that each study keeps, to which our own results do not belong.
    images, size = session.execute(select(func.sum(StudyRow.stored_images), func.sum(StudyRow.stored_bytes))).one()
    own, own_size = session.execute(select(func.count(), func.sum(Instance.size)).where(Instance.is_own_result)).one()
    stored, stored_size = int(images or 0) + own, int(size or 0) + int(own_size or 0)
    yield CounterMetricFamily("spineone_instances_received", "Objects stored, versions included", value=stored)
    yield CounterMetricFamily("spineone_bytes_received", "Bytes of the objects stored", value=stored_size)
    studies = session.scalar(select(func.count()).select_from(StudyRow)) or 0
    yield _gauge("spineone_studies", "Studies known", studies)
    receiving = _count(session, StudyRow.state == StudyState.RECEIVING)
    yield _gauge("spineone_studies_receiving", "Studies whose images may still be coming", receiving)


def _alerts(session: Session) -> Iterator[Metric]:
    happened: Counter[str] = Counter()
    refused: Counter[str] = Counter({refusal.words: 0 for refusal in Refusal})
    for kind, count in session.execute(select(Alert.kind, func.sum(Alert.count)).group_by(Alert.kind)):
        happened[kind] = int(count)
    for subject, count in session.execute(select(Alert.subject, Alert.count).where(Alert.kind == AlertKind.REFUSED)):
        refusal = Refusal.of_alert(subject)
        refused[refusal.words if refusal else "other"] += count
    text = "Occurrences behind alerts, open and closed"
    yield _table(CounterMetricFamily, "spineone_alerts", text, ("kind",), [((k,), n) for k, n in happened.items()])
    text = "Associations refused"
    rows = [((reason,), number) for reason, number in refused.items()]
    yield _table(CounterMetricFamily, "spineone_associations_refused", text, ("reason",), rows)
    is_open = Alert.closed_at.is_(None)
    kinds = session.execute(select(Alert.kind, func.count()).where(is_open).group_by(Alert.kind)).all()
    opened = {**dict.fromkeys(happened, 0), **dict(kinds)}
    yield _table(
        GaugeMetricFamily, "spineone_alerts_open", "Open alerts", ("kind",), [((k,), n) for k, n in opened.items()]
    )


def _receivers(session: Session, settings: NodeSettings) -> Metric:
    rows = [((row.name,), float(row.attempts)) for row in session.scalars(select(ReceiverRow))]
    failures = {**{(receiver.name,): 0.0 for receiver in settings.receivers}, **dict(rows)}
    text = "Attempts to tell a receiver of alerts that failed since one succeeded"
    return _table(GaugeMetricFamily, "spineone_receiver_failures", text, ("receiver",), failures.items())


# ---------------------------------------------------------------- jobs and results


def _jobs(session: Session, now: datetime) -> Iterator[Metric]:
    yield _table(GaugeMetricFamily, "spineone_jobs", "Jobs", ("state",), _by_state(session, Job.state, JOB_STATES))
    # What waits for a series is not late until its time has come.
    waiting, put_off = Job.state == JobState.WAITING, Job.is_put_off
    oldest = session.scalar(select(func.min(Job.created_at)).where(waiting, ~put_off))
    overdue = session.scalar(select(func.min(Job.not_before)).where(waiting, put_off))
    age = max(_age(oldest, now), _age(overdue, now))
    yield _gauge("spineone_oldest_waiting_job_seconds", "How long the oldest waiting job could have been done", age)
    put_off_now = _count(session, waiting, put_off, Job.not_before > now)
    yield _gauge("spineone_jobs_put_off", "Jobs that wait for a series that can be analysed", put_off_now)
    kept = _count(session, Job.is_newest, Job.outcome == KEPT)
    yield _gauge("spineone_studies_kept", "Studies that a rule of the settings keeps", kept)


def _results(session: Session) -> Iterator[Metric]:
    counts = session.execute(
        select(ResultRow.status, ResultRow.reason, func.count()).group_by(ResultRow.status, ResultRow.reason)
    )
    found = {(status, reason or ""): number for status, reason, number in counts}
    rows = {**{(status, ""): 0 for status in RESULT_STATUSES[:1]}, **found}
    yield _table(CounterMetricFamily, "spineone_results", "Results", ("status", "reason"), rows.items())


def _deliveries(session: Session, settings: NodeSettings, now: datetime) -> Iterator[Metric]:
    parcels = Parcels.of_all(session)
    names = overview.destination_names(session, settings)
    rows = {(name, state): parcels.number(name, state=state) for name in names for state in OUTBOX_STATES}
    text = "Files for a destination"
    yield _table(GaugeMetricFamily, "spineone_deliveries", text, ("destination", "state"), rows.items())
    text = "Files that a destination proved to keep"
    rows_proven = [((name,), parcels.number(name, proof=EVIDENCE)) for name in names]
    yield _table(GaugeMetricFamily, "spineone_deliveries_proven", text, ("destination",), rows_proven)
    oldest = session.scalar(select(func.min(OutboxRow.created_at)).where(OutboxRow.state == OutboxState.WAITING))
    yield _gauge("spineone_oldest_waiting_delivery_seconds", "Age of the oldest file to send", _age(oldest, now))


def _processes(session: Session, settings: NodeSettings, now: datetime) -> Metric:
    alive = Counter(process.role for process in running(session, now=now) if process.is_alive)
    # A role that the settings do not ask for is not missing.
    rows = [((role,), alive[role]) for role in ROLES if role != "stow" or settings.dicomweb.enabled]
    return _table(GaugeMetricFamily, "spineone_processes", "Processes that were heard of lately", ("role",), rows)


def _gpus(session: Session, now: datetime) -> Iterator[Metric]:
    """The memory of each GPU with a worker; a CPU gives no rows. Workers that share a GPU measure the same."""
    alive = [process for process in running(session, now=now) if process.is_alive]
    gpus = {(process.host, process.gpu.device): process.gpu for process in alive if process.gpu is not None}
    for name, text, values in (
        ("free", "Free memory of a GPU with a worker", {place: gpu.free for place, gpu in gpus.items()}),
        ("total", "Memory of a GPU with a worker", {place: gpu.total for place, gpu in gpus.items()}),
    ):
        yield _table(GaugeMetricFamily, f"spineone_gpu_memory_{name}_bytes", text, ("host", "gpu"), values.items())


# ---------------------------------------------------------------- latencies


def _latencies(session: Session) -> Iterator[Metric]:
    stages = {"receiving": _receiving_times(session), **_job_stages(session), "delivery": _delivery_times(session)}
    rows = []
    for stage, seconds in stages.items():
        for quantile in _QUANTILES if seconds else ():
            rows.append(((stage, f"{quantile:g}"), _quantile(seconds, quantile)))
    text = f"Time of each stage: quantiles of the {WINDOW} newest"
    yield _table(GaugeMetricFamily, "spineone_stage_seconds", text, ("stage", "quantile"), rows)


def _job_stages(session: Session) -> dict[str, list[float]]:
    """How long the newest finished jobs waited in the queue, and how long their analysis took."""
    done = select(Job.id, Job.created_at).where(Job.id.in_(_newest_jobs()), Job.state == JobState.DONE)
    created = dict(session.execute(done.order_by(Job.id.desc()).limit(WINDOW)).all())
    events = session.execute(
        select(JobEvent.job_id, JobEvent.event, JobEvent.at)
        .where(JobEvent.job_id.in_(created), JobEvent.event.in_((Event.CLAIMED, Event.SUCCEEDED)))
        .order_by(JobEvent.id)
    )
    first_claim: dict[int, datetime] = {}
    last_claim: dict[int, datetime] = {}
    analysis = []
    for job_id, event, at in events:
        if event == Event.CLAIMED:
            first_claim.setdefault(job_id, at)
            last_claim[job_id] = at
        elif job_id in last_claim:
            analysis.append((at - last_claim[job_id]).total_seconds())
    queue = [(at - created[job_id]).total_seconds() for job_id, at in first_claim.items()]
    return {"queue": queue, "analysis": analysis}


def _newest_jobs() -> Select[int]:
    """A query for the newest jobs, among which enough are done: so no index of all jobs is sorted for the last few."""
    return select(Job.id).order_by(Job.id.desc()).limit(2 * WINDOW)


def _receiving_times(session: Session) -> list[float]:
    """The time from the first image of a study to its job, including the quiet time.

    It is taken from the newest jobs that are the last of their study.
    """
    query = (
        select(StudyRow.first_received_at, Job.created_at)
        .join(Job, (Job.study_uid == StudyRow.study_uid) & (Job.generation == StudyRow.generation))
        .where(StudyRow.state == StudyState.COMPLETE, Job.id.in_(_newest_jobs()))
    )
    rows = session.execute(query.order_by(Job.id.desc()).limit(WINDOW))
    return [(created - first).total_seconds() for first, created in rows]


def _delivery_times(session: Session) -> list[float]:
    query = select(OutboxRow.created_at, OutboxRow.sent_at).where(OutboxRow.sent_at.is_not(None))
    rows = session.execute(query.order_by(OutboxRow.id.desc()).limit(WINDOW))
    return [(sent - created).total_seconds() for created, sent in rows if sent is not None]


def _quantile(values: list[float], quantile: float) -> float:
    """The nearest-rank quantile; it is never below 0, whatever a clock did."""
    ordered = sorted(values)
    return max(0.0, ordered[min(len(ordered) - 1, int(quantile * len(ordered)))])


# ---------------------------------------------------------------- drift


def _class_rates(session: Session) -> Iterator[Metric]:
    """How the newest results are distributed over classes and grades: a change of scanner or protocol shows here first."""
    newest = select(ResultRow.id).order_by(ResultRow.id.desc()).limit(5 * WINDOW)
    analysed = (ResultRow.id.in_(newest), ResultRow.status == Status.ANALYSED)
    query = select(ResultRow.findings).where(*analysed).order_by(ResultRow.id.desc())
    results = [json.loads(text)["findings"] for text in session.scalars(query.limit(WINDOW))]
    seen: dict[tuple[str, ...], list[tuple[bool, bool]]] = {}
    grades: dict[str, list[int]] = {}
    for finding in (finding for findings in results for finding in findings):
        place = finding["structure"], finding["level"]
        seen.setdefault(place, []).append((finding["class"] == "degenerative", not finding["decided"]))
        if finding.get("pfirrmann"):
            grades.setdefault(finding["level"], []).append(finding["pfirrmann"]["grade"])
    labels = ("structure", "level")
    for index, name, what in (
        (0, "degenerative", "called degenerative"),
        (1, "undecided", "in the band of probabilities in which no class is called"),
    ):
        rows = [(place, sum(said[index] for said in every) / len(every)) for place, every in sorted(seen.items())]
        text = f"Share {what} among the {WINDOW} newest analysed results"
        yield _table(GaugeMetricFamily, f"spineone_model_{name}_ratio", text, labels, rows)
    shares = [
        ((level, str(grade)), every.count(grade) / len(every))
        for level, every in sorted(grades.items())
        for grade in range(1, 6)
    ]
    text = f"Share of discs with each Pfirrmann grade among the {WINDOW} newest analysed results"
    yield _table(GaugeMetricFamily, "spineone_model_pfirrmann_ratio", text, ("level", "grade"), shares)
    yield _gauge("spineone_model_window_results", "Results behind the shares by level", len(results))
