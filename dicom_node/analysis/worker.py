"""One job: read the study, build report and overlay, check them, and store all in one transaction.

The only module that touches the detector.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.alerts.record import close_alert, raise_alert
from dicom_node.analysis import jobs
from dicom_node.analysis.jobs import Claim, back_off
from dicom_node.audit import message as audit_message
from dicom_node.audit.log import AuditLog
from dicom_node.database.tables import Database, Instance, ResultFile, ResultRow, utc_now
from dicom_node.delivery import outbox
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.errors import Done, LeaseLostError, ModelError, NodeError, Reject, Retry, StepResult
from dicom_node.gate import check
from dicom_node.images.store import count_purged, inputs_of, is_intact, of_newest_patient
from dicom_node.results.envelope import to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.overlay import build_overlay, build_sheet, build_table, overlay_png
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import SOP_CLASS_2D, Predecessor, build_report, coded
from dicom_node.settings.node import NodeSettings, code_parts
from dicom_node.system.files import safe_path, write_atomically
from dicom_node.system.lifecycle import StopFlag, notify_ready
from dicom_node.system.log import describe, get_logger
from spineone_core.anatomy import Structure
from spineone_core.findings import Detection, ModelIdentity, Reason
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.volume import SagittalVolume

# MR, Enhanced MR, Legacy Converted Enhanced MR: what is analysed of a study.
ANALYSED_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"}
)
# Time that a job has to finish after the stop signal before it is handed back.
STOP_GRACE_S = 5.0


class Reading(Protocol):
    """What a detector says about a study."""

    @property
    def detection(self) -> Detection: ...

    @property
    def volume(self) -> SagittalVolume | None: ...


class StudyReader(Protocol):
    """The part of `spineone_core.detection.detector.Detector` that the node uses."""

    identity: ModelIdentity

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> Reading: ...

    def gpu_memory(self) -> tuple[str, int, int] | None: ...


class RefusedByGateError(NodeError):
    """A result did not pass the check before sending; nothing was sent. This is a defect of the node: report it."""


class IncompleteError(NodeError):
    """Images of the study are not on disk as they were received. Send or pull the study again; it is analysed then."""


@dataclass(frozen=True, slots=True)
class Input:
    """One file of a study."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    # Counts from 1; a later one is a correction of the header.
    version: int = 1
    received_at: datetime | None = None


# The reports that the new ones of a study replace, by role; none for its first result.
History = Callable[[ResultKey], Mapping[str, Predecessor]]


@dataclass(frozen=True, slots=True)
class Product:
    """One file of a result. UIDs are empty where it is no DICOM file."""

    role: str
    name: str
    data: bytes
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Analysis:
    """A detection and everything that was made of it."""

    detection: Detection
    key: ResultKey
    products: tuple[Product, ...]


def load_detector(settings: NodeSettings) -> StudyReader:
    """The detector that the settings name.

    Raises
    ------
    ModelError
        If the model package is missing, damaged, of another architecture or not released (no card, figures, training data or
        licence), or the device is not there.
    """
    from spineone_core.detection.detector import Detector
    from spineone_core.detection.devices import DeviceError
    from spineone_core.detection.model_package import ModelPackageError

    if settings.model.threads:
        import torch

        torch.set_num_threads(settings.model.threads)
    try:
        return Detector.load(settings.model.path, device=settings.model.device, released=True)
    except (ModelPackageError, DeviceError) as error:
        raise ModelError(f"model {settings.model.path}: {error}") from error


# ---------------------------------------------------------------- one study


def settings_digest(settings: NodeSettings, *, salt: str = "") -> str:
    """SHA-256 over the settings that change results."""
    values = {"results": settings.results.model_dump(), "min_slices": settings.study.min_slices, "salt": salt}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def used_inputs(inputs: Sequence[Input]) -> list[Input]:
    """What a result depends on: the MR images, or everything where there are none."""
    return [i for i in inputs if i.sop_class_uid in ANALYSED_CLASSES] or list(inputs)


