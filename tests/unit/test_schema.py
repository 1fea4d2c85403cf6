from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from dicom_node.errors import DatabaseError
from dicom_node.jobs import JobState
from dicom_node.schema import JOB_STATES, Base, Database, Job, StudyRow, open_database, prepare_database, utc_now


def test_migrations_make_exactly_the_declared_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_states_of_python_and_sql_agree() -> None:
    assert {state.value for state in JobState} == set(JOB_STATES)


def test_sqlite_is_durable(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


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


def test_prepare__twice_changes_nothing(database: Database) -> None:
    prepare_database(str(database.engine.url)).close()
