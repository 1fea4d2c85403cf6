"""Runs that are continued: what may change, what is named, what stays as it was; warm-up, early stopping, first weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spineone_core.detection.model_package import load_package
from tests.fakes.tiny_runs import start, tiny_data, tiny_recipe
from trainer.datasets.exam_hashes import hashes_of_all
from trainer.evaluation.model_card import model_card
from trainer.training.keypoint_task import KeypointTask
from trainer.training.learning_rate import learning_rate, warmup_steps
from trainer.training.provenance import exams_seen, origin_of
from trainer.training.run import Run
from trainer.training.run_folder import TrainingError
from trainer.training.run_settings import changed_settings

LONG = replace(tiny_recipe(), epochs=300, batch=8, warmup_steps=200)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What lies in a folder, and when it was written."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def strictly(path: Path) -> list[Any]:
    """The lines of a JSON file; NaN and infinity are errors, as they are for other readers."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path}: {word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one of its two epochs done, and with a line in its log from after the checkpoint."""
    folder = tmp_path_factory.mktemp("begun")
    run = start(tiny_recipe(), tiny_data(), folder)
    run.open_folder()
    run.train_epoch(run.batches())
    run.save()
    run.boards.close()
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 4, "loss": 1.0}\n')
    return folder


@pytest.mark.parametrize(
    ("recipe", "seed", "options", "named"),
    [
        ({"learning_rate": 0.1}, 0, {}, ["recipe.learning_rate: 0.001, now 0.1"]),
        ({}, 5, {}, ["seed: 0, now 5"]),
        ({}, 0, {"precision": "bf16"}, ['precision: "fp32", now "bf16"']),
        ({}, 0, {"micro_batches": 2}, ["samples normalised together: 2, now 1"]),
        ({"epochs": 1}, 0, {}, ["recipe.epochs: 2, now 1"]),
        ({"epochs": 3, "batch": 1}, 0, {}, ["recipe.epochs: 2, now 3", "recipe.batch: 2, now 1", "--extend"]),
    ],
)
def test_resume__with_other_settings_names_them_and_leaves_the_folder_alone(
    begun: Path, recipe: dict[str, Any], seed: int, options: dict[str, Any], named: list[str]
) -> None:
    before = contents(begun)
    with pytest.raises(TrainingError) as refused:
        start(replace(tiny_recipe(), **recipe), tiny_data(), begun, seed=seed, **options).fit(resume=True)
    for text in named:
        assert text in str(refused.value)
    assert contents(begun) == before


def test_new_run__in_a_used_folder_leaves_it_alone(begun: Path) -> None:
    before = contents(begun)
    with pytest.raises(TrainingError, match="already holds a run"):
        start(tiny_recipe(), tiny_data(), begun).fit()
    with pytest.raises(TrainingError, match="epochs: 2, now 1"):
        start(replace(tiny_recipe(), epochs=1), tiny_data(), begun).fit(extend=True)
    assert contents(begun) == before


def test_resume__other_processes_may_go_on_if_they_normalise_the_same_samples_together() -> None:
    def config(**machine: Any) -> dict[str, Any]:
        used = {"precision": "fp32", "micro_batches": 1, "processes": 1, "sync_bn": False, "backbone_sha256": None}
        return {"recipe": {"batch": 8}, "seed": 0, "data_sha256": "d", "begun_with": [], "machine": {**used, **machine}}

    assert changed_settings(config(micro_batches=2), config(processes=2)) == []
    assert changed_settings(config(processes=1), config(processes=4, sync_bn=True)) == []
    assert changed_settings(config(), config(processes=2)) == ["samples normalised together: 8, now 4"]
    assert changed_settings(config(), config(backbone_sha256="a" * 64)) == ["backbone weights: null, now aaaaaaaaaaaa…"]
    parent = {"begun_with": [{"digest": "b" * 64}]}
    assert changed_settings(config(), config() | parent) == ["begun with the package: null, now bbbbbbbbbbbb…"]


def test_resume__what_an_older_version_did_not_write_down_is_not_compared() -> None:
    machine = {"precision": "fp32", "micro_batches": 1, "processes": 1, "backbone": None}
    old = {"recipe": {"batch": 8, "gone": 1}, "seed": 0, "data_sha256": "d", "machine": machine}
    new = {**old, "recipe": {"batch": 8, "new": 2}, "begun_with": [{"digest": "b"}]}
    new["machine"] = {**machine, "sync_bn": False, "backbone_sha256": "c"}
    assert changed_settings(old, new) == ["recipe.gone: 1, now not known"]


