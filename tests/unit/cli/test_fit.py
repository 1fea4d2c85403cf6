"""``spineone-train fit`` as its user calls it: files of options, splits by patient, folds, settings by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spineone_core.detection.model_package import load_package
from tests.fakes.spine_files import write_sdid
from tests.fakes.tiny_runs import tiny_recipe
from tests.unit.training.test_resume import strictly
from trainer import recipes
from trainer.cli import app, fit_folds
from trainer.datasets import formats
from trainer.datasets.exam import Exam
from trainer.datasets.exam_hashes import ExamHashes, hashes_of, hashes_of_all
from trainer.datasets.splits import read_splits
from trainer.training import run_file

Fit = Callable[..., int]


@pytest.fixture
def lumbar(tmp_path: Path) -> Path:
    write_sdid(tmp_path / "lumbar", [f"study{n}" for n in range(5)])
    return tmp_path / "lumbar"


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Fit:
    monkeypatch.setitem(recipes.RECIPES, "shipped", tiny_recipe)

    def call(*words: object, command: str = "fit") -> int:
        """Exit code of ``spineone-train fit WORDS`` with a tiny recipe in the place of the default one."""
        monkeypatch.setattr("sys.argv", ["spineone-train", command, *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return int(stopped.value.code or 0)

    return call


def exams_of(folder: Path) -> list[Exam]:
    return formats.split_skipped(formats.read(str(folder)))[0]


def config_of(run: Path) -> dict[str, object]:
    return dict(json.loads((run / "config.json").read_text()))


def test_fit__without_splits_divides_patients_and_says_so(
    fit: Fit, lumbar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--data", lumbar, "--out", tmp_path / "run", "--epochs", 1) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no --splits: of 5 patients 4 train and 1 choose the best epoch" in said
    part_of = read_splits(tmp_path / "run" / "splits.json")
    exams = exams_of(lumbar)
    trained = [exam for exam in exams if part_of[exam.patient] == "train"]
    manifest = load_package(tmp_path / "run" / "best").manifest
    assert (len(trained), manifest.training["real_exams"]) == (4, 4)
    # The one that validates is none of those that train, and the package says which these are, without their names.
    assert manifest.figures["validation"]["exams"] == 1
    assert ExamHashes.from_json(manifest.training["exams_seen"]) == hashes_of_all(trained)
    text = (tmp_path / "run" / "best" / "manifest.json").read_text()
    assert not any(exam.patient in text or exam.volume.study_uid in text for exam in exams)
    for path in (tmp_path / "run").rglob("*.jsonl"):
        strictly(path)


def test_fit__refuses_to_divide_one_patient(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sdid(tmp_path / "one", ["study1"])
    assert fit("--data", tmp_path / "one", "--out", tmp_path / "run") == 2
    assert "all 1 exams are of one patient" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_fit__with_splits_trains_on_one_part_and_validates_on_another(fit: Fit, lumbar: Path, tmp_path: Path) -> None:
    splits = {"train": ["P-study0", "P-study1"], "validation": ["P-study2"], "test": ["P-study3", "P-study4"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    words = ["--data", lumbar, "--splits", tmp_path / "splits.json", "--out", tmp_path / "run", "--epochs", 1]
    assert fit(*words) == 0
    manifest = load_package(tmp_path / "run" / "best").manifest
    assert (manifest.training["real_exams"], manifest.figures["validation"]["exams"]) == (2, 1)
    assert not (tmp_path / "run" / "splits.json").exists()


def test_fit__repeats_a_run_from_the_file_that_it_wrote(fit: Fit, lumbar: Path, tmp_path: Path) -> None:
    first = ["--data", lumbar, "--epochs", 1, "--batch", 1, "--crop", 64, 32, "--width", 16, "--seed", 3]
    assert fit(*first, "--trunk", "resnet50", "--set", "network.cam=false", "--out", tmp_path / "a") == 0
    assert fit("--config", tmp_path / "a" / "run.toml", "--out", tmp_path / "b") == 0
    a, b = (config_of(tmp_path / name) for name in "ab")
    assert {**a, "code": None} == {**b, "code": None}
    recipe = a["recipe"]
    assert isinstance(recipe, dict)
    assert (recipe["epochs"], recipe["batch"], recipe["augmentation"]["size"]) == (1, 1, [64, 32])
    network = recipe["network"]
    assert (network["backbone"], network["width"], network["cam"]) == ("resnet50", 16, False)
    weights = [(tmp_path / name / "best" / "weights.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert (tmp_path / "a" / "run.toml").read_text() == (tmp_path / "b" / "run.toml").read_text()
    # What is given beside the file replaces what it says.
    assert fit("--config", tmp_path / "a" / "run.toml", "--seed", 4, "--batch", 2, "--out", tmp_path / "c") == 0
    c = config_of(tmp_path / "c")
    assert isinstance(c["recipe"], dict)
    assert (c["seed"], c["recipe"]["batch"], c["recipe"]["network"]) == (4, 2, network)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "network.depth=3"], "unknown setting network.depth; allowed: network.architecture"),
        (["--set", "epochs=many"], "setting epochs = 'many'; it must be like 2"),
        (["--set", "network=3"], "setting network is a table of settings"),
        (["--set", "epochs"], "'epochs' is not NAME=VALUE"),
        (["--crop", "100", "64"], "--crop 100 64; allowed: multiples of 32"),
        (["--trunk", "resnet19"], "network option backbone = 'resnet19'"),
        (["--workers", "many"], "workers 'many'; allowed: auto"),
        (["--config", "none.toml"], "none.toml: no file of settings"),
        (
            ["--config", "odd.toml"],
            "odd.toml: unknown epoch; allowed: annotations, backbone, batch, checkpoint_minutes",
        ),
        (["--recipe", "table5", "--crop", "64", "64"], "--crop is for lumbar MRI"),
        (["--recipe", "table5", "--patience", "2", "--phantoms", "1"], "--patience: the 3-D variant"),
        (["--folds", "2", "--patience", "2"], "--folds: from 2 on, for lumbar MRI, and without --patience"),
        (["--folds", "9", "--data", "lumbar"], "5 patients cannot be divided into 9 folds"),
    ],
)
def test_fit__names_what_cannot_be(
    fit: Fit,
    lumbar: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(lumbar.parent)
    monkeypatch.setenv("COLUMNS", "400")
    Path("odd.toml").write_text("epoch = 3\n")
    assert fit(*words, "--out", "run") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error
    assert not Path("run").exists()


def test_folds__measure_each_patient_by_a_run_that_did_not_see_it(
    fit: Fit, lumbar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_folds, "BOOTSTRAP", 10)
    out = tmp_path / "cv"
    words = ["--data", lumbar, "--out", out, "--epochs", 1, "--folds", 2]
    assert fit(*words) == 0
    exams = exams_of(lumbar)
    tested: list[str] = []
    for fold in range(2):
        part_of = read_splits(out / f"fold{fold}" / "splits.json")
        tested += [patient for patient, part in part_of.items() if part == "test"]
        seen = load_package(out / f"fold{fold}" / "best").manifest.training["exams_seen"]
        learned = hashes_of_all(exam for exam in exams if part_of[exam.patient] == "train")
        assert ExamHashes.from_json(seen) == learned
    assert sorted(tested) == sorted(exam.patient for exam in exams)
    (report,) = strictly_whole(out / "folds.json")
    assert (report["folds"], report["patients"]) == (2, 5)
    assert report["figures"]["pooled"]["exams"] == 5 == sum(report["figures"][f"fold {n}"]["exams"] for n in (1, 2))
    assert "2 folds by patient, pooled" in (out / "evaluation.html").read_text()
    # A killed one goes on with --resume; other settings are refused by name.
    (out / "fold1" / "last.pt").unlink()
    capsys.readouterr()
    assert fit(*words, "--resume") == 0
    assert fit(*words, "--resume", "--seed", 1) == 1
    assert "seed: 0, now 1" in " ".join(capsys.readouterr().err.split())


def strictly_whole(path: Path) -> list[dict[str, object]]:
    text = path.read_text()
    assert "NaN" not in text
    return [json.loads(text)]


def test_split__writes_a_file_that_no_later_split_replaces(
    fit: Fit, lumbar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "splits.json"
    words = [lumbar, "--out", out, "--train", 0.4, "--validation", 0.2, "--calibration", 0.2, "--test", 0.2]
    assert fit(*words, command="split") == 0
    assert "2 train, 1 validation, 1 calibration, 1 test patients" in capsys.readouterr().out
    assert sorted(read_splits(out)) == sorted(exam.patient for exam in exams_of(lumbar))
    before = out.read_bytes()
    assert fit(*words, command="split") == 2
    assert out.read_bytes() == before


def test_hashes__know_an_exam_by_its_uid_and_by_its_pixels(lumbar: Path) -> None:
    exams = exams_of(lumbar)
    first, second = (hashes_of(exam) for exam in exams[:2])
    assert first.studies != second.studies
    # The fake studies all have the same pixels.
    assert first.pixels == second.pixels
    assert (first & second) == ExamHashes(frozenset(), first.pixels)
    assert all(len(text) == 32 for text in (*first.studies, *first.pixels))
    assert ExamHashes.from_json(first.to_json()) == first


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_run_file__holds_every_recipe(name: str, tmp_path: Path) -> None:
    recipe = recipes.RECIPES[name]()
    options = {"data": ['a "b"\\c', "d\x7f"], "splits": None, "seed": 3, "share": float("inf"), "resume": False}
    (tmp_path / "run.toml").write_text(run_file.render(options, recipe.to_json()))
    read_options, settings = run_file.read(tmp_path / "run.toml")
    assert read_options == {name: value for name, value in options.items() if value is not None}
    from trainer.training.recipe_changes import changed

    assert changed(recipes.paper() if name == "shipped" else recipe, settings) == recipe
