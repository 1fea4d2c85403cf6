"""`find` and `study`: where is my study, and what became of it?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from dicom_node.audit.log import AuditLog
from dicom_node.audit.people import looked_at, person
from dicom_node.cli.explain import print_series, verdict_of
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, WideOption, open_node
from dicom_node.cli.printing import in_brief, print_json, print_lines, print_list, print_table
from dicom_node.cli.tables import cell
from dicom_node.database.connection import Database
from dicom_node.errors import SettingsError
from dicom_node.health import studies
from dicom_node.health.overview import STUDY_PLACES
from dicom_node.health.studies import Criteria
from dicom_node.health.wording import in_words, reason_beside, with_result
from dicom_node.settings.node import NodeSettings

_DAY = ["%Y-%m-%d"]
_NOT_IN_TABLE = ("events", "study_uid", "selection")


def find(
    config: ConfigOption = DEFAULT_CONFIG,
    uid: Annotated[str, typer.Option("--uid", help="a part of the Study Instance UID")] = "",
    state: Annotated[str | None, typer.Option("--state", help=", ".join(STUDY_PLACES))] = None,
    peer: Annotated[str | None, typer.Option("--peer", help="AE title that sent an image of it")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=_DAY, help="first day on which its last image came")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--until", formats=_DAY, help="last such day")] = None,
    accession: Annotated[str, typer.Option("--accession", help="Accession Number, whole ([shown] patient)")] = "",
    patient: Annotated[str, typer.Option("--patient", help="Patient ID, whole ([shown] patient)")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="most studies to list")] = 50,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """List the studies that fit, the newest first."""
    # As the setting of a script, or as it is shown.
    state = state and state.replace(" ", "_")
    if state is not None and state not in STUDY_PLACES:
        raise typer.BadParameter(f"--state {state!r}: must be one of {', '.join(STUDY_PLACES)}")
    end = _local(until + timedelta(days=1)) if until else None
    criteria = Criteria(uid, state, peer, _local(since), end, accession, patient)
    settings, database = open_node(config)
    if (accession or patient) and not settings.shown.patient:
        raise SettingsError(
            ["--accession and --patient need `[shown] patient = true`: the database holds no such data without it"]
        )
    with database.read() as session:
        rows, number = studies.find(session, criteria, limit=limit, with_patients=settings.shown.patient)
    audit_shown(settings, database, rows)
    print_list("studies", rows if as_json else in_brief(rows), as_json, wide=wide)
    if number > len(rows) and not as_json:
        print_lines(f"{number - len(rows)} more; --limit shows them")


def study(
    uid: Annotated[str, typer.Argument(help="Study Instance UID, or a part that only one study has")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Show what became of one study: its series, results with findings, files, deliveries with proof, jobs, alerts."""
    settings, database = open_node(config)
    with database.read() as session:
        uid = studies.named_study(session, uid)
        found = studies.detail(session, uid, with_patients=settings.shown.patient)
    audit_shown(settings, database, [found])
    print_json(found) if as_json else _print_study(found, wide)


def audit_shown(settings: NodeSettings, database: Database, listed: Sequence[dict[str, Any]]) -> None:
    """Record that a person sees whose studies these are, where the settings let that be shown."""
    named = [study["study_uid"] for study in listed if study.get("patient_id") or study.get("accession")]
    looked_at(AuditLog(settings), database, person(), named)


def _local(day: datetime | None) -> datetime | None:
    """The beginning of a day of the site's own calendar."""
    return None if day is None else day.astimezone()


def _print_study(found: dict[str, Any], wide: bool) -> None:
    reason = reason_beside(found["state"], found["reason"])
    print_lines(
        f"{found['study_uid']}  {with_result(found['state'], found['result'])}{f': {reason}' if reason else ''}"
    )
    print_lines(f"{found['instances']} image{'' if found['instances'] == 1 else 's'}")
    if "patient_id" in found:
        print_lines(f"patient id {found['patient_id'] or 'not kept'}, accession {found['accession'] or 'not kept'}")
    print_table("series", found["series"], wide=wide)
    selection = next((job["selection"] for job in reversed(found["jobs"]) if job["selection"]), None)
    if selection is not None:
        print_lines(f"read: {verdict_of(selection)}")
        print_series(selection, "which series, and why not the others", wide=wide)
    for result in found["results"]:
        print_result(result, wide)
    jobs = [{k: v for k, v in job.items() if k not in _NOT_IN_TABLE} for job in found["jobs"]]
    print_table("jobs", jobs, wide=wide)
    events = [{"job": job["job"], **event} for job in found["jobs"] for event in job["events"]]
    print_table("events", events, wide=wide)
    print_table("open alerts", found["alerts"], wide=wide)


def print_result(result: dict[str, Any], wide: bool) -> None:
    """Print a result: what it is of and why it was made, findings, files, and deliveries with proof."""
    findings = result["findings"]
    of = f"generation {result['generation']}" + (f" ({in_words(findings['cause'])})" if findings.get("cause") else "")
    when = cell("created_at", result["created_at"])
    print_lines(f"result {result['result']} of {of}, {when}: {in_words(result['status'])}")
    if result["withheld"]:
        print_lines("  kept on the node: the settings let none of it be sent")
    if findings.get("series_uid"):
        print_lines(f"  series {findings['series_uid']}", f"  slice {findings['sop_instance_uid'] or 'none'}")
    if findings.get("reason"):
        print_lines(f"  {findings['reason']}: {findings.get('reason_detail', '')}")
    print_lines(*(f"  warning: {warning}" for warning in findings.get("warnings", ())))
    columns = ("level", "structure", "class", "decided", "probability")
    rows = [{key: row[key] for key in columns} for row in findings.get("findings", ())]
    print_table("findings", rows, wide=wide)
    print_table("files", result["files"], wide=wide)
    print_table("deliveries", result["deliveries"], wide=wide)
