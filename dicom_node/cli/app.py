"""`dicom-node`: the node's command line. Exit status: 0 done, 1 failed, 2 bad usage or settings.

Modules are imported inside the commands, so that the listener's process never loads what the worker needs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.errors import DeliveryError, NodeError, SettingsError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import CONFIG_NAME, load_settings
from dicom_node.settings.text import render_toml
from dicom_node.system.log import configure_logging, describe

if TYPE_CHECKING:
    from dicom_node.analysis.analyse import Analysis
    from dicom_node.database.connection import Database
    from dicom_node.settings.sections import Archive, Email, Webhook
    from dicom_node.system.lifecycle import StopFlag

app = typer.Typer(
    help="SpineOne node: receives lumbar MRI studies, analyses them, and sends reports back. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="SPINEONE_CONFIG", help="settings file", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
DEFAULT_CONFIG = Path(CONFIG_NAME)
_PURGE_EVERY_S = 60.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors that a person can mend are one line each, without traceback."""
    try:
        app(args=None if arguments is None else list(arguments))
    except NodeError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # its message may hold patient data, so it is shown on request only
        if os.environ.get("SPINEONE_DEBUG"):
            raise
        print(f"error: unexpected {describe(error)}; SPINEONE_DEBUG=1 shows the traceback", file=sys.stderr)
        sys.exit(1)


def _console() -> Console:
    # No markup: reasons and subjects may hold brackets.
    return Console(highlight=False, markup=False, soft_wrap=True)


def _open(config: Path) -> tuple[NodeSettings, Database]:
    from dicom_node.database.connection import open_database

    configure_logging("error", process="cli", stream=sys.stderr)
    settings = load_settings(config)
    return settings, open_database(settings.database)


# ---------------------------------------------------------------- setting up


