"""``spineone-train evaluate``, ``calibrate`` and ``package`` as their user calls them, on a tiny model; bad input by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spineone_core.detection.model_package import CARD, Manifest, load_package, save_package
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.network.spineone import SpineOne
from tests.fakes.spine_files import write_sdid
from tests.unit.network.test_spineone import TINY
from trainer.cli import app
from trainer.cli import model as model_commands
from trainer.datasets.exam import Exam
from trainer.evaluation.outcomes import Outcome


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    manifest = Manifest(
        name="tiny", version="1", network=TINY, preprocessing=PreprocessingConfig(slices=3, spacing_mm=4)
    )
    save_package(folder, SpineOne(TINY), manifest)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sdid(tmp_path / "lumbar", ["study1", "study2"])
    splits = {"train": ["P-study1"], "calibration": ["P-study2"], "test": []}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of ``spineone-train WORDS``."""
    monkeypatch.setattr("sys.argv", ["spineone-train", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    return int(stopped.value.code or 0)


def test_evaluate__json_and_report_of_real_inference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, data: Path
) -> None:
    words = ["--model", model, "--data", data / "lumbar", "--json", "--report", data / "report", "--bootstrap", 10]
    assert run(monkeypatch, "evaluate", *words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"]["name"] == "tiny"
    # Random weights find no spine.
    assert (printed["figures"]["lumbar"]["exams"], printed["figures"]["lumbar"]["refused"]) == (2, 2)
    assert printed["figures"]["lumbar"]["mean_error_mm"] is None
    assert "Worst cases (2 exams)" in (data / "report" / "evaluation.html").read_text()


def good_outcome(network: Any, manifest: Manifest, exam: Exam, device: Any) -> Outcome:
    """As if the network were sure of every class but wrong for one in ten."""
    said = np.linspace(0.05, 0.9, 10)
    return Outcome(
        exam.exam_id, exam.patient, exam.point_array, exam.grade_row, exam.point_array, said, np.full(10, 0.9)
    )


def test_calibrate__says_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, data: Path
) -> None:
    monkeypatch.setattr(
        model_commands, "outcomes_of", lambda n, m, exams, d, **_: [good_outcome(n, m, e, d) for e in exams]
    )
    words = ["--model", model, "--data", data / "lumbar", "--splits", data / "splits.json", "--out", data / "out"]
    assert run(monkeypatch, "calibrate", *words) == 1
    assert "disc: 5 keypoints of 1 classes are too few" in capsys.readouterr().err.replace("\n", " ")
    assert not (data / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate"], "give --data or --phantoms"),
        (["evaluate", "--data", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "--model", "nowhere", "--phantoms", "1"], "model file nowhere/manifest.json cannot be read"),
        (["evaluate", "--data", "lumbar", "--splits", "splits.json"], "none of the 2 exams belongs to the part test"),
        (["evaluate", "--data", "lumbar", "--splits", "broken.json"], "broken.json: no split file"),
        (["evaluate", "--data", "lumbar", "--splits", "list.json"], "list.json: no JSON object with lists"),
        (
            ["calibrate", "--model", "m", "--out", "o", "--data", "lumbar", "--method", "guess"],
            "allowed are temperature",
        ),
        (["inspect", "empty"], "empty: none of the formats"),
        (["import", "csi2014:lumbar", "--out", "o"], "lumbar: csi2014 holds CT volumes"),
    ],
)
def test_bad_input__is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    data: Path,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(data)
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("empty").mkdir()
    if "--model" not in words and words[0] == "evaluate":
        words = [*words, "--model", str(model)]
    assert run(monkeypatch, *words) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"spineone-train: {message}" in error or message in error
    assert "Traceback" not in error


def test_package__asks_for_all_that_a_released_model_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    words = ["package", "--model", model, "--out", tmp_path / "out"]
    assert run(monkeypatch, *words) == 2
    assert "a released model needs --training-data, --licence, --figures" in capsys.readouterr().err
    figures = {
        "part": "test",
        "figures": {"t2": {"exams": 20, "pck6": 0.98765}, "space": {"exams": 4, "mean_error_mm": None}},
    }
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    (tmp_path / "limits.md").write_text("- Never saw metal.\n")
    words += ["--training-data", "20 phantoms", "--licence", "CC BY 4.0", "--figures", tmp_path / "figures.json"]
    assert run(monkeypatch, *words, "--limits", tmp_path / "limits.md", "--name", "ours", "--version", "2.0") == 0
    package = load_package(tmp_path / "out", released=True)
    assert (package.identity.name, package.identity.version) == ("ours", "2.0")
    card = (tmp_path / "out" / CARD).read_text()
    for text in (
        "# Model card: ours 2.0",
        "20 phantoms",
        "CC BY 4.0",
        "| pck6 | 0.988 |",
        "Never saw metal",
        "Not a medical device",
    ):
        assert text in card
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["weights"]["sha256"] in card
    (tmp_path / "figures.json").write_text("{")
    assert run(monkeypatch, *words) == 2
    assert "figures.json: not JSON" in " ".join(capsys.readouterr().err.split())


def test_refusal__is_printed_with_its_exam(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path, data: Path
) -> None:
    def refuse(*_: Any) -> Any:
        raise NotAnalysable(Reason.NOT_LUMBAR, "no")

    monkeypatch.setattr("spineone_core.detection.keypoints.prepare_mid_sagittal", refuse)
    assert run(monkeypatch, "evaluate", "--model", model, "--data", data / "lumbar") == 0
    assert "lumbar/study1: refused: not_lumbar" in capsys.readouterr().out
