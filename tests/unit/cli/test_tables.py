"""Tables fit the terminal; what they leave out for that, they name; `--wide` leaves out nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dicom_node.cli.printing import print_table
from dicom_node.cli.tables import cell, heading, short, table_of
from dicom_node.health.wording import in_words, reason_beside

UID = "2.25.265103219870219870219872198724716"
ROW = {
    "study_uid": UID,
    "state": "not_analysable",
    "reason": "no_sagittal_t2: nothing among 12 series is one",
    "instances": 120,
    "job": 1234,
    "sent": 3,
    "proven": 2,
    "to_prove": 1,
    "to_send": 0,
    "not_sent": 4,
    "sha256": "ab" * 32,
    "last_received_at": "2026-07-05T10:20:30+00:00",
}


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def printed(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], **options: bool) -> str:
    print_table("studies", rows, **options)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [72, 80, 100, 140, 200])
def test_table__is_no_wider_than_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed(capsys, [ROW, ROW])
    assert max(map(cell_len, text.splitlines())) <= width
    assert short(UID) in text
    assert UID not in text
    assert "2026-07-05" in text
    assert ("no room for: " in text) == (width < 130)


def test_table__wide_shows_everything_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = printed(capsys, [ROW], wide=True)
    assert all(whole in text for whole in (UID, ROW["sha256"], "2026-07-05 12:20:30 CEST", "no_sagittal_t2: nothing"))
    assert all(heading(key) in text for key in ROW)
    assert "no room for" not in text


def test_table__an_empty_column_goes_first_and_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    row = {"study_uid": UID, "reason": "", "last_error": None, "detail": "words " * 20, "kind": "destination_down"}
    text = printed(capsys, [row] * 2 + [{**row, "detail": "12345678901234567890"}])
    assert "no room" not in text
    assert "destination" in text


keys = st.sampled_from(["study_uid", "state", "detail", "last_at", "sha256", "count", "path", "attempts"])
values = st.one_of(st.none(), st.integers(0, 10**9), st.booleans(), st.text(max_size=60), st.just(UID))


@given(st.integers(40, 160), st.lists(keys, min_size=1, max_size=5, unique=True), st.data())
def test_table__any_rows_fit(width: int, chosen: list[str], data: st.DataObject) -> None:
    rows = [{key: data.draw(values) for key in chosen} for _ in range(data.draw(st.integers(1, 3)))]
    console = Console(width=width, markup=False, highlight=False, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    table, left_out = table_of("rows", rows, width)
    console.print(table)
    lines = console.export_text().splitlines()
    assert max(map(cell_len, lines)) <= max(width, 5 * 26)
    assert len(left_out) < len(chosen)


def test_cells__are_words() -> None:
    assert (heading("not_before"), heading("to_prove"), heading("last_received_at")) == (
        "waits until",
        "to prove",
        "last image",
    )
    assert cell("state", "not_analysable") == "not analysable"
    assert cell("configured", True) == "yes"
    assert cell("probability", 0.5) == "0.50"
    assert cell("created_at", "2026-01-05T10:20:30+00:00") == "2026-01-05 11:20:30 CET"
    assert cell("sop_class_uid", "1.2.840.10008.5.1.4.1.1.4") == "MR Image"
    assert short(UID) == "2.25.2651…4716"


def test_words__of_a_state_are_the_same_everywhere() -> None:
    assert in_words("not_analysable") == cell("state", "not_analysable")
    assert reason_beside("analysed", "analysed") == ""
    assert reason_beside("not_analysable", "not analysable: no_sagittal_t2: none") == "no_sagittal_t2: none"
    assert reason_beside("failed", "the worker died") == "the worker died"
