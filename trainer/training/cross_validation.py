"""Cross-validation of the grading networks: each patient is graded by a network that saw nothing of that patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

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
    every: int = 0,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> dict[int, dict[str, Grades]]:
    """Train the network of every fold that ``folder`` does not hold yet, and grade the fold's measured exams with it.

    All exams of a patient are in the same fold. A fold is one file of weights and one of predictions, written when it is
    complete; a killed run goes on with the next fold.

    Returns
    -------
    Epoch -> exam -> logits from the network that did not see the patient; with ``every``, also of earlier epochs.

    Raises
    ------
    TrainingError
        If a fold in the folder has another recipe, seed or data.
    """
    part = fold_of((exam.exam.patient for exam in training), folds, seed)
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = _fingerprint(training, recipe, folds, seed)
    unseen = [exam for exam in measured if exam.points is not None]
    crops = {e.exam.exam_id: e.crops(recipe.network) for e in unseen}
    result: dict[int, dict[str, Grades]] = {}
    for fold in range(folds):
        predictions = folder / f"fold{fold}.json"
        if not predictions.exists():
            log(f"{recipe.name}, {recipe.network.structure}, fold {fold + 1} of {folds}")
            learned = [exam for exam in training if part[exam.exam.patient] != fold]
            held_out = [exam.exam.exam_id for exam in unseen if part.get(exam.exam.patient) == fold]
            looks: dict[int, dict[str, Grades]] = {}

            def look(epoch: int, network: GradingNetwork, ids: list[str] = held_out, kept: Any = looks) -> None:
                kept[epoch] = {exam_id: grade(network, crops[exam_id]) for exam_id in ids}

            network = fit_grading(learned, recipe, seed=seed + fold, every=every, look=look, log=log)
            look(recipe.epochs, network)
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / f"fold{fold}.safetensors")
            content = {"fingerprint": fingerprint, "recipe": recipe.to_json(), "grades": looks}
            temporary = predictions.with_suffix(".tmp")
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(predictions)
        content = json.loads(predictions.read_text(encoding="utf-8"))
        if content["fingerprint"] != fingerprint:
            raise TrainingError(f"{predictions}: made with another recipe, seed or data; give another folder")
        for epoch, grades in content["grades"].items():
            result.setdefault(int(epoch), {}).update(grades)
    return result


def load_members(folder: Path, config: GradingConfig, folds: int) -> list[GradingNetwork]:
    """The networks of all folds, in evaluation mode."""
    members = []
    for fold in range(folds):
        network = GradingNetwork(config)
        network.load_state_dict(load_file(folder / f"fold{fold}.safetensors"))
        members.append(network.eval())
    return members


def _fingerprint(training: Sequence[GradedExam], recipe: GradingRecipe, folds: int, seed: int) -> str:
    network = replace(recipe.network, class_from="direct", members=1)  # neither changes what is learned
    content = hashlib.sha256(
        json.dumps([replace(recipe, network=network).to_json(), folds, seed], sort_keys=True).encode()
    )
    for graded in training:
        content.update(graded.exam.exam_id.encode())
        content.update(np.ascontiguousarray(graded.pictures).tobytes())
        content.update(np.nan_to_num(graded.points, nan=-1.0).tobytes())
        content.update(repr((graded.gradings, sorted(graded.exam.grades.items()))).encode())
    return content.hexdigest()
