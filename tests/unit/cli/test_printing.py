"""What commands print cannot steer the terminal, whatever an archive, a peer or a file says."""

from __future__ import annotations

import pytest

from dicom_node.cli.app import main
from dicom_node.cli.printing import print_json, print_lines, print_list

HOSTILE = "1.2.3\x1b]0;title\x07\x1b[2J\x9b31mDOE\r\n\x08"


def controls(text: str) -> set[str]:
    return {c for c in text if not c.isprintable()} - {"\n"}


def test_tables_and_lines_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_list("studies", [{"study_uid": HOSTILE, "series": None}], as_json=False)
    print_lines(HOSTILE)
    print_json([{"study_uid": HOSTILE}])
    printed = capsys.readouterr().out
    assert printed.count("1.2.3") == 3
    assert controls(printed) == set()


def test_errors_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", "--config", f"/nowhere/{HOSTILE}"])
    printed = capsys.readouterr().err
    assert "no such settings file" in printed
    assert controls(printed) == set()
