"""`retry`, `resend`, `flush`, `pause`, `resume`, `acknowledge`, `pull`: an operator starts something or closes an alert.

The audit log says who gave the command and whether it was carried out.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from pydicom.datadict import tag_for_keyword

from dicom_node.alerts import record
from dicom_node.analysis import jobs
from dicom_node.audit.log import AuditLog
from dicom_node.audit.people import command
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, open_node
from dicom_node.cli.printing import print_json, print_table
from dicom_node.delivery import outbox, pauses
from dicom_node.errors import NodeError, SettingsError
from dicom_node.receiving.pull import Retriever
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Archive


def retry(job_id: int, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Try a failed job again, or a waiting one at once."""
    settings, database = open_node(config)
    with command(AuditLog(settings), f"retry of job {job_id}"), database.write() as session:
        jobs.retry(session, job_id)
    print(f"job {job_id} waits for a worker")


def resend(study: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send the newest result of a study again to every destination that it was meant for."""
    settings, database = open_node(config)
    with command(AuditLog(settings), f"resend of study {study}"):
        with database.write() as session:
            count = outbox.resend(session, study)
        if not count:
            raise NodeError(f"no results of study {study} were meant for any destination")
    print(f"{count} objects will be sent again")


def flush(destination: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send what waits for a destination now instead of after its pause between attempts."""
    settings, database = open_node(config)
    _check_destination(settings, destination)
    with command(AuditLog(settings), f"flush of destination {destination}"), database.write() as session:
        count = outbox.wake(session, destination)
    print(f"{count} objects no longer wait out a pause")


def pause(destination: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send nothing to a destination until `resume`; what is meant for it waits."""
    settings, database = open_node(config)
    _check_destination(settings, destination)
    with command(AuditLog(settings), f"pause of destination {destination}"), database.write() as session:
        is_new = pauses.pause(session, destination)
    print(f"{destination} is paused" if is_new else f"{destination} was paused already")


def resume(destination: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End the pause of a destination: everything that waits for it is sent now."""
    settings, database = open_node(config)
    _check_destination(settings, destination)
    with command(AuditLog(settings), f"resuming destination {destination}"), database.write() as session:
        was_paused = pauses.resume(session, destination)
        outbox.wake(session, destination)
    print(f"{destination} is no longer paused" if was_paused else f"{destination} was not paused")


def _check_destination(settings: NodeSettings, name: str) -> None:
    if settings.destination(name) is None:
        known = ", ".join(destination.name for destination in settings.destinations) or "none"
        raise SettingsError([f"{name!r} must name one of [[destinations]] (there are: {known})"])


def acknowledge(alert_id: int, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Close an open alert that `status` shows."""
    settings, database = open_node(config)
    with command(AuditLog(settings), f"acknowledging alert {alert_id}"), database.write() as session:
        if not record.acknowledge(session, alert_id):
            raise NodeError(f"there is no open alert {alert_id}")
    print(f"alert {alert_id} closed")


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
    modality: Annotated[str, typer.Option("--modality", help='modality of the series to fetch; "" for all')] = "MR",
    limit: Annotated[int, typer.Option("--limit", min=1, help="most studies that a query may find")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list the studies found")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch studies from an archive (C-FIND, then C-MOVE or C-GET); the running node analyses them."""
    settings, database = open_node(config)
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
    print_json(rows) if as_json else print_table("studies", rows)
    missing = sum(row.get("missing", 0) for row in rows)
    if missing:
        raise NodeError(f"{missing} images are still missing; start the same command again")


def _archive(settings: NodeSettings, name: str | None) -> Archive:
    named = [archive for archive in settings.archives if name in (None, archive.name)]
    if len(named) != 1:
        known = ", ".join(archive.name for archive in settings.archives) or "none"
        raise SettingsError([f"--archive must name one of [[archives]] (there are: {known})"])
    return named[0]


def _query_keys(pairs: list[str]) -> dict[str, str]:
    keys = dict(pair.partition("=")[::2] for pair in pairs)
    for key, value in keys.items():
        if tag_for_keyword(key) is None or not value:
            raise typer.BadParameter(f"--query {key}: must be a DICOM keyword and a value, such as AccessionNumber=1")
    return keys
