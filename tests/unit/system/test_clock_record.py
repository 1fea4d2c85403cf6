from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.system import clock_record
from dicom_node.system.clock import Anchor
from dicom_node.system.clock_record import ClockRecord, read_record, write_record


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path


def test_record__comes_back(data_dir: Path) -> None:
    assert read_record(data_dir) == ClockRecord()
    record = ClockRecord().with_anchor(Anchor(12.5, is_sure=False), last_at=3.5, rows_until=2.0)
    write_record(data_dir, record)
    assert read_record(data_dir) == record
    assert read_record(data_dir).anchor() == Anchor(12.5, is_sure=False)
    assert list((data_dir / "spool").iterdir()) == []


def test_record__of_many_starts_keeps_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ClockRecord()
    for number in range(100):
        monkeypatch.setattr(clock_record, "boot_id", lambda number=number: str(number))
        record = record.with_anchor(Anchor(number), last_at=number, rows_until=0)
    assert record.anchor() == Anchor(99)
    assert list(record.anchors) == [str(number) for number in range(68, 100)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"last_at": 1, "rows_until": 0, "anchors": {"a": 1}}', "\0" * 100])
def test_record__that_cannot_be_read_is_none(data_dir: Path, text: str) -> None:
    (data_dir / clock_record.NAME).write_text(text)
    assert read_record(data_dir) == ClockRecord()
