"""Opening the database: SQLite (write-ahead log, fully synchronous) or PostgreSQL."""

from __future__ import annotations

import errno
import sys
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
    """Sessions on one database. On SQLite, BEGIN IMMEDIATE serialises the writers, so that none fails half-way.

    An SQLite file that is deleted or replaced while it is open would go on to take rows that nobody finds again. So
    every session begins with a look whether the file is in place. Only alerts are still kept in a lost file, because
    the running processes tell them from there.
    """

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url)
        self._writing = self.engine.execution_options(spineone_begin="BEGIN IMMEDIATE")
        self._file = _DatabaseFile.of(self.engine)

    def lost(self) -> str:
        """Why this is no longer the node's database; empty if it is."""
        return self._file.lost() if self._file is not None else ""

    @contextmanager
    def read(self, *, even_if_lost: bool = False) -> Iterator[Session]:
        """A session for reading.

        Raises
        ------
        FileNotFoundError
            If the database file was deleted or replaced.
        """
        self._check_in_place(even_if_lost)
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self, *, even_if_lost: bool = False) -> Iterator[Session]:
        """A session in one transaction: committed at the end, rolled back on any exception.

        Raises
        ------
        FileNotFoundError
            If the database file was deleted or replaced.
        """
        self._check_in_place(even_if_lost)
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

    def _check_in_place(self, even_if_lost: bool) -> None:
        if self._file is not None and not even_if_lost:
            self._file.check()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class _DatabaseFile:
    """The file of an SQLite database, known by its inode since the first connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: tuple[int, int] | None = None

    @staticmethod
    def of(engine: Engine) -> _DatabaseFile | None:
        """The file of an engine, which tells it of each connection; None for a server or a database in memory."""
        name = engine.url.database
        if engine.dialect.name != "sqlite" or not name or name == ":memory:":
            return None
        file = _DatabaseFile(Path(name))
        # A connection would make an empty file where the lost one was.
        event.listen(engine, "do_connect", lambda *_: file.check())
        event.listen(engine, "connect", lambda *_: file.note())
        return file

    def note(self) -> None:
        """A connection was opened."""
        if self._inode is None:
            self._inode = self._found()

    def lost(self) -> str:
        found = self._found()
        if self._inode is None or found == self._inode:
            return ""
        return f"{self._path.name} was {'deleted' if found is None else 'replaced'} while the node was running"

    def check(self) -> None:
        if why := self.lost():
            raise FileNotFoundError(errno.ENOENT, why)

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


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
        raise DatabaseError(f"the database driver {error.name} is not installed: {_remedy(error.name)}") from None


def _remedy(driver: str | None) -> str:
    """What a person does about a missing driver: the node is made for psycopg, version 3."""
    if driver != "psycopg":
        return "write postgresql+psycopg:// at the beginning of database_url"
    return f'{sys.executable} -m pip install "psycopg[binary]>=3.1"'
