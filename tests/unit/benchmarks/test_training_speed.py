"""The benchmark of the training's speed measures, and compares versions in pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import training_speed


def test_table__ratios_are_those_of_pairs() -> None:
    ours = [{"steps/s": 2.0}, {"steps/s": 8.0}, {"steps/s": 3.0}]
    theirs = [{"steps/s": 1.0}, {"steps/s": 2.0}, {"steps/s": 3.0}]
    assert training_speed.table(ours, theirs).splitlines()[-1] == "| steps/s | 3 | 2 | 2.00 |"
    assert training_speed.table(ours, []).splitlines()[-1] == "| steps/s | 3 | - | - |"


def test_loader__hands_over_the_picture_and_what_its_targets_are_drawn_from(capsys: pytest.CaptureFixture[str]) -> None:
    """A sample of the paper's size is its picture, 7.3 MB: the target maps, 14.7 MB, are drawn where the training runs."""
    arguments = ["--recipe", "paper", "--rounds", "1", "--steps", "0", "--samples", "1", "--exams", "1", "--batch", "1"]
    training_speed.main([*arguments, "--against", str(Path(training_speed.ROOT))])
    rows = {line.split(" | ")[0]: line.split(" | ")[1] for line in capsys.readouterr().out.splitlines() if "|" in line}
    assert rows["| MB a sample"] == "7.34"
    assert float(rows["| loader, samples/s of one core"]) > 0
