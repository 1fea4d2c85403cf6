"""Bringing a database from any earlier version to this one; run by the node itself, no files outside the package."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from dicom_node.errors import DatabaseError


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "dicom_node:migrations")
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The revision that this version works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def _found(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _check_known(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise DatabaseError(
            f"the database has schema {found!r}, which this version does not know: it was written by a newer version. "
            "Install that version again, or restore a backup from before the upgrade"
        )


def upgrade(engine: Engine) -> None:
    """Create or update the tables, in one transaction.

    Raises
    ------
    DatabaseError
        If the database is of a newer version.
    """
    _check_known(_found(engine))
    with engine.execution_options(spineone_begin="BEGIN IMMEDIATE").begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(engine: Engine) -> None:
    """Refuse a database of another version.

    Raises
    ------
    DatabaseError
        Saying what the database has and what to do.
    """
    found = _found(engine)
    _check_known(found)
    if found != head():
        state = "is empty" if found is None else f"is of the older schema {found!r}"
        raise DatabaseError(f"the database {state}; `dicom-node init` or `dicom-node serve` brings it up to date")
