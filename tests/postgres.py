"""A PostgreSQL for the tests: a cluster in a temporary folder, on a Unix socket, run by a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from dicom_node.database.migrations import upgrade

# Debian keeps the server's programs out of the path.
_FOLDERS = [Path("/usr/local/bin"), Path("/usr/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
_USER = "spineone"
_TEMPLATE = "empty_node"


def _program(name: str) -> str | None:
    found = shutil.which(name)
    return found or next((str(folder / name) for folder in _FOLDERS if (folder / name).is_file()), None)


def why_not() -> str:
    """Why there can be no PostgreSQL here; empty if there can."""
    missing = [name for name in ("initdb", "pg_ctl") if _program(name) is None]
    if missing:
        return f"PostgreSQL is not installed ({', '.join(missing)})"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (extra `postgresql`)"
    return ""


class Cluster:
    """A running cluster. Each test has a database of its own, copied from one that has the tables."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def url(self, name: str) -> str:
        """The URL of a database of this cluster."""
        return f"postgresql+psycopg://{_USER}@/{name}?host={self._folder}"

    def execute(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def make_template(self) -> None:
        """Create the tables once."""
        self.execute(f"CREATE DATABASE {_TEMPLATE}")
        engine = create_engine(self.url(_TEMPLATE))
        upgrade(engine)
        engine.dispose()

    @contextmanager
    def database(self, *, with_tables: bool = True) -> Iterator[str]:
        """The URL of a fresh database with the present schema; it is dropped at the end."""
        self._count += 1
        name = f"node_{self._count}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if with_tables else 'template1'}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start a cluster; skips the test if there cannot be one."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # Short: the path of a Unix socket has 107 bytes at the most.
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        folder = Path(name)
        rights = _rights_of_another_user(folder)
        data = str(folder / "data")
        _run("initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N", **rights)
        # Tests that kill processes do not cut the power: the server itself need not wait for the disk.
        options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=120"
        _run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start", **rights)
        try:
            cluster = Cluster(folder)
            cluster.make_template()
            yield cluster
        finally:
            _run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop", **rights)


def _rights_of_another_user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _run(program: str, *arguments: str, **rights: Any) -> None:
    command = [str(_program(program)), *arguments]
    # The server inherits the streams: a pipe would never end.
    subprocess.run(
        command, check=True, timeout=60, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **rights
    )
