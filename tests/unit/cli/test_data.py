"""`spineone-train inspect`, `import` and `splits` on data that lies otherwise than handed out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fakes.spine_files import write_sdid
from trainer.cli import app
from trainer.cli.arguments import stream_exams
from trainer.datasets import formats
from trainer.datasets.exam import Exam
from trainer.datasets.splits import SplitError


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of studies, and its annotations somewhere else."""
    write_sdid(tmp_path / "studies", ["study1", "study2"])
    annotations = tmp_path / "elsewhere.json"
    (tmp_path / "studies" / "annotation.json").rename(annotations)
    return tmp_path / "studies", annotations


def test_annotations__are_taken_from_where_they_lie(moved: tuple[Path, Path], tmp_path: Path) -> None:
    folder, annotations = moved
    shown = CliRunner().invoke(app.app, ["inspect", str(folder), "--annotations", str(annotations)])
    assert shown.exit_code == 0, shown.output
    assert "sdid_tc:studies" in shown.output
    out = tmp_path / "out"
    done = CliRunner().invoke(app.app, ["import", str(folder), "--annotations", str(annotations), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "2 exams written" in done.output
    assert len(list(stream_exams([str(folder)], annotations=annotations))) == 2


def test_splits__are_written_as_the_data_set_has_them(
    moved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, annotations = moved
    exams = [item for item in formats.read(str(folder), annotations=annotations) if isinstance(item, Exam)]
    parts = dict(zip(exams, ("train", "validation"), strict=True))

    def read(source: str, *, annotations: Path | None = None) -> list[Exam]:
        return [_with_part(exam, part) for exam, part in parts.items()]

    monkeypatch.setattr(formats, "read", read)
    done = CliRunner().invoke(app.app, ["split", "spider:any", "--own", "--out", str(tmp_path / "splits.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "splits.json").read_text()) == {
        "train": ["P-study1"],
        "validation": ["P-study2"],
        "calibration": [],
        "test": [],
    }
    parts.update(dict.fromkeys(parts, "holdout"))
    failed = CliRunner().invoke(app.app, ["split", "spider:any", "--own", "--out", str(tmp_path / "splits.json")])
    assert isinstance(failed.exception, SplitError)


def _with_part(exam: Exam, part: str) -> Exam:
    return replace(exam, part=part)
