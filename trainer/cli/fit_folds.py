"""``spineone-train fit --folds``: each patient is measured by a detector that saw nothing of that patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spineone_core import strict_json
from spineone_core.detection.devices import place_network
from spineone_core.detection.model_package import load_package
from trainer.cli.arguments import UsageError, console
from trainer.cli.exam_pool import PooledExam, hashes_of_pool, read_again
from trainer.datasets.exam import Exam
from trainer.datasets.splitting import render_splits
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.evaluation_page import Figures, rows_of
from trainer.evaluation.outcomes import outcome_of
from trainer.samples.pictures import pictures_of
from trainer.training import run_file
from trainer.training.cross_validation import fold_of
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.recipe import Recipe
from trainer.training.run import Run
from trainer.training.task import Task

Start = Callable[[Task, Path, Mapping[str, str]], Run]
BOOTSTRAP = 1000


def fit_folds(
    recipe: Recipe,
    pool: Sequence[PooledExam],
    invented: Sequence[Exam],
    folds: int,
    out: Path,
    start: Start,
    text: str,
    *,
    seed: int,
    resume: bool,
    extend: bool,
) -> None:
    """Train a run for each fold in ``out/foldN``, measure each on its fold, and write the pooled report into ``out``.

    All exams of a patient are in the same fold. Nothing chooses an epoch: the last one counts, as every exam is measured.

    Raises
    ------
    UsageError
        If there are fewer patients than folds.
    """
    part = fold_of((exam.patient for exam in pool), folds, seed)
    if len(part) < folds:
        raise UsageError(f"{len(part)} patients cannot be divided into {folds} folds")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / run_file.NAME).exists():
        (out / run_file.NAME).write_text(text, encoding="utf-8")
    drawn = [pictures_of(exam, recipe.preprocessing, recipe.slice_reach_mm) for exam in invented]
    learned = recipe if drawn else replace(recipe, phantom_share=0.0)
    runs = []
    for fold in range(folds):
        console.print(f"fold {fold + 1} of {folds}", highlight=False)
        training = [exam for exam in pool if part[exam.patient] != fold]
        data = TrainingData([exam.pictures for exam in training], drawn, [], hashes_of_pool(training))
        split = render_splits({patient: "test" if own == fold else "train" for patient, own in part.items()})
        folder = out / f"fold{fold}"
        run = start(KeypointTask(learned, data), folder, {"splits.json": split})
        there = run.folder.checkpoint.exists()
        run.fit(resume=(resume or extend) and there, extend=extend and there)
        runs.append(run)
    if runs[0].ranks.first:
        _report(runs, pool, part, out)


def _report(runs: Sequence[Run], pool: Sequence[PooledExam], part: Mapping[str, int], out: Path) -> None:
    """Measure each fold's detector on the fold's patients; ``folds.json``, ``evaluation.json`` and ``evaluation.html``."""
    everything: Evaluation | None = None
    groups: dict[str, Figures] = {}
    for fold, run in enumerate(runs):
        package = load_package(run.folder.best)
        network = place_network(package.network, run.device)
        if everything is None:
            everything = Evaluation(package.manifest, f"{package.manifest.name}, {len(runs)} folds by patient, pooled")
        own = Evaluation(package.manifest, f"fold {fold + 1}")
        for exam in read_again(pool, [e for e in pool if part[e.patient] == fold]):
            outcome = outcome_of(network, package.manifest, exam, run.device)
            own.add(exam, outcome)
            everything.add(exam, outcome)
        groups[f"fold {fold + 1}"] = own.figures_of(own.main_cases())
    assert everything is not None
    groups["pooled"] = everything.figures_of(everything.main_cases())
    everything.write(out, BOOTSTRAP, ["Each exam was measured by a network that saw nothing of its patient."])
    content: dict[str, Any] = {"folds": len(runs), "patients": len(part), "figures": groups}
    (out / "folds.json").write_text(strict_json.dumps(content, indent=1) + "\n", encoding="utf-8")
    table = Table("figure", *groups, title=everything.title)
    for row in rows_of(groups):
        table.add_row(*row)
    Console().print(table)
    console.print(f"written: {out / 'evaluation.html'}", highlight=False, soft_wrap=True)