def test_extend__a_finished_run_learns_for_more_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(tiny_recipe(), tiny_data(), tmp_path).fit(validate_every=2)
    start(tiny_recipe(), tiny_data(), tmp_path).fit(validate_every=2, resume=True)
    assert "the run ended after 2 epochs; --extend with more --epochs goes on" in capsys.readouterr().out
    longer = start(replace(tiny_recipe(), epochs=3), tiny_data(), tmp_path)
    longer.files = {"run.toml": "epochs = 3\n"}
    longer.fit(validate_every=2, extend=True)
    lines = strictly(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["recipe"]["epochs"] == 3
    assert [(e["from_epochs"], e["at_step"]) for e in config["extended"]] == [(2, 4)]
    assert (tmp_path / "run.toml").read_text() == "epochs = 3\n"
    # The same command line again, as after a restart, has nothing to do; the old one is refused.
    start(replace(tiny_recipe(), epochs=3), tiny_data(), tmp_path).fit(extend=True)
    with pytest.raises(TrainingError, match="epochs: 3, now 2"):
        start(tiny_recipe(), tiny_data(), tmp_path).fit(resume=True)
    with pytest.raises(TrainingError, match="holds no run to extend"):
        start(tiny_recipe(), tiny_data(), tmp_path / "empty").fit(extend=True)


# ---------------------------------------------------------------- warm-up


def test_warm_up__is_at_most_a_tenth_of_the_run() -> None:
    assert warmup_steps(LONG, 25) == 200
    assert warmup_steps(replace(LONG, epochs=1), 25) == 2
    # A fine-tuning of one step learns at its rate, where the recipe's warm-up would have given it 1/200 of that.
    assert learning_rate(replace(LONG, epochs=1), 0, 1) == pytest.approx(1e-3)
    assert learning_rate(LONG, 0, 25) == pytest.approx(1e-3 / 200)


def test_warm_up__that_is_cut_is_said(tmp_path: Path) -> None:
    run = start(replace(tiny_recipe(), warmup_steps=200), tiny_data(), tmp_path)
    run.open_folder()
    assert run.folder.entries()[0]["note"] == "warm-up of 200 steps cut to 0, a tenth of the run"


# ---------------------------------------------------------------- early stopping


def test_patience__ends_a_run_that_gets_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([1.0, 2.0, 1.5, 2.0, 9.0])
    monkeypatch.setattr(KeypointTask, "validate", lambda *_: (next(scores), {"mean_error_mm": float("nan")}))
    recipe = replace(tiny_recipe(), epochs=9)
    run = start(recipe, tiny_data(), tmp_path, patience=2)
    run.fit(validate_every=1)
    assert (run.epoch, run.best, run.stopped) == (4, 2.0, True)
    assert load_package(tmp_path / "best").manifest.training["epochs"] == 2
    resumed = start(recipe, tiny_data(), tmp_path, patience=2)
    resumed.fit(validate_every=1, resume=True)
    assert resumed.epoch == 4  # a run that was stopped stays so; to extend it is another matter
    assert next(scores) == 9.0
    # What JSON has no word for is null, in the log and in the package.
    assert [line["validation"] for line in strictly(tmp_path / "log.jsonl") if "validation" in line] == [
        {"mean_error_mm": None}
    ] * 4
    manifest = (tmp_path / "best" / "manifest.json").read_text()
    assert "NaN" not in manifest
    assert json.loads(manifest)["figures"] == {"validation": {"mean_error_mm": None}}


# ---------------------------------------------------------------- memory


def test_out_of_memory__says_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    run = start(tiny_recipe(), tiny_data(), tmp_path, workers=0)
    monkeypatch.setattr(Run, "train_step", full)
    with pytest.raises(TrainingError) as refused:
        run.fit()
    assert str(refused.value) == (
        "step 0: no memory left for 2 samples at a time on cpu; try --micro-batches 2, --precision bf16, a smaller --crop, a"
        " smaller --batch or a smaller --width"
    )


def test_other_errors__stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Run, "train_step", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        start(tiny_recipe(), tiny_data(), tmp_path).fit()


# ---------------------------------------------------------------- first weights


def test_begin_with__leaves_parents_in_config_manifest_and_card(tmp_path: Path) -> None:
    seen = hashes_of_all(tiny_data().validation)
    data = replace(tiny_data(), validation=[], hashes=seen)
    start(replace(tiny_recipe(), epochs=1), data, tmp_path / "a").fit()
    for parent, child in (("a", "b"), ("b", "c")):
        package = load_package(tmp_path / parent / "best")
        run = start(replace(tiny_recipe(), epochs=1), replace(tiny_data(), validation=[]), tmp_path / child)
        run.begin_with(package.network, origin_of(package))
        run.fit()
    packages = {name: load_package(tmp_path / name / "best") for name in "abc"}
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    manifest = packages["c"].manifest
    for found in (config["begun_with"], manifest.training["begun_with"]):
        assert [p["digest"] for p in found] == [packages[name].identity.digest for name in "ba"]
    named = replace(
        manifest,
        training={
            **manifest.training,
            "begun_with": [{**manifest.training["begun_with"][0], "data": "114 exams.", "licence": "CC BY 4.0"}],
        },
    )
    card = model_card(named, "0" * 64)
    for text in (packages["b"].identity.digest, "Trained on: 114 exams. Licence of its weights: CC BY 4.0."):
        assert text in card
    assert "study_uid_hashes" not in card
    # What the parents saw counts as seen.
    assert exams_seen(manifest.training) == (seen, ["this package", "spineone-tiny 0.1.0"])
    other = start(replace(tiny_recipe(), epochs=1), replace(tiny_data(), validation=[]), tmp_path / "c")
    with pytest.raises(TrainingError, match=r"begun with the package: .*, now null"):
        other.fit(resume=True)
