"""A database with random bytes in it: commands say so in one line, and none ends in an error that nobody expected."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.cli.app import main

PAGE = 4096


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "--dir", tmp_path) == 0
    path = tmp_path / "data" / "node.db"
    data = bytearray(path.read_bytes())
    chance = random.Random(seed)
    # The first page holds the schema's beginning; its header stays, so that it is a database still.
    where = [200, PAGE, 0, len(data) // 2][seed % 4]
    data[where + 100 : where + 100 + 2000] = chance.randbytes(2000)
    path.write_bytes(data)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    capsys.readouterr()
    for command in ("status", "jobs", "alerts", "verify"):
        status = run(command, "--config", tmp_path / "node.toml")
        said = capsys.readouterr().err
        assert "unexpected" not in said
        if status:
            assert said.startswith("error: ")
            assert "database" in said


def test_a_value_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The database opens, and the command meets the damage only when it reads."""
    assert run("init", "--dir", tmp_path) == 0
    path = tmp_path / "data" / "node.db"
    with closing(sqlite3.connect(path)) as database, database:
        columns = "kind, subject, detail, count, opened_at, last_at"
        values = "'refused', 'x', CAST(x'fffe' AS TEXT), 1, '2026-01-01 00:00:00', '2026-01-01 00:00:00'"
        database.execute(f"INSERT INTO alerts ({columns}) VALUES ({values})")
    capsys.readouterr()
    assert run("alerts", "--config", tmp_path / "node.toml") == 2
    assert "error: the database cannot be used" in capsys.readouterr().err


def test_a_schema_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "--dir", tmp_path) == 0
    path = tmp_path / "data" / "node.db"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"\xff\xfe\xfd\xfcE TABLE"))
    capsys.readouterr()
    assert run("status", "--config", tmp_path / "node.toml") == 2
    assert "error: database" in capsys.readouterr().err
