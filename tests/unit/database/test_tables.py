from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from dicom_node.database.base import Base
from dicom_node.database.connection import Database, open_database, prepare_database
from dicom_node.database.migrations import upgrade
from dicom_node.database.tables import Job, OutboxRow, ResultFile, StudyRow
from dicom_node.database.words import RESULT_ROLES
from dicom_node.errors import DatabaseError
from dicom_node.system.clock import utc_now


@pytest.mark.both_databases
def test_migrations_make_exactly_the_declared_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def at_first_schema(url: str) -> Database:
    """A database as the first version left it, with one result that is sent."""
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", "dicom_node.database:migrations")
    config.set_main_option("path_separator", "os")
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        now = "2026-01-01 00:00:00"
        for statement in (
            f"INSERT INTO studies VALUES ('1.2', 'complete', 1, '{now}', '{now}')",
            "INSERT INTO results (id, study_uid, generation, input_hash, model_digest, settings_digest, status, findings,"
            f" created_at) VALUES (1, '1.2', 1, 'a', 'b', 'c', 'analysed', '{{}}', '{now}')",
            "INSERT INTO result_files (id, result_id, role, path, sha256) VALUES (70, 1, 'report', 'p', 's')",
            "INSERT INTO outbox (id, result_file_id, study_uid, destination, state, attempts, next_attempt_at,"
            f" created_at, last_message) VALUES (3, 70, '1.2', 'pacs', 'sent', 1, '{now}', '{now}', 'stored')",
        ):
            connection.exec_driver_sql(statement)
    return database


@pytest.mark.both_databases
@pytest.mark.no_tables
def test_upgrade__rows_of_the_first_version_are_kept(tmp_path: Path, database_url: str) -> None:
    database = at_first_schema(database_url or f"sqlite:///{tmp_path / 'node.db'}")
    upgrade(database.engine)
    with database.write() as session:
        row = session.get_one(OutboxRow, 3)
        assert (row.result_file_id, row.state, row.is_bound) == (70, "sent", False)
        session.add_all(
            [ResultFile(result_id=1, role=role, path=role, sha256="s") for role in RESULT_ROLES if role != "report"]
        )
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(ResultFile(result_id=1, role="poem", path="p", sha256="s"))
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(ResultFile(result_id=99, role="report", path="p", sha256="s"))
    database.close()


@pytest.mark.both_databases
@pytest.mark.no_tables
def test_prepare__two_nodes_at_once(tmp_path: Path, database_url: str) -> None:
    url = database_url or f"sqlite:///{tmp_path / 'node.db'}"
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: prepare_database(url), range(4)):
            database.close()


def test_sqlite_is_durable(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.both_databases
def test_times_come_back_aware_and_naive_ones_are_refused(database: Database) -> None:
    now = utc_now()
    with database.write() as session:
        session.add(
            StudyRow(study_uid="1.2", state="receiving", generation=1, first_received_at=now, last_received_at=now)
        )
    with database.read() as session:
        row = session.get(StudyRow, "1.2")
        assert row is not None
        assert row.first_received_at == now
        assert row.first_received_at.tzinfo is UTC
    with pytest.raises(Exception, match="without zone"), database.write() as session:  # noqa: PT012
        row = session.get(StudyRow, "1.2")
        assert row is not None
        row.last_received_at = datetime(2026, 1, 1)  # noqa: DTZ001


@pytest.mark.both_databases
def test_the_database_refuses_an_unknown_job_state(database: Database) -> None:
    now = utc_now()
    with pytest.raises(IntegrityError), database.write() as session:  # noqa: PT012
        session.add(
            StudyRow(study_uid="1.2", state="receiving", generation=1, first_received_at=now, last_received_at=now)
        )
        session.add(
            Job(
                study_uid="1.2",
                generation=1,
                state="lost",
                priority=0,
                attempts=0,
                not_before=now,
                created_at=now,
                heartbeat=0,
                reason="",
            )
        )


def test_open__a_missing_database_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="dicom-node init"):
        open_database(f"sqlite:///{tmp_path / 'node.db'}")


def test_open__an_empty_database_is_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "node.db").close()
    with pytest.raises(DatabaseError, match="is empty"):
        open_database(f"sqlite:///{tmp_path / 'node.db'}")


@pytest.mark.both_databases
@pytest.mark.parametrize("opener", [open_database, prepare_database])
def test_open__a_newer_schema_is_refused(database: Database, opener: object) -> None:
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer version"):
        opener(str(database.engine.url))  # type: ignore[operator]


def test_open__a_corrupt_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(DatabaseError, match="cannot be used"):
        prepare_database(f"sqlite:///{tmp_path / 'node.db'}")


@pytest.mark.both_databases
def test_prepare__twice_changes_nothing(database: Database) -> None:
    prepare_database(str(database.engine.url)).close()
