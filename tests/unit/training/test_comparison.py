"""``spineone-train compare``: outcomes, settings that differ, curves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.tiny_runs import start, tiny_data, tiny_recipe
from trainer.cli import app
from trainer.training.comparison import Comparison, read_run
from trainer.training.run_folder import TrainingError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs that differ in two settings; the second is not at its end."""
    folder = tmp_path_factory.mktemp("runs")
    start(tiny_recipe(), tiny_data(), folder / "a").fit(validate_every=1)
    other = start(replace(tiny_recipe(), learning_rate=0.01, epochs=3), tiny_data(), folder / "b")
    other.open_folder()
    other.train_epoch(other.batches())
    other.boards.close()
    return [folder / "a", folder / "b"]


def test_compare__names_what_differs_and_what_was_reached(runs: list[Path]) -> None:
    comparison = Comparison(tuple(map(read_run, runs)))
    assert comparison.differences() == {"recipe.epochs": [2, 3], "recipe.learning_rate": [0.001, 0.01]}
    finished, begun = (run.outcome() for run in comparison.runs)
    assert (finished["epochs"], begun["epochs"]) == ("2 of 2", "1 of 3")
    manifest = json.loads((runs[0] / "best" / "manifest.json").read_text())
    assert finished["best epoch"] == str(manifest["training"]["epochs"])
    assert float(finished["pck6"]) == pytest.approx(manifest["figures"]["validation"]["pck6"], abs=1e-3)
    assert begun["best epoch"] == ""
    losses = [json.loads(line) for line in (runs[0] / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert comparison.runs[0].curve("loss") == {float(e["epoch"]): e["loss"] for e in losses}
    assert list(comparison.runs[0].curve("pck6_level_strict")) == [1.0, 2.0]


def test_compare__writes_a_page_with_curves(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["spineone-train", "compare", *map(str, runs), str(runs[0]), "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert not stopped.value.code
    printed = capsys.readouterr().out
    # The same folder name twice gets numbers.
    assert "a (1)" in printed
    assert "recipe.learning_rate" in printed
    page = (tmp_path / "comparison.html").read_text()
    assert page.count("data:image/svg+xml") >= 4
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["runs"]["b"]["epoch"] == 1
    assert content["differences"]["recipe.epochs"] == {"a (1)": 2, "b": 3, "a (2)": 2}


def test_compare__refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"config\.json: cannot be read"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="not that of a run"):
        read_run(tmp_path)
