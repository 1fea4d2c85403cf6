"""What an operator starts or ends: `retry`, `analyse`, `release`, `resend`, `flush`, `pause`, `resume`, `acknowledge`, `pull`.

The audit log says who gave the command and whether it was carried out.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

import typer
from pydicom.datadict import tag_for_keyword

from dicom_node.alerts import record
from dicom_node.analysis import jobs
from dicom_node.analysis.by_hand import analyse_by_hand
from dicom_node.analysis.release import release as release_study
from dicom_node.audit.log import AuditLog
from dicom_node.audit.people import command
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, open_to_change
from dicom_node.cli.printing import print_json, print_table
from dicom_node.delivery import outbox, pauses
from dicom_node.errors import NodeError, SettingsError
from dicom_node.receiving.pull import Retriever
from dicom_node.settings.node import AnyArchive, NodeSettings
from dicom_node.system.clock import utc_now


def retry(job_id: int, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Try a failed job again, or a waiting one at once."""
    settings, database = open_to_change(config)
    with command(AuditLog(settings), f"retry of job {job_id}"), database.write() as session:
        jobs.retry(session, job_id)
    print(f"job {job_id} waits for a worker")


def analyse(study: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Analyse a study that a rule of the settings keeps, or that waits for a series: now, and whenever images come.

    An analysed study is read again; a new result is sent only if it is another one.
    """
    settings, database = open_to_change(config)
    with command(AuditLog(settings), f"analysis of study {study} by hand"), database.write() as session:
        job = analyse_by_hand(session, study, now=utc_now())
    print(f"job {job} waits for a worker" if job else "it is analysed when no more images come")


def release(
    study: Annotated[str, typer.Argument(help="Study Instance UID, as `status` shows it")],
    patient: Annotated[
        str, typer.Option("--patient", help='Patient ID of the images to use; "" for those without one', metavar="ID")
    ],
    issuer: Annotated[
        str | None, typer.Option("--issuer", help="only those with this Issuer of Patient ID; without: any")
    ] = None,
    birth_date: Annotated[
        str | None,
        typer.Option("--birth-date", help="only those with this birth date, YYYYMMDD; without: any", metavar="DATE"),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Free a study that was put aside because its images are of two patients (alert two_patients).

    Look the study up in the archive first. From then on only the images with this Patient ID are analysed, and the
    result is this patient's; the others stay on disk and are left out. The result says how many.

    Images with this Patient ID that differ in name, birth date or sex are taken for one patient's, because you say so.
    If two patients share the ID, choose with --birth-date or --issuer.

    Images that come later are used if they carry the same Patient ID. If the archive corrects all of the images used,
    the correction is followed; if it corrects some of them to another patient, the study is put aside again. The
    command may be repeated with another ID: the new result then names the one that it replaces.

    It is better still to have the archive correct the study and send all of it again: then no release is needed.
    """
    if birth_date is not None and not re.fullmatch(r"\d{8}", birth_date):
        raise typer.BadParameter("--birth-date: must be YYYYMMDD")
    settings, database = open_to_change(config)
    audit = AuditLog(settings)
    with command(audit, f"release of study {study} for one of its patients"), database.write() as session:
        done = release_study(
            session,
            settings.data_dir,
            study,
            patient_id=patient,
            issuer=issuer,
            birth_date=birth_date,
            now=utc_now(),
        )
    outcome = f"study {study}: {done.used} images are used, {done.left_out} are left out"
    with command(audit, outcome):
        # Only now is it known how many the release leaves out.
        pass
    print(outcome)
    print(f"job {done.job} waits for a worker" if done.job else "it is analysed when no more images come")


def resend(study: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send the newest result of a study again to every destination that it was meant for."""
    settings, database = open_to_change(config)
    with command(AuditLog(settings), f"resend of study {study}"):
        with database.write() as session:
            count = outbox.resend(session, study)
        if not count:
            raise NodeError(f"no results of study {study} were meant for any destination")
    print(f"{count} objects will be sent again")


def flush(destination: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send what waits for a destination now instead of after its pause between attempts."""
    settings, database = open_to_change(config)
    _check_destination(settings, destination)
    with command(AuditLog(settings), f"flush of destination {destination}"), database.write() as session:
        count = outbox.wake(session, destination)
    print(f"{count} objects no longer wait out a pause")


def pause(destination: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Send nothing to a destination until `resume`; what is meant for it waits."""
    settings, database = open_to_change(config)
    _check_destination(settings, destination)
    with command(AuditLog(settings), f"pause of destination {destination}"), database.write() as session:
        is_new = pauses.pause(session, destination)
    print(f"{destination} is paused" if is_new else f"{destination} was paused already")


def resume(destination: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End the pause of a destination: everything that waits for it is sent now."""
    settings, database = open_to_change(config)
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
    settings, database = open_to_change(config)
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
    """Fetch studies from an archive (C-FIND, then C-MOVE or C-GET; or QIDO-RS, then WADO-RS); the running node analyses
    them."""
    settings, database = open_to_change(config)
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


def _archive(settings: NodeSettings, name: str | None) -> AnyArchive:
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
