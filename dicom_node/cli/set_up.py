"""`init` and `check`: setting up a new node, and checking its settings and its partners."""

from __future__ import annotations

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
from dicom_node.dicom.remote import RemoteAE
from dicom_node.errors import DeliveryError, NodeError, SettingsError
from dicom_node.images.folders import prepare_folders
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import CONFIG_NAME, load_settings
from dicom_node.settings.text import render_toml

_ECHO_TIMEOUT_S = 10


def init(folder: Annotated[Path, typer.Option("--dir", help="folder of the node")] = Path()) -> None:
    """Write a commented node.toml, and create the data folder and the database. What exists already is kept."""
    log_errors_only()
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


def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check settings, database, model and what STOW-RS needs (exit 2), then every destination and archive by C-ECHO, the
    servers of every receiver of alerts and the audit repository (exit 1)."""
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
    """Whether every destination and archive answers C-ECHO; each answer is printed."""
    good = True
    partners = [("destination", d) for d in settings.destinations] + [("archive", a) for a in settings.archives]
    for what, partner in partners:
        remote = RemoteAE.of(settings, partner, longest_s=_ECHO_TIMEOUT_S)
        try:
            remote.echo()
            print(f"ok: {what} {partner.name} answers")
        except (DeliveryError, OSError) as error:
            print(f"error: {what} {partner.name}: {error}", file=sys.stderr)
            good = False
    return good


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
