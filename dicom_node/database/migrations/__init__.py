"""Bringing a database from any earlier version to this one. The node does this itself; the package holds all files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from dicom_node.errors import DatabaseError

# A number that nobody else uses for an advisory lock in the node's database.
_UPGRADE_LOCK = 0x5350494E45


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "dicom_node.database:migrations")
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
        If a newer version wrote the database.
    """
    _check_known(_found(engine))
    writing = engine.execution_options(spineone_begin="BEGIN IMMEDIATE")
    with writing.connect() as connection, _foreign_keys_at_rest(connection), connection.begin():
        _lock_out_others(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _check_foreign_keys(connection)


def _lock_out_others(connection: Connection) -> None:
    """Let only one node at a time upgrade a PostgreSQL database.

    When two nodes start at once, the second waits and then finds the tables made. SQLite's writers wait anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")


@contextmanager
def _foreign_keys_at_rest(connection: Connection) -> Iterator[None]:
    """Suspend the enforcement of foreign keys on SQLite.

    SQLite changes a table by making a new one; dropping the old one would fail while foreign keys are enforced. The
    pragma has no effect inside a transaction, so it is given to the driver before one begins.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _check_foreign_keys(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise DatabaseError("the database holds rows that refer to missing ones; restore a backup")


def require_current(engine: Engine) -> None:
    """Refuse a database of another version.

    Raises
    ------
    DatabaseError
        If the schema is not this version's; the message says what the database has and what to do.
    """
    found = _found(engine)
    _check_known(found)
    if found != head():
        state = "is empty" if found is None else f"is of the older schema {found!r}"
        raise DatabaseError(f"the database {state}; `dicom-node init` or `dicom-node serve` brings it up to date")