@app.command()
def init(folder: Annotated[Path, typer.Option("--dir", help="where the node shall live")] = Path()) -> None:
    """Write a commented node.toml, create the data folder and the database. What is there already is kept."""
    from dicom_node.database.connection import prepare_database
    from dicom_node.images.folders import prepare_folders

    configure_logging("error", process="cli", stream=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CONFIG_NAME
    kept = config.exists()
    if not kept:
        config.write_text(render_toml(), encoding="utf-8")
    settings = load_settings(config)
    prepare_folders(settings.data_dir)
    prepare_database(settings.database).close()
    print(f"settings  {config.resolve()}{' (kept)' if kept else ''}")
    print(f"data      {settings.data_dir}")
    print(f"next      edit the settings, then: dicom-node check --config {config}")


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check settings, database and model (exit 2), then every destination and archive by C-ECHO, the servers of every
    receiver of alerts and the audit repository (exit 1)."""
    configure_logging("error", process="cli", stream=sys.stderr)
    settings = load_settings(config)
    problems = [*_database_problems(settings), *_model_problems(settings)]
    if problems:
        raise SettingsError(problems)
    print("ok: settings, database, model")
    answers = [_check_partners(settings), _check_receivers(settings), _check_audit_repository(settings)]
    if not all(answers):
        raise typer.Exit(1)


def _database_problems(settings: NodeSettings) -> list[str]:
    from dicom_node.database.connection import open_database

    try:
        open_database(settings.database).close()
    except NodeError as error:
        return str(error).splitlines()
    return []


def _model_problems(settings: NodeSettings) -> list[str]:
    from dicom_node.analysis.detector import load_detector

    try:
        load_detector(settings)
    except NodeError as error:
        return str(error).splitlines()
    return []


def _check_audit_repository(settings: NodeSettings) -> bool:
    from dicom_node.audit.repository import connect

    rules = settings.audit
    # Nobody answers to UDP.
    if not rules.repository_host or rules.repository_transport == "udp":
        return True
    try:
        connect(rules).close()
    except OSError as error:
        where = f"{rules.repository_host}:{rules.repository_port}"
        print(f"error: audit repository {where}: {error.strerror or error}", file=sys.stderr)
        return False
    print("ok: audit repository answers")
    return True


def _check_partners(settings: NodeSettings) -> bool:
    from dicom_node.dicom.remote import RemoteAE

    good = True
    partners = [("destination", d) for d in settings.destinations] + [("archive", a) for a in settings.archives]
    for what, partner in partners:
        remote = RemoteAE(
            partner, calling_ae=settings.listener.ae_title, timeout_s=min(10, settings.delivery.timeout_s)
        )
        try:
            remote.echo()
            print(f"ok: {what} {partner.name} answers")
        except (DeliveryError, OSError) as error:
            print(f"error: {what} {partner.name}: {error}", file=sys.stderr)
            good = False
    return good


def _check_receivers(settings: NodeSettings) -> bool:
    from dicom_node.alerts.channels import channel_to

    def check(receiver: Email | Webhook) -> str:
        channel_to(receiver, timeout_s=min(10, settings.delivery.timeout_s)).check()
        return "answers"

    return _with_receivers(settings, check)


def _with_receivers(settings: NodeSettings, step: Callable[[Email | Webhook], str]) -> bool:
    """Do something with every receiver of alerts and say how it went; whether all went well."""
    from dicom_node.errors import NotifyError

    good = True
    for receiver in settings.receivers:
        try:
            print(f"ok: receiver {receiver.name} {step(receiver)}")
        except NotifyError as error:
            print(f"error: receiver {receiver.name}: {error}", file=sys.stderr)
            good = False
    return good


# ---------------------------------------------------------------- running


@app.command()
def serve(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the whole node: listener, workers, delivery, web. SIGTERM stops it cleanly."""
    from dicom_node.audit.log import AuditLog
    from dicom_node.audit.people import activity
    from dicom_node.database.connection import prepare_database
    from dicom_node.health.heartbeats import beating
    from dicom_node.images.folders import prepare_folders
    from dicom_node.processes.supervisor import Supervisor
    from dicom_node.system.lifecycle import StopFlag

    settings = load_settings(config)
    configure_logging(settings.log_level, process="supervisor")
    prepare_folders(settings.data_dir)
    database = prepare_database(settings.database)
    supervisor = Supervisor(settings, database, config.resolve())
    stop = StopFlag().install()
    with activity(AuditLog(settings), "supervisor"), beating(database, "supervisor", is_well=supervisor.is_well):
        supervisor.run(stop)


@app.command()
def listen(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the listener alone: C-ECHO and C-STORE."""
    from dicom_node.receiving.listener import run_listener

    settings, database, stop = _process(config, "listener")
    try:
        with _at_work(settings, database, "listener"):
            run_listener(settings, database, stop)
    except OSError as error:
        where = f"{settings.listener.host}:{settings.listener.port}"
        raise NodeError(f"cannot listen on {where}: {error.strerror or error}") from error


@app.command()
def work(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run one worker alone: analyse studies."""
    from dicom_node.analysis.detector import load_detector
    from dicom_node.analysis.worker import Worker

    settings, database, stop = _process(config, "worker")
    detector = load_detector(settings)
    worker = Worker(settings, database, detector)
    with _at_work(settings, database, "worker", gpu=detector.gpu_memory):
        worker.run(stop)


@app.command()
def deliver(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run scheduler and delivery alone: close studies, reclaim jobs, send results, ask for proof and answer who asks us,
    tell the receivers of alerts."""
    from dicom_node.alerts.notifier import Notifier
    from dicom_node.audit.repository import AuditRepository
    from dicom_node.commitment.answers import Answers
    from dicom_node.commitment.prover import Prover
    from dicom_node.delivery.deliverer import Delivery
    from dicom_node.processes.scheduler import Scheduler
    from dicom_node.receiving.census import Census
    from dicom_node.receiving.pull import Retriever
    from dicom_node.system.lifecycle import notify_ready
    from dicom_node.system.log import get_logger
    from dicom_node.upkeep.retention import Retention

    settings, database, stop = _process(config, "delivery")
    scheduler = Scheduler(settings, database)
    scheduler.every(settings.delivery.poll_seconds, Answers(settings, database).answer_due)
    scheduler.every(_PURGE_EVERY_S, Retention(settings, database).purge_due)
    scheduler.every(settings.delivery.poll_seconds, AuditRepository(settings, database).send_due)
    scheduler.start()
    Notifier(settings, database).start(stop)
    Census(settings, database, lambda archive, uid: Retriever(settings, database, archive).pull(uid, "MR")).start(stop)
    get_logger().info("delivering", destinations=[d.name for d in settings.destinations])
    notify_ready()
    with _at_work(settings, database, "delivery"):
        Delivery(settings, database, Prover(settings, database).prove_due).run(stop)
    scheduler.stop()
    get_logger().info("stopped")


@app.command()
def web(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the web process alone: health, metrics and the status page."""
    from dicom_node.web.server import run_web

    settings, database, stop = _process(config, "web")
    with _at_work(settings, database, "web"):
        run_web(settings, database, stop)


def _process(config: Path, name: str) -> tuple[NodeSettings, Database, StopFlag]:
    from dicom_node.database.connection import open_database
    from dicom_node.images.folders import prepare_folders
    from dicom_node.system.lifecycle import StopFlag

    stop = StopFlag().install()
    settings = load_settings(config)
    configure_logging(settings.log_level, process=name)
    database = open_database(settings.database)
    prepare_folders(settings.data_dir)
    return settings, database, stop


@contextmanager
def _at_work(
    settings: NodeSettings, database: Database, role: str, gpu: Callable[[], tuple[str, int, int] | None] = lambda: None
) -> Iterator[None]:
    """The audit log has the process's start and end; in between it says that it lives."""
    from dicom_node.audit.log import AuditLog
    from dicom_node.audit.people import activity
    from dicom_node.health.heartbeats import beating

    with activity(AuditLog(settings), role), beating(database, role, gpu=gpu):
        yield


# ---------------------------------------------------------------- offline


@app.command()
def process(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="DICOM files or folders")],
    out: Annotated[Path, typer.Option("--out", help="folder for the results", file_okay=False)],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="settings file; without: defaults")] = None,
) -> None:
    """Analyse DICOM files without network or database: SR, overlay, picture and findings.json for each study."""
    from dicom_node.analysis.detector import load_detector
    from dicom_node.analysis.offline import audit_offline, find_studies, process_study

    configure_logging("error", process="cli", stream=sys.stderr)
    settings = load_settings(config) if config is not None else NodeSettings()
    found = find_studies(paths)
    for path, why in found.skipped:
        print(f"skipped: {path}: {why}", file=sys.stderr)
    if not found.studies:
        raise NodeError("no DICOM study among the files")
    detector = load_detector(settings)
    for study_uid, inputs in sorted(found.studies.items()):
        analysis = process_study(detector, study_uid, inputs, settings, out, datetime.now(UTC))
        _print_analysis(analysis, out / study_uid)
        if config is not None:
            audit_offline(settings, study_uid, inputs, analysis, out)


