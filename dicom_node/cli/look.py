"""`status`, `jobs`, `job`, `alerts`: commands that change nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dicom_node.cli.explain import print_series, verdict_of
from dicom_node.cli.find import audit_shown, print_result
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, WideOption, open_node
from dicom_node.cli.printing import in_brief, print_json, print_lines, print_list, print_table
from dicom_node.cli.receivers import send_test
from dicom_node.cli.tables import cell, heading
from dicom_node.errors import NodeError
from dicom_node.health import overview, studies, whole_node
from dicom_node.health.wording import OF_DELIVERY, in_words


def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, wide: WideOption = False) -> None:
    """Show whether the node runs, queues, the last studies with state and reason, destinations, and open alerts."""
    settings, database = open_node(config)
    with database.read() as session:
        state = overview.status(session, settings)
    audit_shown(settings, database, state["studies"])
    if as_json:
        print_json(state)
    else:
        _print_status(state, wide)


def _print_status(state: dict[str, Any], wide: bool) -> None:
    print_lines(
        f"{state['ae_title']}  {whole_node.in_words(state['node'])}",
        f"{state['ae_title']}  {state['studies_total']} studies ({state['studies_receiving']} receiving), "
        f"{state['instances']} instances",
        _counts("studies", state["studies_by_state"]),
        _counts("files", {OF_DELIVERY[name]: count for name, count in state["outbox"].items()}),
    )
    print_table("studies", in_brief(state["studies"]), wide=wide)
    print_table("destinations", state["destinations"], wide=wide)
    print_table("receivers of alerts", state["receivers"], wide=wide)
    print_table("open alerts", state["alerts"], wide=wide)
    if not state["alerts"]:
        print_lines("no open alerts")


def _counts(what: str, counts: dict[str, int]) -> str:
    return f"{what:8} {'  '.join(f'{in_words(name)} {count}' for name, count in counts.items())}"


def jobs(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, wide: WideOption = False) -> None:
    """List the last jobs."""
    _, database = open_node(config)
    with database.read() as session:
        rows = overview.job_list(session)
    print_list("jobs", rows, as_json, wide=wide)


def job(
    job_id: int, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, wide: WideOption = False
) -> None:
    """Show one job: which series was read and why not the others, its result with findings and deliveries, its events."""
    _, database = open_node(config)
    with database.read() as session:
        detail = studies.job_detail(session, job_id)
    if detail is None:
        raise NodeError(f"there is no job {job_id}")
    if as_json:
        print_json(detail)
        return
    events, selection, result = detail.pop("events"), detail.pop("selection"), detail.pop("result")
    for key, value in detail.items():
        print_lines(f"{heading(key):12} {cell(key, value, wide=True)}")
    if selection is not None:
        print_lines(f"read: {verdict_of(selection)}")
        print_series(selection, "which series, and why not the others", wide=wide)
    if result is not None:
        print_result(result, wide)
    print_table("events", events, wide=wide)


def alerts(
    config: ConfigOption = DEFAULT_CONFIG,
    test: Annotated[bool, typer.Option("--test", help="send every receiver a test message instead")] = False,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """List open alerts, or see whether the receivers of alerts can be told (exit 1 if one cannot)."""
    settings, database = open_node(config)
    if test:
        if not send_test(settings):
            raise typer.Exit(1)
        return
    with database.read() as session:
        rows = overview.alert_list(session)
    print_list("open alerts", rows, as_json, wide=wide)