def analyse(
    detector: StudyReader,
    study_uid: str,
    inputs: Sequence[Input],
    settings: NodeSettings,
    *,
    created: datetime,
    salt: str = "",
    history: History = lambda key: {},
) -> Analysis:
    """Read a study and make what the settings ask for: report, overlay and picture, presentation state; findings always.

    Parameters
    ----------
    created
        Time of the job; it is written into the objects, so that a second attempt makes the same ones.
    salt
        Distinguishes results that are made outside the node's database.
    history
        Says which reports the new ones replace.

    Raises
    ------
    RefusedByGateError
        If an object that was made would not be fit to be sent.
    """
    used = used_inputs(inputs)
    key = ResultKey(
        study_uid,
        tuple((i.sop_instance_uid, i.sha256) for i in used),
        detector.identity.digest,
        settings_digest(settings, salt=salt),
    )
    detection, volume = _detect(detector, study_uid, used, settings.study.min_slices)
    headers = _Headers(used)
    created = created.astimezone()
    products = [Product("findings", "findings.json", (detection.dumps() + "\n").encode())]
    if settings.results.structured_report:
        products += _reports(detection, volume, headers, key, created, history(key), settings)
    if settings.results.secondary_capture and volume is not None and detection.analysed:
        products += _overlay(detection, volume, headers, key, created, settings)
    if settings.results.presentation_state and volume is not None and detection.analysed:
        products.append(_presentation(detection, volume, headers, key, created))
    if settings.results.key_object and detection.analysed:
        products.append(_key_object(detection, headers, key, created))
    return Analysis(detection, key, tuple(products))


def _detect(
    detector: StudyReader, study_uid: str, used: Sequence[Input], min_slices: int
) -> tuple[Detection, SagittalVolume | None]:
    images = [i.path for i in used if i.sop_class_uid in ANALYSED_CLASSES]
    if not images:
        detail = "the study holds no MR image"
        return Detection.refused(detector.identity, study_uid, Reason.NO_IMAGES, detail), None
    reading = detector.read_study(images, min_slices=min_slices)
    # A study of unreadable headers has no UID of its own.
    return replace(reading.detection, study_uid=study_uid), reading.volume


def _age(entry: Input) -> tuple[float, str]:
    """Sorts by time of receipt, and always the same way."""
    return (entry.received_at.timestamp() if entry.received_at else 0.0, entry.sop_instance_uid)


