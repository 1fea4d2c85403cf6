"""`spineone detect`: one study that fails does not end the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spineone_core import cli
from tests.fakes.detector import FakeDetector, FakeReading
from tests.unit.imaging.test_series import image, write


class Stumbling(FakeDetector):
    def read_study(self, paths: list[Path], *, min_slices: int = 1) -> FakeReading:  # type: ignore[override]
        if "bad" in paths[0].parts[-2]:
            raise RuntimeError("no such size")
        return super().read_study(paths, min_slices=min_slices)


def test_detect__the_next_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.Detector, "load", lambda *args, **kwargs: Stumbling())
    write(tmp_path / "a bad", image(0, StudyInstanceUID="2.25.8"))
    write(tmp_path / "b good", image(1, StudyInstanceUID="2.25.9", SeriesDescription="t2"))
    done = CliRunner().invoke(cli.app, ["detect", str(tmp_path), "--json"])
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["study_uid"] == "2.25.9"
    assert "failed: study 2.25.8: RuntimeError: no such size" in " ".join(done.stderr.split())
    assert done.exit_code == 1
