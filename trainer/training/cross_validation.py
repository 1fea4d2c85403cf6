"""Cross-validation of the grading networks: each patient is graded by a network that saw nothing of that patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from spineone_core import strict_json
from spineone_core.network.grading import GradingConfig, GradingNetwork
from trainer.evaluation.located import Grades, LocatedExam, grade
from trainer.samples.graded import GradedExam
from trainer.training.grading import GradingRecipe, fit_grading
from trainer.training.run_folder import TrainingError


def fold_of(patients: Iterable[str], folds: int, seed: int = 0) -> dict[str, int]:
    """Patient -> fold, in a random order that depends on the seed and on the set of patients alone; sizes differ by one."""
    ordered = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(ordered))
    return {ordered[int(place)]: number % folds for number, place in enumerate(order)}


def cross_validate(
    training: Sequence[GradedExam],
    measured: Sequence[LocatedExam],
    recipe: GradingRecipe,
    folder: Path,
    *,
    folds: int,
    begin: Path | None = None,
    every: int = 0,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> dict[int, dict[str, Grades]]:
    """Train the network of every fold that ``folder`` does not hold yet, and grade the fold's measured exams with it.

    All exams of a patient are in the same fold. A fold is one file of weights and one of predictions, written when it is
    complete; a killed run goes on with the next fold. ``begin`` is the folder of another structure's cross-validation, whose
    network of the same fold is begun with: it saw nothing of the fold's patients either.

    Returns
    -------
    Epoch -> exam -> logits from the network that did not see the patient; with ``every``, also of earlier epochs.

    Raises
    ------
    TrainingError
        If a fold in the folder has another recipe, seed or data, or if ``begin`` lacks a fold or has other patients in it.
    """
    part = fold_of((exam.exam.patient for exam in training), folds, seed)
    folder.mkdir(parents=True, exist_ok=True)
    seen = {e.exam.exam_id: (e.exam.patient, e.crops(recipe.network)) for e in measured if e.points is not None}
    result: dict[int, dict[str, Grades]] = {}
    for fold in range(folds):
        held_out = sorted(patient for patient, its_fold in part.items() if its_fold == fold)
        first = None if begin is None else _Fold.read(begin, fold)
        if first is not None and first.patients != held_out:
            raise TrainingError(f"{begin}: fold {fold} holds out other patients; give the same folds, seed and data")
        fingerprint = _fingerprint(training, recipe, folds, seed, first)
        if not (folder / f"fold{fold}.json").exists():
            log(f"{recipe.name}, {recipe.network.structure}, fold {fold + 1} of {folds}")
            learned = [exam for exam in training if part[exam.exam.patient] != fold]
            graded = {exam_id: crops for exam_id, (patient, crops) in seen.items() if patient in held_out}
            looks: dict[int, dict[str, Grades]] = {}

            def look(epoch: int, network: GradingNetwork, of: Any = graded, kept: Any = looks) -> None:
                kept[epoch] = {exam_id: grade(network, crops) for exam_id, crops in of.items()}

            before = None if first is None or begin is None else first.network(begin, fold)
            network = fit_grading(learned, recipe, seed=seed + fold, begin=before, every=every, look=look, log=log)
            look(recipe.epochs, network)
            _Fold(fingerprint, recipe.to_json(), held_out, looks).write(folder, fold, network)
        done = _Fold.read(folder, fold)
        if done.fingerprint != fingerprint:
            raise TrainingError(f"{folder}: fold {fold} has another recipe, seed or data; give another folder")
        for epoch, grades in done.grades.items():
            result.setdefault(epoch, {}).update(grades)
    return result


@dataclass(frozen=True, slots=True)
class _Fold:
    """What is kept of a fold beside its weights: its recipe, the patients held out, and epoch -> exam -> logits of these."""

    fingerprint: str
    recipe: dict[str, Any]
    patients: list[str]
    grades: dict[int, dict[str, Grades]]

    def write(self, folder: Path, fold: int, network: GradingNetwork) -> None:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / f"fold{fold}.safetensors")
        temporary = folder / f"fold{fold}.tmp"
        temporary.write_text(strict_json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(folder / f"fold{fold}.json")

    @classmethod
    def read(cls, folder: Path, fold: int) -> _Fold:
        """Raises ``TrainingError`` if the folder does not hold the fold."""
        path = folder / f"fold{fold}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path}: cannot be read: {error}") from error
        grades = {int(epoch): exams for epoch, exams in content["grades"].items()}
        return cls(content["fingerprint"], content["recipe"], content["patients"], grades)

    def network(self, folder: Path, fold: int) -> GradingNetwork:
        return _load(folder / f"fold{fold}.safetensors", GradingConfig.from_json(self.recipe["network"]))


def last_grades(folder: Path, folds: int) -> dict[str, Grades]:
    """Exam -> logits at the last epoch, from the folds that a folder holds; raises ``TrainingError`` if one is missing."""
    result: dict[str, Grades] = {}
    for fold in range(folds):
        grades = _Fold.read(folder, fold).grades
        result.update(grades[max(grades)])
    return result


def load_members(folder: Path, config: GradingConfig, folds: int) -> list[GradingNetwork]:
    """The networks of all folds, in evaluation mode."""
    return [_load(folder / f"fold{fold}.safetensors", config) for fold in range(folds)]


def _load(path: Path, config: GradingConfig) -> GradingNetwork:
    network = GradingNetwork(config)
    network.load_state_dict(load_file(path))
    return network.eval()


def _fingerprint(
    training: Sequence[GradedExam], recipe: GradingRecipe, folds: int, seed: int, first: _Fold | None
) -> str:
    # Neither how a class comes about nor the band changes what is learned.
    network = replace(recipe.network, class_from="direct", members=1)
    learned = replace(recipe, network=network, error_rate=0.1).to_json()
    del learned["error_rate"]
    content = hashlib.sha256(json.dumps([learned, folds, seed], sort_keys=True).encode())
    content.update(b"" if first is None else first.fingerprint.encode())
    for graded in training:
        content.update(graded.exam.exam_id.encode())
        content.update(np.ascontiguousarray(graded.pictures).tobytes())
        content.update(np.nan_to_num(graded.points, nan=-1.0).tobytes())
        content.update(repr((graded.gradings, sorted(graded.exam.grades.items()))).encode())
    return content.hexdigest()