class _Headers:
    """Headers of the inputs, read when they are asked for."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._paths = {i.sop_instance_uid: i.path for i in inputs}
        corrected = [i for i in inputs if i.version > 1]
        newest = max(corrected, key=_age, default=None)
        self._corrected = newest.sop_instance_uid if newest is not None else ""

    def of(self, sop_instance_uid: str) -> Dataset | None:
        path = self._paths.get(sop_instance_uid)
        return None if path is None else read_dataset(path, pixels=False)

    def patient(self, preferred: str) -> Dataset:
        """The header that says whose study it is: of the newest correction, else the preferred one, else of an image."""
        header = self.of(self._corrected) or self.of(preferred)
        return header if header is not None else self._first_image()

    def _first_image(self) -> Dataset:
        headers = (read_dataset(path, pixels=False) for path in self._paths.values())
        first = next(headers)
        return first if "Rows" in first else next((h for h in headers if "Rows" in h), first)


def _reports(
    detection: Detection,
    volume: SagittalVolume | None,
    headers: _Headers,
    key: ResultKey,
    created: datetime,
    replaced: Mapping[str, Predecessor],
    settings: NodeSettings,
) -> list[Product]:
    """The report in both forms; each destination gets the one it takes."""
    slice_header = headers.of(detection.sop_instance_uid)
    sources = [] if volume is None else list(dict.fromkeys(s.sop_instance_uid for s in volume.sources))
    build = partial(
        build_report,
        detection=detection,
        header=headers.patient(detection.sop_instance_uid),
        slice_header=slice_header,
        key=key,
        created=created,
        images=[header for uid in sources if (header := headers.of(uid)) is not None],
        degenerative=_degenerative_codes(settings),
        in_space=settings.results.scoord3d,
    )
    return [
        _checked("report", "sr.dcm", build(predecessor=replaced.get("report"))),
        _checked("report_2d", "sr-2d.dcm", build(sop_class=SOP_CLASS_2D, predecessor=replaced.get("report_2d"))),
    ]


def _degenerative_codes(settings: NodeSettings) -> dict[Structure, CodedConcept]:
    named = {
        Structure.DISC: code_parts(settings.results.degenerative_disc),
        Structure.VERTEBRA: code_parts(settings.results.degenerative_vertebra),
    }
    return {structure: coded(*parts) for structure, parts in named.items() if parts}


def _overlay(
    detection: Detection,
    volume: SagittalVolume,
    headers: _Headers,
    key: ResultKey,
    created: datetime,
    settings: NodeSettings,
) -> list[Product]:
    header = headers.patient(detection.sop_instance_uid)
    page = {"detection": detection, "volume": volume, "header": header, "key": key, "created": created}
    overlay = build_overlay(**page)
    products = [_checked("overlay", "overlay.dcm", overlay), Product("picture", "overlay.png", overlay_png(overlay))]
    if settings.results.table_page:
        products.append(_checked("table", "overlay-table.dcm", build_table(**page)))
    if settings.results.slice_sheet:
        products.append(_checked("sheet", "overlay-sheet.dcm", build_sheet(**page)))
    return products


def _key_object(detection: Detection, headers: _Headers, key: ResultKey, created: datetime) -> Product:
    slice_header = headers.of(detection.sop_instance_uid)
    assert slice_header is not None
    header = headers.patient(detection.sop_instance_uid)
    note = build_key_object(detection=detection, header=header, slice_header=slice_header, key=key, created=created)
    return _checked("key_object", "ko.dcm", note)


def _presentation(
    detection: Detection, volume: SagittalVolume, headers: _Headers, key: ResultKey, created: datetime
) -> Product:
    slice_header = headers.of(detection.sop_instance_uid)
    assert slice_header is not None
    state = build_presentation(
        detection=detection,
        volume=volume,
        header=headers.patient(detection.sop_instance_uid),
        slice_header=slice_header,
        key=key,
        created=created,
    )
    return _checked("presentation", "gsps.dcm", state)


def _checked(role: str, name: str, dataset: Dataset) -> Product:
    problems = check.check(dataset)
    if problems:
        raise RefusedByGateError(f"{role}: {'; '.join(problems)}")
    return Product(role, name, to_bytes(dataset), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))


# ---------------------------------------------------------------- one job


class Worker:
    """Takes jobs and does them, one after the other."""

    def __init__(self, settings: NodeSettings, database: Database, detector: StudyReader) -> None:
        self._settings = settings
        self._database = database
        self._detector = detector
        self._owner = f"{socket.gethostname()}:{os.getpid()}"[:100]
        self._audit = AuditLog(settings)

    def run(self, stop: StopFlag) -> None:
        """Work until asked to stop."""
        get_logger().info("working", model=self._detector.identity.name, digest=self._detector.identity.digest)
        notify_ready()
        while not stop.is_set():
            try:
                worked = self.run_once(stop)
            except Exception:  # a locked or unreachable database passes; the job's lease protects the job
                get_logger().exception("worker_error")
                worked = False
            if not worked:
                stop.wait(self._settings.worker.poll_seconds)
        get_logger().info("stopped")

    def run_once(self, stop: StopFlag | None = None) -> bool:
        """Do the next job; False if there was none."""
        with self._database.write() as session:
            pause = self._settings.worker.retry_max_s
            claim = jobs.claim(session, self._owner, now=utc_now(), longest_pause_s=pause)
        if claim is None:
            return False
        log = get_logger().bind(job=claim.job_id, study_uid=claim.study_uid, attempt=claim.attempts)
        log.info("job_started")
        began = time.monotonic()
        with _Lease(self._database, claim, self._settings.worker.heartbeat_s, stop):
            outcome = self._attempt(claim)
        self._tell_audit(claim.study_uid, outcome)
        log.info("job_ended", outcome=type(outcome).__name__.lower(), seconds=round(time.monotonic() - began, 2))
        return True

    def _tell_audit(self, study_uid: str, outcome: StepResult) -> None:
        """The study was read; whether it came to a result."""
        study = self._audit.study(self._database, study_uid)
        failure = "" if isinstance(outcome, Done) else "the analysis failed"
        us = self._audit.node(is_requestor=True)
        self._audit.record(audit_message.accessed([us], [study], failure=failure))

    def _attempt(self, claim: Claim) -> StepResult:
        """One attempt, and its outcome in the database."""
        outcome: Reject | Retry
        try:
            return self._do(claim)
        except LeaseLostError:
            return Reject("the job was given to another worker")
        except (RefusedByGateError, IncompleteError) as error:
            outcome = Reject(str(error))
        except Exception as error:  # out of memory, device lost, disk full: may pass; the attempts are counted
            get_logger().exception("job_error", job=claim.job_id, study_uid=claim.study_uid)
            outcome = Retry(describe(error))
        self._put_back(claim, outcome)
        return outcome

    def _put_back(self, claim: Claim, outcome: Reject | Retry) -> None:
        rules = self._settings.worker
        try:
            with self._database.write() as session:
                if isinstance(outcome, Reject):
                    jobs.reject(session, claim, outcome.reason)
                    return
                after = outcome.after or back_off(claim.attempts, rules.retry_first_s, rules.retry_max_s)
                jobs.fail(session, claim, outcome.why, after=after, max_attempts=rules.max_attempts)
        except LeaseLostError:
            get_logger().warning("lease_lost", job=claim.job_id)

    def _do(self, claim: Claim) -> Done:
        inputs = self._inputs(claim.study_uid)
        analysis = analyse(
            self._detector,
            claim.study_uid,
            inputs,
            self._settings,
            created=claim.created_at,
            history=self._replaced_reports,
        )
        folder = safe_path(self._settings.data_dir / "results", claim.study_uid, analysis.key.digest[:32])
        if not self._is_stored(analysis.key):
            for product in analysis.products:
                write_atomically(safe_path(folder, product.name), product.data)
        with self._database.write() as session:
            self._store(session, claim, analysis, folder)
        return Done()

    def _is_stored(self, key: ResultKey) -> bool:
        """A later job of the same inputs has other dates: the files that may have been sent already stay as they are."""
        with self._database.read() as session:
            return _known_result(session, key) is not None

    def _inputs(self, study_uid: str) -> list[Input]:
        with self._database.read() as session:
            rows = inputs_of(session, study_uid)
            purged = count_purged(session, study_uid)
        data_dir = self._settings.data_dir
        if purged:
            raise IncompleteError(
                f"{purged} images of the study were deleted by retention: send or pull all of it again"
            )
        rows, others = of_newest_patient(rows, data_dir)
        self._tell_of_two_patients(study_uid, others)
        self._check_bytes(rows)
        return [
            Input(data_dir / r.path, r.sop_instance_uid, r.sop_class_uid, r.sha256, r.version, r.received_at)
            for r in rows
        ]

    def _check_bytes(self, rows: Sequence[Instance]) -> None:
        """A file that was cut or changed on disk may still be read, and would be measured wrongly."""
        damaged = [row for row in rows if not is_intact(row, self._settings.data_dir)]
        if not damaged:
            return
        with self._database.write() as session:
            for row in damaged:
                raise_alert(session, "missing_file", row.sop_instance_uid, f"{row.path} is missing or has other bytes")
        raise IncompleteError(f"{len(damaged)} images are missing or damaged on disk: send or pull the study again")

    def _tell_of_two_patients(self, study_uid: str, others: int) -> None:
        with self._database.write() as session:
            if others:
                detail = f"{others} images carry another Patient ID than the newest one; they are left out"
                raise_alert(session, "two_patients", study_uid, detail)
            else:
                close_alert(session, "two_patients", study_uid)

    def _replaced_reports(self, key: ResultKey) -> dict[str, Predecessor]:
        """The study's last reports before the result of this key, whether that is stored already or not."""
        with self._database.read() as session:
            known = _known_result(session, key)
            reports = (
                select(ResultFile)
                .join(ResultRow, ResultRow.id == ResultFile.result_id)
                .where(ResultRow.study_uid == key.study_uid, ResultFile.role.in_(("report", "report_2d")))
                .order_by(ResultRow.id.desc())
            )
            if known is not None:
                reports = reports.where(ResultRow.id < known.id)
            files = session.scalars(reports).all()
        last = {file.role: file for file in files if file.result_id == files[0].result_id}
        found = {role: self._predecessor(file) for role, file in last.items()}
        # Before there were two forms, the first one went everywhere.
        return (
            {role: found.get(role) or found["report"] for role in ("report", "report_2d")} if "report" in found else {}
        )

    def _predecessor(self, file: ResultFile) -> Predecessor:
        series_uid = str(read_dataset(self._settings.data_dir / file.path, pixels=False).SeriesInstanceUID)
        return Predecessor(str(file.sop_class_uid), str(file.sop_instance_uid), series_uid)

    def _store(self, session: Session, claim: Claim, analysis: Analysis, folder: Path) -> None:
        """Result, outbox and the job's end, all or nothing."""
        detection = analysis.detection
        digest = _input_hash(analysis.key)
        result = _known_result(session, analysis.key) or self._add_result(session, claim, analysis, folder, digest)
        jobs.succeed(session, claim, result_id=result.id, input_hash=digest, detail=_summary(detection))

    def _add_result(
        self, session: Session, claim: Claim, analysis: Analysis, folder: Path, input_hash: str
    ) -> ResultRow:
        detection = analysis.detection
        result = ResultRow(
            study_uid=claim.study_uid,
            generation=claim.generation,
            input_hash=input_hash,
            model_digest=analysis.key.model_digest,
            settings_digest=analysis.key.settings_digest,
            status=detection.status.value,
            reason=detection.reason.value if detection.reason else None,
            findings=detection.dumps(),
            created_at=claim.created_at,
        )
        session.add(result)
        session.flush()
        files = [self._file_row(result.id, product, folder) for product in analysis.products]
        session.add_all(files)
        session.flush()
        outbox.enqueue(session, files, claim.study_uid, [d.name for d in self._settings.destinations])
        return result

    def _file_row(self, result_id: int, product: Product, folder: Path) -> ResultFile:
        return ResultFile(
            result_id=result_id,
            role=product.role,
            path=str((folder / product.name).relative_to(self._settings.data_dir)),
            sha256=hashlib.sha256(product.data).hexdigest(),
            sop_class_uid=product.sop_class_uid or None,
            sop_instance_uid=product.sop_instance_uid or None,
        )


