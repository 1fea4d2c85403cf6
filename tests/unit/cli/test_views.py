"""Flips, sizes and precision of the network: the options of ``detect`` and ``evaluate``, and the settings of the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_node.analysis.analyse import settings_digest
from dicom_node.analysis.detector import load_detector
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ModelRules
from spineone_core import cli
from spineone_core.detection.views import InferenceOptions
from tests.fakes.detector import FakeDetector
from tests.unit.cli.test_model import data, model, run  # noqa: F401
from tests.unit.imaging.test_series import image, write
from trainer.cli import model as model_commands
from trainer.evaluation.outcomes import outcome_of

WORDS = ["--flips", "--scales", "0.9,1", "--precision", "bf16"]
OPTIONS = InferenceOptions(flips=True, scales=(0.9, 1.0), precision="bf16")


def test_detect__runs_the_network_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*_: Any, options: InferenceOptions, **__: Any) -> FakeDetector:
        asked.append(options)
        return FakeDetector()

    monkeypatch.setattr(cli.Detector, "load", load)
    write(tmp_path, image(0, StudyInstanceUID="2.25.8"))
    runner = CliRunner()
    assert runner.invoke(cli.app, ["detect", str(tmp_path), "--json", *WORDS]).exit_code == 0
    assert runner.invoke(cli.app, ["detect", str(tmp_path), "--json"]).exit_code == 0
    assert asked == [OPTIONS, InferenceOptions()]
    refused = runner.invoke(cli.app, ["detect", str(tmp_path), "--scales", "0.9"])
    assert refused.exit_code == 2
    assert "allowed: 0.5 to 2, 1 among them" in " ".join(refused.output.replace("│", " ").split())


def test_evaluate__runs_the_network_as_asked(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,  # noqa: F811
    data: Path,  # noqa: F811
) -> None:
    asked: list[Any] = []

    def watched(*words: Any, **options: Any) -> Any:
        asked.append(options["options"])
        return outcome_of(*words, **options)

    monkeypatch.setattr(model_commands, "outcome_of", watched)
    words = ["evaluate", "--model", model, "--data", data / "lumbar", "--json"]
    assert run(monkeypatch, *words, *WORDS) == 0
    assert asked == [OPTIONS, OPTIONS]
    assert run(monkeypatch, *words, "--scales", "large") == 2
    assert "scales 'large': numbers with commas between them" in " ".join(capsys.readouterr().err.split())


def test_node__runs_the_network_as_its_settings_say(node_settings: NodeSettings) -> None:
    rules = ModelRules(flips=True, scales=(0.9, 1.0), precision="bf16", device="cpu")
    changed = node_settings.model_copy(update={"model": rules})
    detector = load_detector(changed)
    assert detector.options == OPTIONS  # type: ignore[attr-defined]
    # Other findings may come of it, so a study gets another result; as long as nothing is set, digests stay what they were.
    assert settings_digest(changed) != settings_digest(node_settings)
    same = node_settings.model_copy(update={"model": ModelRules(device="cpu", threads=2)})
    assert settings_digest(same) == settings_digest(node_settings)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("scales", (0.9,), "1 among them"), ("scales", (1, 3), "0.5 to 2"), ("precision", "fp8", "fp32")],
)
def test_node__refuses_impossible_settings(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelRules(**{key: value})


def test_evaluate__warns_of_exams_that_were_trained_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,  # noqa: F811
    data: Path,  # noqa: F811
) -> None:
    from spineone_core.detection.model_package import load_package
    from trainer.datasets import formats
    from trainer.datasets.exam_hashes import ExamHashes, hashes_of

    first, second = formats.split_skipped(formats.read(str(data / "lumbar")))[0]
    package = load_package(model)

    def evaluated(seen: ExamHashes | None, *more: Any, **origin: Any) -> tuple[dict[str, Any], str]:
        package.manifest.training.clear()
        package.manifest.training.update({**({} if seen is None else {"exams_seen": seen.to_json()}), **origin})
        monkeypatch.setattr(model_commands, "load_package", lambda _: package)
        assert run(monkeypatch, "evaluate", "--model", model, "--data", data / "lumbar", "--json", *more) == 0
        printed = capsys.readouterr()
        return json.loads(printed.out)["overlap"], " ".join(printed.err.split())

    own, same = hashes_of(first), ExamHashes(frozenset(), hashes_of(second).pixels)
    report = ["--report", data / "r", "--bootstrap", 0]
    overlap, said = evaluated(ExamHashes(own.studies, frozenset()), *report)
    assert overlap == {"same_study_uid": [first.exam_id], "same_pixels": [], "not_known": []}
    assert "warning: 1 of these exams were in the training data (same StudyInstanceUID)" in said
    assert "figures mean nothing: lumbar/study1" in (data / "r" / "evaluation.html").read_text()
    overlap, said = evaluated(same)
    # Both fake studies have the same pixels.
    assert overlap["same_pixels"] == [first.exam_id, second.exam_id]
    assert "same pixels, other UIDs" in said
    # What a package that the weights were begun with has seen counts too.
    parent = {"name": "p", "version": "1", "digest": "0" * 64, "exams_seen": own.to_json()}
    overlap, _ = evaluated(ExamHashes(), begun_with=[parent, {"name": "q", "version": "2", "digest": "1" * 64}])
    assert (overlap["same_study_uid"], overlap["not_known"]) == ([first.exam_id], ["q 2"])
    overlap, said = evaluated(ExamHashes(frozenset(["0" * 32]), frozenset()))
    assert overlap == {"same_study_uid": [], "same_pixels": [], "not_known": []}
    assert "warning" not in said
    overlap, said = evaluated(None)
    assert overlap["not_known"] == ["this package"]
    assert "no fingerprints of the training data in this package: overlap cannot be seen" in said
