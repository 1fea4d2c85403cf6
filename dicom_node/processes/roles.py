"""What each process of the node consists of, one function per role. Only this module puts the modules of processes
together.

Every process imports this module, so a large library that only one role needs is imported inside that role's function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.alerts.causes import Causes
from dicom_node.alerts.notifier import Notifier
from dicom_node.analysis.detector import load_detector
from dicom_node.audit.log import AuditLog
from dicom_node.audit.people import activity
from dicom_node.audit.repository import AuditRepository
from dicom_node.commitment.answers import Answers
from dicom_node.commitment.prover import Prover
from dicom_node.database.connection import Database, open_database, prepare_database
from dicom_node.delivery.deliverer import Delivery
from dicom_node.dicom.identifiers import SOFTWARE_VERSION
from dicom_node.errors import NodeError
from dicom_node.health.clock_watch import settle_clock, watching_clock
from dicom_node.health.database_watch import DatabaseWatch
from dicom_node.health.heartbeats import beating
from dicom_node.images import shown_patients
from dicom_node.images.folders import prepare_folders
from dicom_node.processes.scheduler import Scheduler
from dicom_node.processes.supervisor import Supervisor
from dicom_node.receiving.census import Census
from dicom_node.receiving.listener import run_listener
from dicom_node.receiving.pull import Retriever
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.lifecycle import StopFlag, notify_ready
from dicom_node.system.log import configure_logging, get_logger
from dicom_node.upkeep.retention import Retention
from spineone_core.imaging.children import share_place

_PURGE_EVERY_S = 60.0
_CAUSES_EVERY_S = 30.0
_DATABASE_EVERY_S = 5.0
# The first purge of a node that kept everything for years deletes many studies in one turn.
_LONGEST_PURGE_S = 6 * 3600.0


def serve(config: Path) -> None:
    """Run the supervisor: it brings the database up to date, then runs every other process until asked to stop.

    Raises
    ------
    NodeError
        If the settings or the database are wrong, or a process does not start.
    """
    settings = load_settings(config)
    configure_logging(settings.log_level, process="supervisor")
    get_logger().info("starting", **_what_starts(settings, config))
    prepare_folders(settings.data_dir)
    database = prepare_database(settings.database)
    settle_clock(settings.data_dir, database)
    supervisor = Supervisor(settings, database, config.resolve())
    stop = StopFlag().install()
    with (
        activity(AuditLog(settings), "supervisor"),
        watching_clock(settings.data_dir, database),
        beating(database, "supervisor", is_well=supervisor.is_well),
    ):
        supervisor.run(stop)


def _what_starts(settings: NodeSettings, config: Path) -> dict[str, str]:
    """What somebody who reads the log asks first: which version, with which settings, at which addresses."""
    rules, web_rules = settings.listener, settings.web
    return {
        "version": SOFTWARE_VERSION,
        "settings": str(config.resolve()),
        "data_dir": str(settings.data_dir),
        "listener": f"{rules.ae_title} at {rules.host}:{rules.port}",
        "tls": ("certificates asked for" if rules.tls_ca else "on") if rules.tls_cert else "off",
        "web": f"http://{web_rules.host}:{web_rules.port}/" if web_rules.enabled else "off",
    }


def listen(config: Path) -> None:
    """Run the listener.

    Raises
    ------
    NodeError
        If the settings or the database are wrong, or the port is not available.
    """
    settings, database, stop = _begin(config, "listener")
    try:
        with _at_work(settings, database, "listener"):
            run_listener(settings, database, stop)
    except OSError as error:
        where = f"{settings.listener.host}:{settings.listener.port}"
        raise NodeError(f"cannot listen on {where}: {error.strerror or error}") from error


def work(config: Path) -> None:
    """Run one worker.

    Raises
    ------
    NodeError
        If the settings, the database or the model are wrong.
    """
    # This loads highdicom and SciPy; `load_detector` loads torch.
    from dicom_node.analysis.worker import Worker

    settings, database, stop = _begin(config, "worker")
    detector = load_detector(settings)
    worker = Worker(settings, database, detector)
    identity = detector.identity
    model = f"{identity.name} {identity.version} ({identity.digest[:12]})"
    with _at_work(settings, database, "worker", gpu=detector.gpu_memory, model=model):
        worker.run(stop)


def deliver(config: Path) -> None:
    """Run delivery, together with the timers and everything else that the node needs only once.

    Raises
    ------
    NodeError
        If the settings or the database are wrong.
    """
    settings, database, stop = _begin(config, "delivery")
    if not settings.shown.patient:
        shown_patients.forget_all(database)
    scheduler = _timers(settings, database)
    scheduler.start()
    Notifier(settings, database).start(stop)
    _census(settings, database).start(stop)
    get_logger().info("delivering", destinations=[d.name for d in settings.destinations])
    notify_ready()
    with _at_work(settings, database, "delivery", is_well=scheduler.is_well):
        Delivery(settings, database, Prover(settings, database).prove_due).run(stop)
    scheduler.stop()
    get_logger().info("stopped")


def web(config: Path) -> None:
    """Serve health, metrics and the status page.

    Raises
    ------
    NodeError
        If the settings or the database are wrong.
    """
    # This loads Starlette, uvicorn and Jinja.
    from dicom_node.web.server import run_web

    settings, database, stop = _begin(config, "web")
    with _at_work(settings, database, "web"):
        run_web(settings, database, stop)


def stow(config: Path) -> None:
    """Receive by STOW-RS.

    Raises
    ------
    NodeError
        If the settings or the database are wrong, or the port is not available.
    """
    # This loads Starlette and uvicorn.
    from dicom_node.web.stow_server import run_stow

    settings, database, stop = _begin(config, "stow")
    with _at_work(settings, database, "stow"):
        run_stow(settings, database, stop)


def _timers(settings: NodeSettings, database: Database) -> Scheduler:
    """The scheduler, with the steps that it runs for other modules."""
    scheduler = Scheduler(settings, database)
    scheduler.every(settings.delivery.poll_seconds, Answers(settings, database).answer_due)
    scheduler.every(_PURGE_EVERY_S, Retention(settings, database).purge_due, longest_s=_LONGEST_PURGE_S)
    scheduler.every(settings.delivery.poll_seconds, AuditRepository(settings, database).send_due)
    scheduler.every(_CAUSES_EVERY_S, Causes(settings, database).close_past)
    scheduler.every(_DATABASE_EVERY_S, DatabaseWatch(database).look, needs_time=False)
    return scheduler


def _census(settings: NodeSettings, database: Database) -> Census:
    """The census; its retriever fetches the images that an archive has and the node lacks."""
    return Census(settings, database, lambda archive, uid: Retriever(settings, database, archive).pull(uid, "MR"))


def _begin(config: Path, name: str) -> tuple[NodeSettings, Database, StopFlag]:
    """What every process but the supervisor does first."""
    stop = StopFlag().install()
    settings = load_settings(config)
    configure_logging(settings.log_level, process=name)
    database = open_database(settings.database)
    prepare_folders(settings.data_dir)
    share_place(settings.data_dir / "decoding.lock")
    settle_clock(settings.data_dir, database)
    return settings, database, stop


@contextmanager
def _at_work(
    settings: NodeSettings,
    database: Database,
    role: str,
    *,
    is_well: Callable[[], bool] = lambda: True,
    gpu: Callable[[], tuple[str, int, int] | None] = lambda: None,
    model: str = "",
) -> Iterator[None]:
    """Record the start and end of the process in the audit log; in between, watch the clock and say that it is alive."""
    with (
        activity(AuditLog(settings), role),
        watching_clock(settings.data_dir, database),
        beating(database, role, is_well=is_well, gpu=gpu, model=model),
    ):
        yield
