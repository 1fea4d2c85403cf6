"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy.engine import make_url

from dicom_node.database.connection import Database, prepare_database
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import clock
from tests.postgres import Cluster, running_cluster

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tables of commands are as wide here, whatever terminal the tests run in; what is narrower is tested by its own width.
os.environ["COLUMNS"] = "160"
_SLOW_S = 15.0

# structlog's own way to print what was not configured draws each traceback with all its variables: seconds for one of SQLAlchemy.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked ``both_databases`` run on SQLite and on PostgreSQL."""
    if "database_url" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_databases"):
        metafunc.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


class SlowTests:
    """Names a slow test when it ends, so that one who waits sees what goes on."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal = config.pluginmanager.get_plugin("terminalreporter")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.duration > _SLOW_S:
            self._terminal.write_line(f" {report.nodeid}: {report.when}, {report.duration:.0f} s")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # The processes of xdist have no terminal; the one that started them gets their reports.
    if config.pluginmanager.has_plugin("terminalreporter"):
        config.pluginmanager.register(SlowTests(config))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """One cluster for all tests that need it."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The database URL of the settings: empty for SQLite in the data folder."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield ""
        return
    with_tables = request.node.get_closest_marker("no_tables") is None
    with request.getfixturevalue("postgresql").database(with_tables=with_tables) as url:
        yield url


@pytest.fixture
def node_settings(tmp_path: Path, database_url: str) -> NodeSettings:
    """Settings of a node in a temporary folder, which says at once that a study is not analysable."""
    (tmp_path / "data").mkdir()
    study, retention = {"wait_for_series_seconds": 0}, {"disk_reserve_gb": 0}
    return NodeSettings(data_dir=tmp_path / "data", database_url=database_url, study=study, retention=retention)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def empty_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the current schema: to copy it costs a quarter of what making the tables costs."""
    path = tmp_path_factory.mktemp("empty") / "node.db"
    prepare_database(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def database(node_settings: NodeSettings, empty_node: Path) -> Iterator[Database]:
    """A fresh database with the current schema."""
    url = make_url(node_settings.database)
    if url.get_backend_name() == "sqlite":
        shutil.copyfile(empty_node, str(url.database))
    opened = prepare_database(node_settings.database)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo at the end of a test what it configured."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def forget_clock() -> Iterator[None]:
    """What a command in the test's own process learns about the time ends with the test."""
    yield
    clock.set(None)
