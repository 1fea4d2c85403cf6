"""``spineone-train grades`` as its user calls it: tiny networks on phantoms; the test part stays unread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spineone_core.anatomy import DISCS, UPPER_DISC, Grade, Structure
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.model_package import load_package
from spineone_core.network.grading import GradingConfig
from tests.unit.cli.test_model import run
from tests.unit.datasets.test_gradings import write_gradings
from trainer.cli import grades as command
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.evaluation.grades_document import TARGETS, render_grades
from trainer.evaluation.located import LocatedExam
from trainer.training.grading import GradingRecipe

NONE = "modic=0;up=0;low=0;listh=0;hern=0;narrow=0;bulge=0"
WORN = "modic=2;up=1;low=1;listh=0;hern=0;narrow=1;bulge=1"
TINY = {
    structure: GradingRecipe(
        name="tiny", network=GradingConfig(structure=structure, crop_px=16, width=4), epochs=2, batch=4
    )
    for structure in Structure
}
JOINED = replace(TINY[Structure.VERTEBRA].network, class_from="joined")
RECIPES = {**TINY, Structure.VERTEBRA: replace(TINY[Structure.VERTEBRA], network=JOINED, begin_with=Structure.DISC)}


@pytest.fixture(scope="module")
def exams() -> list[Exam]:
    return list(phantoms.read(range(10), slices=1))


def graded(exam: Exam, number: int) -> dict[str, tuple[object, str]]:
    """Gradings that fit the phantom's classes; all five grades occur."""
    cells: dict[str, tuple[object, str]] = {}
    for k, level in enumerate((UPPER_DISC, *DISCS), start=number):
        worn = exam.grades.get(level) is Grade.DEGENERATIVE
        cells[level] = (3 + k % 3, WORN) if worn else (1 + k % 2, NONE)
    return cells


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exams: list[Exam]) -> list[object]:
    """The command line on phantoms, whose detector finds every level; one of them is of the test part."""

    def read(sources: list[str], *unused: object) -> Iterator[Exam]:
        # The second source holds a further exam of each patient.
        yield from exams if sources == ["t2"] else (replace(e, exam_id=f"{e.exam_id}/space") for e in exams[:3])

    def found(exam: Exam, gradings: object, package: object) -> LocatedExam:
        assert exam.patient != exams[-1].patient, "an exam of the test part was located"
        return LocatedExam(exam, gradings, exam.point_array, exam.slice_index)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "stream_exams", read)
    monkeypatch.setattr(command, "locate_exam", found)
    monkeypatch.setattr(command, "find_grading_recipes", lambda name, epochs: RECIPES)
    rows = {e.volume.study_uid: graded(e, number) for number, e in enumerate(exams)}
    table = write_gradings(tmp_path / "gradings.csv", rows)
    patients = [e.patient for e in exams]
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": patients[:7], "validation": patients[7:9], "test": patients[9:]}))
    options = ["--gradings", table, "--splits", splits, "--out", tmp_path / "run", "--error-rate", 0.3]
    return ["grades", "--data", "t2", "--data", "space", *options, "--folds", 3, "--every", 1, "--bootstrap", 10]


def test_grades__writes_targets_beside_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[object]
) -> None:
    assert run(monkeypatch, *words) == 0
    content = json.loads((tmp_path / "run" / "grades.json").read_text())
    for name in ("disc", "vertebra"):
        report = content["structures"][name]
        assert report["patients"] == 9
        assert report["figures"]["levels"] == 45
        assert list(report["log_loss_by_epoch"]) == ["1", "2"]
        assert set(report["by_class_from"]) == {"direct", "signs", "mean", *(["joined"] * (name == "vertebra"))}
        assert report["figures"].items() >= report["by_class_from"][report["class_from"]].items()
        assert report["calibration"][name]["error_rate"] == 0.3
        low, high = report["intervals"]["auc"]
        assert low <= high
    assert sum(map(sum, content["structures"]["disc"]["confusion"])) == 45
    package = load_package(tmp_path / "run" / "package")
    assert {s.value: len(e.members) for s, e in package.grading.items()} == {"disc": 3, "vertebra": 3}
    assert set(package.manifest.calibration) >= {"disc", "vertebra", "disc.pfirrmann.1", "disc.pfirrmann.4"}
    kept = content["structures"]["disc"]["calibration"]["disc"]
    assert package.manifest.calibration["disc"] == Calibration.from_json(kept)
    text = (tmp_path / "run" / "grades.md").read_text()
    for target in TARGETS:
        assert f"| {target.what} | {'at least' if target.at_least else 'at most'} {target.limit:g} |" in text
    assert "brightness alone" in text


def test_grades__are_measured_again_without_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[object]
) -> None:
    assert run(monkeypatch, *words, "--structure", "disc") == 0
    assert not (tmp_path / "run" / "vertebra").exists()
    assert run(monkeypatch, *words, "--structure", "vertebra") == 0
    first = (tmp_path / "run" / "grades.json").read_text()
    weights = (tmp_path / "run" / "vertebra" / "fold0.safetensors").stat().st_mtime_ns
    assert run(monkeypatch, *words, "--structure", "vertebra") == 0
    assert (tmp_path / "run" / "grades.json").read_text() == first
    assert (tmp_path / "run" / "vertebra" / "fold0.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--structure", "rib"], "--structure rib"),
        (["--band", "wide"], "--band wide"),
        (["--error-rate", "0.7"], "--error-rate 0.7"),
    ],
)
def test_grades__says_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[object],
    extra: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, *words, *extra) == 2
    assert message in capsys.readouterr().err


def test_document__says_by_how_much_a_target_is_missed() -> None:
    figures = {t.figure: t.limit for t in TARGETS} | {"auc": 0.9, "levels": 5.0}
    report = {
        "patients": 1,
        "figures": figures,
        "class_from": "direct",
        "error_rate": 0.1,
        "by_class_from": {},
        "by_band": {},
        "log_loss_by_epoch": {},
        "signs": {},
        "intervals": {"auc": (0.8, 0.95)},
    }
    head = {"recipe": "r", "folds": 5, "seed": 0, "band": "decided"}
    text = render_grades({**head, "structures": {"disc": report}})
    assert "| disc AUC | at least 0.94 | 0.900 | **missed** by 0.040 | 0.800 to 0.950 |" in text
    assert "| Pfirrmann within one grade | at least 0.95 | 0.950 | held |  |" in text
    assert "vertebra" not in text
