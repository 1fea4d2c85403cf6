"""Targets beside results, and the command that writes them."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spineone_core.detection.model_package import load_package
from tests.fakes.model import write_tiny_model
from trainer.cli import app
from trainer.cli import refusals as refusal_commands
from trainer.cli import results as results_command
from trainer.evaluation.calibration import calibration_error_by_chance, expected_calibration_error
from trainer.evaluation.latency import Latency, measure_latency
from trainer.evaluation.refusals import Tally, trials
from trainer.evaluation.results_document import render_results
from trainer.evaluation.targets import TARGETS, Measured

FIGURES = {
    "exams": 24,
    "pck6": 0.98,
    "all_levels_right": 23 / 24,
    "mean_error_mm": 0.7,
    "median_error_mm": 0.4,
    "disc_macro_f1": 0.85,
    "disc_ece": 0.06,
    "disc_ece_by_chance": 0.05,
    "disc_ece_by_chance_95": 0.08,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    package = load_package(write_tiny_model(tmp_path_factory.mktemp("model")))
    content: dict[str, Any] = {
        "figures": {"t2": {"exams": 20, "pck6": 0.1}, "all real": FIGURES},
        "intervals": {"all real": {"pck6": (0.95, 1.0)}},
        "levels": {"L1": {"keypoints": 24, "pck6_level_strict": 1.0, "class_known": 0, "class_right": float("nan")}},
        "scanners": {"1.5 T": {"exams": 24, "all_levels_right": 23 / 24}},
    }
    tallies = {
        "good t2": Tally(Counter(poor=1), ["a"] * 29),
        "noise": Tally(Counter(not_lumbar=198), ["x", "y"]),
    }
    return Measured(
        package=package,
        part="test",
        content=content,
        tallies=tallies,
        latency=Latency([0.3], [0.5, 0.9, 1.4]),
        device="a CPU",
        size=2**23,
    )


def verdicts(results: Measured) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[2:] for row in (target.row(results) for target in TARGETS)}


def test_targets__are_judged_by_all_real_exams(results: Measured) -> None:
    rows = verdicts(results)
    assert rows["PCK-6 mm"][:3] == ("0.980", "held", "0.950 to 1.000")
    assert rows["exams with all ten levels right, level-strict"][:2] == ("0.958", "**missed**")
    assert rows["exams with all ten levels right, level-strict"][3] == "23 of 24"
    assert rows["mean error"][:2] == ("0.700 mm", "held")
    assert rows["disc macro F1"][1] == "held"
    assert rows["disc expected calibration error"][1] == "**missed**"
    assert "0.050 on average" in rows["disc expected calibration error"][3]
    assert rows["false reports on what must be refused"][:2] == ("0.010", "held")
    assert rows["good exams refused"][1] == "**missed**"
    assert rows["time an exam, DICOM files to findings"][:2] == ("0.900 s", "held")
    assert rows["size"][:2] == ("8.000 MiB", "held")


def test_targets__what_was_not_measured_is_not_held(results: Measured) -> None:
    rows = verdicts(replace(results, tallies={}))
    assert rows["good exams refused"][1] == rows["false reports on what must be refused"][1] == "not measured"


def test_render__has_a_row_for_every_target_and_names_the_digest(results: Measured) -> None:
    text = render_results(results)
    assert results.package.identity.digest in text
    for target in TARGETS:
        assert f"| {target.what} |" in text
    assert "| noise | 200 | 198 | not_lumbar 198 | x, y |" in text
    assert "| L1 | 24 | 1.000 (0.86 to 1.00) | - | 0 | - | - |" in text
    assert "| 1.5 T | 24 | 0.958 (0.79 to 1.00) | - | - |" in text


def test_published_results__are_of_the_shipped_model() -> None:
    text = (Path(__file__).parents[3] / "docs" / "model-results.md").read_text(encoding="utf-8")
    assert f"`{load_package().identity.digest}`" in text


def test_calibration_error_by_chance__is_what_calibrated_labels_show() -> None:
    rng = np.random.default_rng(4)
    probabilities = rng.random(120)
    mean, most = calibration_error_by_chance(probabilities)
    seen = [
        expected_calibration_error(probabilities, (rng.random(120) < probabilities).astype(float)) for _ in range(200)
    ]
    assert np.mean(seen) == pytest.approx(mean, abs=0.005)
    assert np.mean(np.array(seen) > most) == pytest.approx(0.05, abs=0.05)
    assert all(np.isnan(calibration_error_by_chance(np.zeros(0))))


def test_results__measures_a_package_and_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = write_tiny_model(tmp_path / "model"), tmp_path / "results.md"
    monkeypatch.setattr(results_command, "measure_latency", lambda d: measure_latency(d, exams=1, rounds=1))
    monkeypatch.setattr(refusal_commands, "trials", lambda *given: islice(trials(*given), 3))
    words = ["results", "--out", out, "--model", model, "--phantoms", 1, "--refusal-phantoms", 1, "--bootstrap", 0]
    monkeypatch.setattr(sys, "argv", ["spineone-train", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 0
    text = out.read_text()
    # Random weights find no spine: nothing is reported, and every good exam is refused.
    assert "| good exams refused | at most 0.03 | 1.000 | **missed** |" in text
    assert "| false reports on what must be refused | at most 0.01 | 0.000 | held |" in text