def _known_result(session: Session, key: ResultKey) -> ResultRow | None:
    return session.scalar(
        select(ResultRow).where(
            ResultRow.study_uid == key.study_uid,
            ResultRow.input_hash == _input_hash(key),
            ResultRow.model_digest == key.model_digest,
            ResultRow.settings_digest == key.settings_digest,
        )
    )


def _input_hash(key: ResultKey) -> str:
    return hashlib.sha256(json.dumps(key.inputs).encode()).hexdigest()


def _summary(detection: Detection) -> str:
    if detection.reason is not None:
        return f"not analysable: {detection.reason.value}: {detection.reason_detail}"
    return "analysed"


class _Lease:
    """Beats while a job is being done; after the stop signal it hands an unfinished job back and ends the process."""

    def __init__(self, database: Database, claim: Claim, heartbeat_s: float, stop: StopFlag | None) -> None:
        self._database = database
        self._claim = claim
        self._heartbeat_s = heartbeat_s
        self._stop = stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        next_beat = time.monotonic() + self._heartbeat_s
        stopping_since: float | None = None
        while not self._over.wait(0.2):
            now = time.monotonic()
            if self._stop is not None and self._stop.is_set():
                stopping_since = stopping_since or now
                if now - stopping_since > STOP_GRACE_S:
                    self._hand_back()
            if now >= next_beat:
                next_beat = now + self._heartbeat_s
                self._beat()

    def _beat(self) -> None:
        try:
            with self._database.write() as session:
                if not jobs.beat(session, self._claim):
                    get_logger().warning("lease_lost", job=self._claim.job_id)
        except Exception:  # one missed beat does no harm; a lost lease shows when the result is stored
            get_logger().exception("heartbeat_failed", job=self._claim.job_id)

    def _hand_back(self) -> None:
        """The main thread is deep in the detector and cannot be interrupted: give the job back and go."""
        try:
            with self._database.write() as session:
                jobs.hand_back(session, self._claim)
            get_logger().info("job_handed_back", job=self._claim.job_id)
        except Exception:  # then the lease will expire
            get_logger().exception("hand_back_failed", job=self._claim.job_id)
        os._exit(0)
