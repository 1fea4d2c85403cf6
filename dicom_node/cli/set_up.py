"""`init` and `check`: setting up a new node, and checking its settings and its partners."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.analysis.detector import load_detector
from dicom_node.audit.repository import connect
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, log_errors_only
from dicom_node.cli.receivers import check_receivers
from dicom_node.cli.stow_check import stow_problems
from dicom_node.database.connection import open_database, prepare_database
from dicom_node.delivery.fhir_server import FhirServer
from dicom_node.dicom.remote import RemoteAE
from dicom_node.dicomweb.qido import QidoClient
from dicom_node.dicomweb.remote import WebRemote
from dicom_node.errors import DeliveryError, NodeError, SettingsError
from dicom_node.images.folders import prepare_folders
from dicom_node.settings.node import AnyArchive, AnyDestination, NodeSettings
from dicom_node.settings.reading import CONFIG_NAME, load_settings
from dicom_node.settings.sections import Partner
from dicom_node.settings.text import render_toml
from dicom_node.settings.web_destinations import FhirDestination, WebServer

_ECHO_TIMEOUT_S = 10


def init(folder: Annotated[Path, typer.Option("--dir", help="folder of the node")] = Path()) -> None:
    """Write a commented node.toml, and create the data folder and the database. What exists already is kept."""
    log_errors_only()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CONFIG_NAME
    kept = config.exists()
    if not kept:
        _write_settings(config)
    settings = load_settings(config)
    prepare_folders(settings.data_dir)
    prepare_database(settings.database).close()
    print(f"settings  {config.resolve()}{' (kept)' if kept else ''}")
    print(f"data      {settings.data_dir}")
    print(f"next      edit the settings, then: dicom-node check --config {config}")


def _write_settings(config: Path) -> None:
    """Write the file so that others cannot read it, whatever the umask: it may come to hold a password."""
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(render_toml())


def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check settings, database, model and what STOW-RS needs (exit 2), then every destination and archive by C-ECHO,
    QIDO-RS or a FHIR search, the servers of every receiver of alerts and the audit repository (exit 1)."""
    log_errors_only()
    settings = load_settings(config)
    problems = [*_database_problems(settings), *_model_problems(settings), *stow_problems(settings)]
    if problems:
        raise SettingsError(problems)
    print("ok: settings, database, model")
    answers = [check_partners(settings), check_receivers(settings), check_audit_repository(settings)]
    if not all(answers):
        raise typer.Exit(1)


def _database_problems(settings: NodeSettings) -> list[str]:
    try:
        open_database(settings.database).close()
    except NodeError as error:
        return str(error).splitlines()
    return []


def _model_problems(settings: NodeSettings) -> list[str]:
    try:
        load_detector(settings)
    except NodeError as error:
        return str(error).splitlines()
    return []


def check_partners(settings: NodeSettings) -> bool:
    """Whether every destination and archive answers, by C-ECHO, QIDO-RS or a FHIR search; each answer is printed."""
    good = True
    partners: list[tuple[str, AnyDestination | AnyArchive]] = [("destination", d) for d in settings.destinations]
    partners += [("archive", a) for a in settings.archives]
    for what, partner in partners:
        try:
            _ask(settings, partner)
            print(f"ok: {what} {partner.name} answers")
        except (DeliveryError, OSError) as error:
            print(f"error: {what} {partner.name}: {error}", file=sys.stderr)
            good = False
    return good


def _ask(settings: NodeSettings, partner: Partner | WebServer) -> None:
    """Ask a partner for an answer, in a way that stores nothing and shows no one's data; DeliveryError without one."""
    if isinstance(partner, Partner):
        RemoteAE.of(settings, partner, longest_s=_ECHO_TIMEOUT_S).echo()
        return
    remote = WebRemote.of(settings, partner, longest_s=_ECHO_TIMEOUT_S)
    with remote.session() as session:
        FhirServer(remote, session).check() if isinstance(partner, FhirDestination) else QidoClient(
            remote, session
        ).check()


def check_audit_repository(settings: NodeSettings) -> bool:
    """Whether the node can connect to the audit repository, if there is one; the answer is printed."""
    rules = settings.audit
    # UDP gets no answer.
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
