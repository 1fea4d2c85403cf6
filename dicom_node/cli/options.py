"""Options that several commands share, and what a command opens before it does its work."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.database.connection import Database, open_database
from dicom_node.health.clock_watch import settle_clock
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import CONFIG_NAME, load_settings
from dicom_node.system.log import configure_logging

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="SPINEONE_CONFIG", help="settings file", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
WideOption = Annotated[
    bool, typer.Option("--wide", help="whole UIDs and all columns, wider than the terminal if need be")
]
DEFAULT_CONFIG = Path(CONFIG_NAME)


def log_errors_only() -> None:
    """Log errors only, to standard error, since standard output is for what the command prints.

    pynetdicom logs nothing: what fails between a command and a partner is the command's own answer.
    """
    configure_logging("error", process="cli", stream=sys.stderr)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def open_node(config: Path) -> tuple[NodeSettings, Database]:
    """The settings and the database of the node that a command looks at or changes.

    Raises
    ------
    SettingsError
        If the settings are wrong.
    DatabaseError
        If the database is missing, damaged or of another version.
    """
    log_errors_only()
    settings = load_settings(config)
    database = open_database(settings.database)
    settle_clock(settings.data_dir, database)
    return settings, database