def _print_analysis(analysis: Analysis, folder: Path) -> None:
    detection = analysis.detection
    if detection.reason is not None:
        print(f"{detection.study_uid}: not analysable: {detection.reason.value}: {detection.reason_detail}")
    else:
        print(f"{detection.study_uid}: analysed")
    for finding in detection.findings:
        grade = finding.grade.value if finding.decided else f"undecided ({finding.grade.value})"
        print(f"  {finding.level:6} {finding.structure.value:9} {grade:24} {finding.probability:.2f}")
    for warning in detection.warnings:
        print(f"  warning: {warning}")
    for product in analysis.products:
        print(f"  {folder / product.name}")


@app.command()
def demo(
    study: Annotated[Path | None, typer.Option("--study", exists=True, help="exam to send instead of ours")] = None,
    pacs: Annotated[str | None, typer.Option("--pacs", help="AET@host:port instead of a small PACS of ours")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for the received results")] = None,
) -> None:
    """Show the whole way of an exam: a node of its own, an exam sent by C-STORE, report and overlay received."""
    from dicom_node.demo import run_demo

    raise typer.Exit(run_demo(study=study, pacs=pacs, out=out))


# ---------------------------------------------------------------- looking


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show queues, the last studies with state and reason, destinations, and open alerts."""
    from dicom_node.health import overview

    settings, database = _open(config)
    with database.read() as session:
        state = overview.status(session, settings)
    if as_json:
        print(json.dumps(state, indent=2))
    else:
        _print_status(state)


def _print_status(state: dict[str, Any]) -> None:
    console = _console()
    console.print(
        f"{state['ae_title']}  {state['studies_total']} studies ({state['studies_receiving']} receiving), "
        f"{state['instances']} instances"
    )
    for name in ("jobs", "outbox"):
        console.print(f"{name:7}", "  ".join(f"{key} {count}" for key, count in state[name].items()))
    _print_table("studies", _study_rows(state["studies"]))
    _print_table("destinations", state["destinations"])
    _print_table("receivers of alerts", state["receivers"])
    _print_table("open alerts", state["alerts"])
    if not state["alerts"]:
        console.print("no open alerts")


def _study_rows(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shown = (
        "study_uid",
        "state",
        "reason",
        "instances",
        "job",
        "sent",
        "proven",
        "to_send",
        "not_sent",
        "last_received_at",
    )
    return [{key: study[key] for key in shown} for study in studies]


def _print_list(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print_table(title, rows)
    else:
        print(f"no {title}")


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    # Wide enough for a UID beside a reason, also where the output is a pipe.
    Console(highlight=False, markup=False, width=max(160, Console().width)).print(table)


@app.command()
def jobs(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the last jobs."""
    from dicom_node.health import overview

    _, database = _open(config)
    with database.read() as session:
        rows = overview.job_list(session)
    _print_list("jobs", rows, as_json)


@app.command()
def job(job_id: int, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show one job and everything that happened to it."""
    from dicom_node.health import overview

    _, database = _open(config)
    with database.read() as session:
        detail = overview.job_detail(session, job_id)
    if detail is None:
        raise NodeError(f"there is no job {job_id}")
    if as_json:
        print(json.dumps(detail, indent=2))
        return
    events = detail.pop("events")
    for key, value in detail.items():
        print(f"{key:12} {'' if value is None else value}")
    _print_table("events", events)


# ---------------------------------------------------------------- acting


def _audited(settings: NodeSettings, what: str) -> AbstractContextManager[None]:
    """A command that changes something: the audit log says who gave it, and whether it was carried out."""
    from dicom_node.audit.log import AuditLog
    from dicom_node.audit.people import command

    return command(AuditLog(settings), what)


@app.command()
def retry(job_id: int, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Try a failed job again, or a waiting one at once."""
    from dicom_node.analysis import jobs as job_table

    settings, database = _open(config)
    with _audited(settings, f"retry of job {job_id}"), database.write() as session:
        job_table.retry(session, job_id)
    print(f"job {job_id} waits for a worker")


@app.command()
def resend(study: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send the newest result of a study again, to every destination it was meant for."""
    from dicom_node.delivery import outbox

    settings, database = _open(config)
    with _audited(settings, f"resend of study {study}"):
        with database.write() as session:
            count = outbox.resend(session, study)
        if not count:
            raise NodeError(f"no results of study {study} were meant for any destination")
    print(f"{count} objects will be sent again")


@app.command()
def alerts(
    config: ConfigOption = DEFAULT_CONFIG,
    test: Annotated[bool, typer.Option("--test", help="send every receiver a test message instead")] = False,
    as_json: JsonOption = False,
) -> None:
    """List open alerts, or see whether the receivers of alerts can be told (exit 1 if one cannot)."""
    from dicom_node.health import overview

    settings, database = _open(config)
    if test:
        _send_test(settings)
        return
    with database.read() as session:
        rows = overview.alert_list(session)
    _print_list("open alerts", rows, as_json)


def _send_test(settings: NodeSettings) -> None:
    from dicom_node.alerts.channels import channel_to
    from dicom_node.alerts.digest import trial_message

    if not settings.receivers:
        raise NodeError("there are no receivers: add [[emails]] or [[webhooks]] to the settings")

    def send(receiver: Email | Webhook) -> str:
        message = trial_message(settings.listener.ae_title, datetime.now(UTC))
        channel_to(receiver, timeout_s=settings.delivery.timeout_s).send(message)
        return "was sent a test message"

    if not _with_receivers(settings, send):
        raise typer.Exit(1)


@app.command()
def acknowledge(alert_id: int, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Close an open alert that `status` shows."""
    from dicom_node.alerts import record as alert_table

    settings, database = _open(config)
    with _audited(settings, f"acknowledging alert {alert_id}"), database.write() as session:
        if not alert_table.acknowledge(session, alert_id):
            raise NodeError(f"there is no open alert {alert_id}")
    print(f"alert {alert_id} closed")


@app.command()
def verify(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check every stored file against its SHA-256 (exit 1 if one is missing or changed)."""
    from dicom_node.alerts.record import raise_alert
    from dicom_node.database.words import AlertKind
    from dicom_node.upkeep.verify import verify_files

    settings, database = _open(config)
    problems = list(verify_files(database, settings.data_dir))
    for uid, path, what in problems:
        print(f"error: {path} {what}", file=sys.stderr)
        with database.write() as session:
            raise_alert(session, AlertKind.MISSING_FILE, uid, f"{path} {what}")
    if problems:
        raise NodeError(f"{len(problems)} files are not as they were received")
    print("ok: every file is as it was received")


@app.command()
def pull(
    config: ConfigOption = DEFAULT_CONFIG,
    study: Annotated[list[str] | None, typer.Option("--study", help="Study Instance UID; may be repeated")] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query", metavar="KEY=VALUE", help="e.g. AccessionNumber=1, StudyDate=20240101-20240131; may be repeated"
        ),
    ] = None,
    archive: Annotated[
        str | None, typer.Option("--archive", help="name in [[archives]]; without: the only one")
    ] = None,
    modality: Annotated[str, typer.Option("--modality", help='of the series; "" for all')] = "MR",
    limit: Annotated[int, typer.Option("--limit", min=1, help="most studies that a query may find")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list the studies found")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch studies from an archive (C-FIND, then C-MOVE or C-GET); the running node analyses them."""
    from dicom_node.receiving.pull import Retriever

    settings, database = _open(config)
    retriever = Retriever(settings, database, _archive(settings, archive))
    wanted = [{"StudyInstanceUID": uid} for uid in study or []] + ([_query_keys(query)] if query else [])
    if not wanted:
        raise typer.BadParameter("give --study UID or --query KEY=VALUE")
    found = list(dict.fromkeys(match for keys in wanted for match in retriever.find_studies(keys)))
    if not found:
        raise NodeError("the archive has no such study")
    if len(found) > limit:
        raise NodeError(f"{len(found)} studies found, more than --limit {limit}; nothing was fetched")
    if dry_run:
        rows = [asdict(match) for match in found]
    else:
        rows = [asdict(retriever.pull(match.study_uid, modality)) for match in found]
    print(json.dumps(rows, indent=2)) if as_json else _print_table("studies", rows)
    missing = sum(row.get("missing", 0) for row in rows)
    if missing:
        raise NodeError(f"{missing} images are missing still; start the same command again")


def _archive(settings: NodeSettings, name: str | None) -> Archive:
    named = [archive for archive in settings.archives if name in (None, archive.name)]
    if len(named) != 1:
        known = ", ".join(archive.name for archive in settings.archives) or "none"
        raise SettingsError([f"--archive must name one of [[archives]] (there are: {known})"])
    return named[0]


def _query_keys(pairs: list[str]) -> dict[str, str]:
    from pydicom.datadict import tag_for_keyword

    keys = dict(pair.partition("=")[::2] for pair in pairs)
    for key, value in keys.items():
        if tag_for_keyword(key) is None or not value:
            raise typer.BadParameter(f"--query {key}: must be a DICOM keyword and a value, such as AccessionNumber=1")
    return keys


@app.command()
def purge(
    config: ConfigOption = DEFAULT_CONFIG,
    study: Annotated[str | None, typer.Option("--study", help="this study alone, whatever its age")] = None,
    older_than: Annotated[
        int | None, typer.Option("--older-than", min=0, help="days; without: retention.keep_days")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be deleted")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the images of studies whose results are safe (`[retention] evidence`), and say which are kept and why."""
    from dicom_node.audit.people import person
    from dicom_node.upkeep.retention import Retention

    settings, database = _open(config)
    days = settings.retention.keep_days if older_than is None else older_than
    if study is None and older_than is None and not days:
        raise NodeError("retention.keep_days is 0, so nothing is old enough: give --older-than DAYS or --study UID")
    retention = Retention(settings, database, asked_by=person())
    studies = [study] if study else retention.older_than(days)
    verdicts = [retention.judge(uid) if dry_run else retention.purge(uid) for uid in studies]
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(verdict.line(done=not dry_run))
        deleted = [verdict for verdict in verdicts if not verdict.kept_because]
        size = sum(verdict.size for verdict in deleted) / 1e6
        print(f"{'would delete' if dry_run else 'deleted'}: {len(deleted)} of {len(verdicts)} studies, {size:.0f} MB")
    if study and verdicts[0].kept_because:
        raise typer.Exit(1)


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="folder for the studies", file_okay=False)],
    study: Annotated[list[str] | None, typer.Option("--study", help="Study Instance UID; may be repeated")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="all with a result since this day (UTC)")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="file of the site's key; without: export.key in the data folder")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write analysed series for training: de-identified, with the findings as a proposal for review (docs/training.md)."""
    from dicom_node.upkeep.export import KEY_NAME, Exporter, read_key

    settings, database = _open(config)
    if not study and since is None:
        raise typer.BadParameter("give --study UID or --since YYYY-MM-DD")
    out.mkdir(parents=True, exist_ok=True)
    exporter = Exporter(settings, database, out, read_key(key or settings.data_dir / KEY_NAME))
    found = exporter.studies_since(since.replace(tzinfo=UTC)) if since else []
    done = [exporter.export(uid) for uid in dict.fromkeys([*(study or []), *found])]
    if as_json:
        print(json.dumps([asdict(row) for row in done], indent=2))
    else:
        for row in done:
            print(f"{row.study_uid}: {f'left out: {row.left_out}' if row.left_out else f'{row.files} images'}")
    written = [row for row in done if not row.left_out]
    print(f"exported: {len(written)} of {len(done)} studies", file=sys.stderr)
    if done and not written:
        raise typer.Exit(1)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="tar file to write; must not exist")],
    config: ConfigOption = DEFAULT_CONFIG,
    with_files: Annotated[bool, typer.Option("--with-files", help="all received and made files too")] = False,
) -> None:
    """Write a backup while the node runs: database and settings, on request every stored file."""
    from dicom_node.upkeep.backup import write_backup

    settings, database = _open(config)
    database.close()
    with _audited(settings, f"backup to {file.resolve()}{', with all files' if with_files else ''}"):
        summary = write_backup(settings, config, file, with_files=with_files)
    print(f"ok: {file}: database of schema {summary.schema}, settings, {summary.files} files")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="backup to read", exists=True, dir_okay=False)],
    folder: Annotated[Path, typer.Option("--dir", help="where the node shall live")] = Path(),
) -> None:
    """Put a backup back into a folder without a database; a node.toml there is kept and decides where the data go."""
    from dicom_node.upkeep.backup import restore_backup

    configure_logging("error", process="cli", stream=sys.stderr)
    summary, config = restore_backup(file, folder)
    with _audited(load_settings(config), f"restore of the backup {file.resolve()} of {summary.created_at}"):
        pass
    print(f"ok: {config}: as of {summary.created_at}, {summary.files} files")
    print(f"next: dicom-node verify --config {config}")
