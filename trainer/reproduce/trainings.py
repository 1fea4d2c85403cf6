"""The different trainings behind the tables: a missing one is trained, an interrupted one resumed, a finished one kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console

from spineone_core.detection.devices import choose_device, place_network
from spineone_core.detection.model_package import Manifest, ModelPackage, load_package
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.build import build_network
from spineone_core.network.rows import Row, distinct_rows
from trainer.evaluation.outcomes import Outcome, outcomes_of
from trainer.reproduce import outcome_file
from trainer.reproduce.budget import Budget
from trainer.reproduce.exams import ExamSet
from trainer.samples.augmentation import Picture
from trainer.samples.pictures import pictures_of
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.options import RunOptions
from trainer.training.pretrained import fitting_backbone
from trainer.training.recipe import Recipe, Schedule
from trainer.training.run import Run
from trainer.training.run_folder import TrainingError
from trainer.training.task import Task
from trainer.volumes.evaluation import VolumeOutcome, evaluate_volumes
from trainer.volumes.package import load_volume_package
from trainer.volumes.task import VolumeTask

OUTCOMES = "outcomes.json"
# Less than one vote of the least probability that counts, and more than rounding leaves where there is none.
LEAST_SCORE = 1e-6


@dataclass(slots=True, eq=False)
class Trainings:
    """The trainings of one budget, seed and set of exams, each in a folder of its own below ``folder``.

    The name of a folder ends with a digest of everything that decides the training, so that a training is never taken for one
    with another budget, seed or data. Each training begins with the first of the ``backbones`` (files of torchvision's weights)
    that fits its trunk.
    """

    exams: ExamSet
    budget: Budget
    seed: int
    folder: Path
    options: RunOptions
    backbones: tuple[Path, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    _pictures: tuple[PreprocessingConfig, list[list[Picture]]] | None = None

    def outcomes(self, row: Row) -> list[Outcome]:
        """The outcomes of the row's detector on the test exams.

        Raises
        ------
        TrainingError
            If its training cannot end, for example as the loss is not finite; asked again, it raises the same error at once.
        """
        place = self.place(row)
        if not (place / OUTCOMES).exists():
            package = self.package(row)
            device = choose_device(self.options.device)
            network = place_network(package.network, device)
            manifest = never_refusing(package.manifest)
            outcomes = outcomes_of(network, manifest, self.exams.test, device)
            outcome_file.write(place / OUTCOMES, outcomes)
        return outcome_file.read(place / OUTCOMES)

    def package(self, row: Row) -> ModelPackage:
        """The trained detector of a row."""
        place = self.place(row)
        if not (place / OUTCOMES).exists():
            self._train(self._canonical(row), place)
        return load_package(place / "best")

    def volume_outcomes(self) -> list[VolumeOutcome]:
        """The outcomes of Table V's variant on the test scans."""
        if self.exams.scans is None:
            raise TrainingError("no CT scans; give --ct-data")
        recipe = self.budget.volume_recipe()
        task = VolumeTask(recipe, self.exams.scans("train"))
        if not task.volumes:
            raise TrainingError(f"{self.exams.scans_name}: no training scan")
        place = self._place("table5", recipe, task.fingerprint())
        if not (place / OUTCOMES).exists():
            self._fit("table5", task, place)
            manifest, network = load_volume_package(place / "best")
            device = choose_device(self.options.device)
            outcomes = evaluate_volumes(network.to(device), manifest, self.exams.scans("test"), device)
            if not outcomes:
                raise TrainingError(f"{self.exams.scans_name}: no test scan")
            outcome_file.write(place / OUTCOMES, outcomes)
        return outcome_file.read_volumes(place / OUTCOMES)

    def place(self, row: Row) -> Path:
        """The run folder of a row; rows with the same training share it."""
        row = self._canonical(row)
        recipe = self.budget.recipe(row, len(self.exams.training))
        return self._place(row.name, recipe, self.exams.digest, backbone_of(recipe, self.backbones))

    def _canonical(self, row: Row) -> Row:
        return next((other for other in distinct_rows() if other.digest == row.digest), row)

    def _place(self, name: str, recipe: Schedule, data: str, backbone: Path | None = None) -> Path:
        decides = {"recipe": recipe.to_json(), "seed": self.seed, "data": data}
        if backbone is not None:
            decides["backbone"] = hashlib.sha256(backbone.read_bytes()).hexdigest()
        content = json.dumps(decides, sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def _train(self, row: Row, place: Path) -> None:
        recipe = self.budget.recipe(row, len(self.exams.training))
        data = TrainingData(self._prepared(recipe.preprocessing), [], self.exams.validation)
        self._fit(row.name, KeypointTask(recipe, data), place, backbone_of(recipe, self.backbones))

    def _fit(self, name: str, task: Task, place: Path, backbone: Path | None = None) -> None:
        if name in self.failures:
            raise TrainingError(self.failures[name])
        Console(stderr=True).print(f"training {name} in {place}", highlight=False, soft_wrap=True)
        try:
            Run(task, place, seed=self.seed, options=replace(self.options, backbone=backbone)).fit(resume=True)
        except TrainingError as error:
            self.failures[name] = str(error)
            raise

    def _prepared(self, preprocessing: PreprocessingConfig) -> list[list[Picture]]:
        """The training pictures; most rows need the same ones, so the last are kept."""
        if self._pictures is None or self._pictures[0] != preprocessing:
            self._pictures = preprocessing, [pictures_of(exam, preprocessing, 0.0) for exam in self.exams.training]
        return self._pictures[1]


def backbone_of(recipe: Recipe, backbones: Sequence[Path]) -> Path | None:
    """The first file whose weights fit the recipe's trunk."""
    if not backbones:
        return None
    with torch.device("meta"):
        network = build_network(recipe.network)
    return fitting_backbone(network, backbones)


def never_refusing(manifest: Manifest) -> Manifest:
    """The manifest without refusals, as in the paper: the strongest points of every exam count, whatever they are.

    One rule for every row: up to five points of a structure are named, and what no pixel votes for is absent.
    """
    return replace(manifest, decoding=replace(manifest.decoding, minimum_score=LEAST_SCORE, plausible=False))


def chosen(rows: Sequence[Row], text: str) -> list[tuple[int, Row]]:
    """The rows whose name holds the text, with their places in the table."""
    return [(place, row) for place, row in enumerate(rows) if text in row.name]
