"""Opening the database: SQLite (write-ahead log, fully synchronous) or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Engine,
    create_engine,
    event,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.database.migrations import require_current, upgrade
from dicom_node.errors import DatabaseError

# How long a writer waits for another one before it fails (and the peer is told to try again), in seconds.
BUSY_TIMEOUT_S = 30

DAMAGED = "if it is damaged, restore a backup (docs/operations.md)"

# No wait is endless: not for a connection (seconds), nor for another writer's lock or for a server that has vanished
# (milliseconds).
_POSTGRESQL = {
    "connect_timeout": 10,
    "options": f"-c lock_timeout={BUSY_TIMEOUT_S * 1000} -c synchronous_commit=on",
    "tcp_user_timeout": BUSY_TIMEOUT_S * 1000,
}


class Database:
    """Sessions on one database. On SQLite, BEGIN IMMEDIATE serialises the writers, so that none fails half-way."""

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url)
        self._writing = self.engine.execution_options(spineone_begin="BEGIN IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end, rolled back on any exception."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def checkpoint(self) -> None:
        """Take SQLite's write-ahead log into the database and empty it; PostgreSQL does this by itself.

        SQLite also does it when a thousand pages have come together, but only from where no reader is at work: with a status
        page that is never left alone the log would grow without end. A busy database is left for the next time.
        """
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _create_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True, connect_args=_POSTGRESQL)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # The driver's own transaction handling begins too late; _begin_sqlite does it.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("spineone_begin", "BEGIN"))


def prepare_database(url: str) -> Database:
    """Create the tables or bring them up to date, then open the database.

    Raises
    ------
    DatabaseError
        If the database cannot be reached, is damaged, or was written by a newer version.
    """
    _check_folder(url)
    with _explained(url):
        database = Database(url)
        upgrade(database.engine)
        return database


def open_database(url: str) -> Database:
    """Open a database that has the tables of exactly this version.

    Raises
    ------
    DatabaseError
        If the database does not exist, cannot be reached, is damaged, or belongs to another version.
    """
    _check_folder(url, must_exist=True)
    with _explained(url):
        database = Database(url)
        require_current(database.engine)
        return database


def _check_folder(url: str, *, must_exist: bool = False) -> None:
    name = make_url(url).database if url.startswith("sqlite") else None
    if not name or name == ":memory:":
        return
    if must_exist and not Path(name).is_file():
        raise DatabaseError(f"no database at {name}; `dicom-node init` creates it")
    if not Path(name).parent.is_dir():
        raise DatabaseError(f"no folder {Path(name).parent} for the database; `dicom-node init` creates it")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        shown = make_url(url).render_as_string(hide_password=True)
        why = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
        raise DatabaseError(f"database {shown} cannot be used: {why}") from None
    except UnicodeDecodeError:
        # The schema itself holds bytes that are no text; the driver fails before SQLAlchemy can wrap it.
        raise DatabaseError(f"database {make_url(url).render_as_string(hide_password=True)}: {DAMAGED}") from None
    except ModuleNotFoundError as error:
        raise DatabaseError(f"the database driver {error.name} is not installed (extra `postgresql`)") from None
