"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from dicom_node.schema import Database, prepare_database
from dicom_node.settings import NodeSettings

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def node_settings(tmp_path: Path) -> NodeSettings:
    """Settings of a node in a temporary folder."""
    (tmp_path / "data").mkdir()
    return NodeSettings(data_dir=tmp_path / "data", retention={"disk_reserve_gb": 0})  # type: ignore[arg-type]


@pytest.fixture
def database(node_settings: NodeSettings) -> Iterator[Database]:
    """A fresh database with the current schema."""
    opened = prepare_database(node_settings.database)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """What a test configures ends with it."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    root.setLevel(level)
    structlog.reset_defaults()
