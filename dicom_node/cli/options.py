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

# Where `deploy/install.sh` puts the settings.
INSTALLED_CONFIG = Path("/var/lib/spineone") / CONFIG_NAME


def _found(context: typer.Context, config: Path) -> Path:
    """The settings file: the one that is named, else that of this folder, else the installer's."""
    source = context.get_parameter_source("config")
    is_named = source is not None and source.name != "DEFAULT"
    if is_named or config.exists() or not _is_there(INSTALLED_CONFIG):
        return config
    return INSTALLED_CONFIG


def _is_there(path: Path) -> bool:
    """Whether there is such a file; one that must not be seen is there, and reading it says so."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="SPINEONE_CONFIG",
        help=f"settings file; without: {CONFIG_NAME} of this folder, else {INSTALLED_CONFIG}",
        callback=_found,
        show_default=False,
    ),
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


def open_to_change(config: Path) -> tuple[NodeSettings, Database]:
    """As `open_node`, for a command that changes something: it says on standard error which node that is."""
    print(f"settings {config.resolve()}", file=sys.stderr)
    return open_node(config)
