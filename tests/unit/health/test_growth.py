"""What the status, the page and the metrics ask must not read more rows as the index grows: each question by its query plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from benchmarks.growth import PER_STUDY, questions, seed
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, Job, StudyRow
from dicom_node.health import overview
from dicom_node.images.records import count_instances
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now

# Tables that have a row (or more) for each image or each file that was ever sent.
LARGE = ("instances", "job_events", "result_files")


@pytest.fixture
def asked(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is sent to the database, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def plans(database: Database, asked: list[tuple[str, Any]]) -> dict[str, list[str]]:
    """What SQLite does for each statement, step by step."""
    with database.engine.connect() as connection:
        return {
            statement: [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in list(asked)
        }


NAMES = ("dicom-node status", "status page", "metrics", "what is old enough to be deleted", "index row of an image")


@pytest.mark.parametrize("name", NAMES)
def test_question__reads_no_large_table_from_end_to_end(
    name: str, node_settings: NodeSettings, database: Database, asked: list[tuple[str, Any]]
) -> None:
    seed(database, 1, 4)
    ask: Callable[[], Any] = questions(node_settings, database)[name]
    asked.clear()
    ask()
    assert asked
    scans = {
        step: statement
        for statement, steps in plans(database, asked).items()
        for step in steps
        if step.startswith("SCAN") and step.split()[1] in LARGE and "_own" not in step and "_replaced" not in step
    }
    assert scans == {}


def test_the_test_sees_a_scan(node_settings: NodeSettings, database: Database, asked: list[tuple[str, Any]]) -> None:
    seed(database, 1, 4)
    with database.read() as session:
        session.scalar(select(func.sum(Instance.size)))
    (steps,) = plans(database, asked).values()
    assert steps[0].startswith("SCAN instances")


def test_count_instances__as_many_as_the_index_has(database: Database) -> None:
    seed(database, 1, 4)
    with database.write() as session:
        assert count_instances(session) == 3 * PER_STUDY
        ids = session.scalars(select(Instance.id).where(Instance.study_uid == "1.2.3.2").limit(4)).all()
        session.execute(update(Instance).where(Instance.id.in_(ids[:3])).values(is_current=False))
        session.execute(update(Instance).where(Instance.id == ids[3]).values(purged_at=utc_now()))
        session.execute(update(StudyRow).where(StudyRow.study_uid == "1.2.3.2").values(files=StudyRow.files - 1))
        row = {c.name: getattr(session.get_one(Instance, ids[0]), c.name) for c in Instance.__table__.columns}
        row |= {"id": None, "sop_instance_uid": "1.9", "path": "own", "study_uid": "1.9", "is_own_result": True}
        session.add(Instance(**{**row, "is_current": True}))
        session.flush()
        assert count_instances(session) == 3 * PER_STUDY - 4 + 1


def test_studies_by_state__a_late_image_takes_a_study_back_to_receiving(
    node_settings: NodeSettings, database: Database
) -> None:
    seed(database, 1, 4)
    with database.write() as session:
        session.execute(update(StudyRow).where(StudyRow.study_uid == "1.2.3.2").values(state="receiving"))
        session.execute(update(Job).where(Job.study_uid == "1.2.3.3").values(outcome="not_analysable"))
        counts = overview.status(session, node_settings)["studies_by_state"]
    assert {state: n for state, n in counts.items() if n} == {"receiving": 1, "analysed": 1, "not_analysable": 1}


def test_checkpoint__empties_the_log_although_someone_reads(database: Database, node_settings: NodeSettings) -> None:
    log = node_settings.data_dir / "node.db-wal"
    with database.read() as reader:
        reader.scalar(select(func.count()).select_from(StudyRow))
        seed(database, 1, 200)
        grown = log.stat().st_size
    assert grown > 1_000_000
    database.checkpoint()
    assert log.stat().st_size == 0
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(StudyRow)) == 199
        assert session.scalar(select(func.max(StudyRow.last_received_at))) < utc_now() - timedelta(hours=20)
