"""The demo's arguments and early refusals; the whole demo runs in tests/acceptance."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.demo import DemoUsageError, parse_pacs, run_demo
from spineone_core.phantom.dicom import write_exam
from tests.peers import free_port


def test_pacs__ae_title_host_and_port() -> None:
    pacs = parse_pacs("ORTHANC@192.0.2.7:4242")
    assert (pacs.ae_title, pacs.host, pacs.port) == ("ORTHANC", "192.0.2.7", 4242)
    assert parse_pacs("A@[::1]:104").host == "::1"


@pytest.mark.parametrize(
    "text", ["", "ORTHANC", "ORTHANC@host", "@host:104", "A@host:0", "A@host:99999", "SEVENTEEN-LETTERS@h:1"]
)
def test_pacs__another_form_is_bad_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DemoUsageError, match="AETITLE@host:port"):
        parse_pacs(text)
    if text:
        assert run_demo(pacs=text) == 2
        assert "AETITLE@host:port" in capsys.readouterr().out


def test_demo__a_pacs_that_does_not_answer_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exam = write_exam(tmp_path / "exam", 1, slices=1, companions=False)
    port = free_port()
    assert run_demo(study=exam.directory, pacs=f"NOBODY@127.0.0.1:{port}", out=tmp_path / "out") == 1
    assert str(port) in capsys.readouterr().out


def test_demo__takes_one_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "exams").mkdir()
    assert run_demo(study=tmp_path / "exams", out=tmp_path / "out") == 1
    assert "holds 0 studies" in capsys.readouterr().out
