"""``spineone-train fit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from spineone_core.detection.model_package import load_package
from spineone_core.phantom.config import PhantomConfig
from trainer.cli.arguments import (
    EVALUATION_SEED,
    AnnotationsOption,
    DataOption,
    DeviceOption,
    SplitsOption,
    UsageError,
    console,
    stream_exams,
    with_centroids,
)
from trainer.cli.exam_pool import PooledExam, hashes_of_pool, pooled, read_again, read_pool
from trainer.cli.fit_folds import fit_folds
from trainer.cli.run_config import SETTINGS, ConfigOption, changed_recipe, render_options
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.datasets.splits import read_splits, select
from trainer.datasets.splitting import TRAINING_SHARE, render_splits, split_patients
from trainer.recipes import RECIPES, find_recipe
from trainer.samples.pictures import pictures_of
from trainer.training import run_file
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.options import RunOptions, workers_of
from trainer.training.provenance import origin_of
from trainer.training.recipe import Recipe
from trainer.training.run import Run
from trainer.training.task import Task
from trainer.volumes import ct_phantoms
from trainer.volumes.recipe import VolumeRecipe
from trainer.volumes.scans import read_scans
from trainer.volumes.task import VolumeTask


def fit(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="run folder")],
    config: ConfigOption = None,
    data: DataOption = [],  # noqa: B006
    annotations: AnnotationsOption = None,
    splits: SplitsOption = None,
    recipe: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}, paper/ROW or stable/ROW")] = "shipped",
    phantom_count: Annotated[int, typer.Option("--phantoms", help="procedural phantoms to train on")] = 0,
    phantom_slices: Annotated[int, typer.Option(help="slices to render for each phantom")] = 3,
    epochs: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    batch: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    crop: Annotated[
        tuple[int, int] | None, typer.Option(help="rows and columns of the training pictures, instead of the recipe's")
    ] = None,
    trunk: Annotated[str | None, typer.Option(help="network of the backbone, such as resnet50")] = None,
    width: Annotated[int | None, typer.Option(help="channels of the network's first stage")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="instead of the recipe's")] = None,
    settings: Annotated[
        list[str],
        typer.Option("--set", help="NAME=VALUE: any setting of the recipe, such as network.aspp_pooling=false"),
    ] = [],  # noqa: B006
    seed: int = 0,
    device: DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    micro_batches: Annotated[int, typer.Option(help="parts that a batch is computed in, to save memory")] = 1,
    sync_bn: Annotated[
        bool, typer.Option("--sync-bn", help="batch normalisation over all processes; on GPUs only")
    ] = False,
    workers: Annotated[str, typer.Option(help="processes that prepare samples: a number, or auto")] = "auto",
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="minutes between checkpoints, within an epoch too")
    ] = 3.0,
    backbone: Annotated[Path | None, typer.Option(help="torchvision's ImageNet weights: a local file")] = None,
    validate_every: Annotated[int, typer.Option(min=1, help="epochs between validations")] = 10,
    patience: Annotated[
        int, typer.Option(min=0, help="end after so many validations without a better one; 0: never")
    ] = 0,
    mlflow: Annotated[str, typer.Option(help="MLflow experiment to log to as well (MLFLOW_TRACKING_URI)")] = "",
    folds: Annotated[int, typer.Option(min=0, help="cross-validate over so many parts of the patients; 0: no")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in --out")] = False,
    extend: Annotated[bool, typer.Option("--extend", help="continue it, also for more epochs than it had")] = False,
    init: Annotated[str | None, typer.Option(help='model package (or "default") whose weights to begin with')] = None,
) -> None:
    """Train a detector. It may be killed at any moment and continued with --resume. Under torchrun all processes share it."""
    short = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate}
    network = {"network.backbone": trunk, "network.width": width}
    try:
        named = changed_recipe(find_recipe(recipe), context.meta.get(SETTINGS, {}), [])
        chosen = changed_recipe(named, {**short, **network}, settings, crop)
        options = RunOptions(
            device=device,
            precision=precision,
            micro_batches=micro_batches,
            sync_bn=sync_bn,
            workers=workers_of(workers),
            backbone=backbone,
            patience=patience,
            mlflow=mlflow,
            checkpoint_every_s=60 * checkpoint_minutes,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if threads:
        torch.set_num_threads(threads)
    package = None if init is None else load_package(init)
    text = run_file.render(render_options(context), chosen.to_json())

    def start(task: Task, folder: Path, files: Mapping[str, str]) -> Run:
        run = Run(task, folder, seed=seed, options=options)
        run.files = files
        if package is not None:
            run.begin_with(package.network, origin_of(package))
        return run

    if folds:
        if isinstance(chosen, VolumeRecipe) or patience or folds < 2:
            raise UsageError("--folds: from 2 on, for lumbar MRI, and without --patience, as nothing chooses an epoch")
        pool = read_pool(data, chosen, _not_test(splits), annotations)
        invented = _phantom_exams(chosen, phantom_count, phantom_slices)
        fit_folds(chosen, pool, invented, folds, out, start, text, seed=seed, resume=resume, extend=extend)
        return
    task: Task
    files = {run_file.NAME: text}
    if isinstance(chosen, VolumeRecipe):
        if patience:
            raise UsageError("--patience: the 3-D variant has no validation exams")
        task = volume_task(chosen, data, phantom_count)
    else:
        prepared, part_of = training_data(chosen, data, splits, phantom_count, phantom_slices, seed, annotations)
        if part_of:
            files["splits.json"] = render_splits(part_of)
            console.print(_said(part_of, out), highlight=False, soft_wrap=True)
        task = keypoint_task(chosen, prepared)
    start(task, out, files).fit(validate_every=validate_every, resume=resume, extend=extend)


def volume_task(recipe: VolumeRecipe, data: list[str], phantom_count: int) -> VolumeTask:
    """The training scans of CT data sets, and CT phantoms."""
    task = VolumeTask(recipe, chain(read_scans(data, "train"), ct_phantoms.read(range(phantom_count))))
    if not task.volumes:
        raise UsageError("nothing to train on: give --data with CT scans, or --phantoms")
    return task


def keypoint_task(chosen: Recipe, data: TrainingData) -> KeypointTask:
    """The recipe on its data; without phantoms it has no share of them."""
    if not data.real and not data.phantoms:
        raise UsageError("nothing to train on: give --data or --phantoms")
    return KeypointTask(chosen if data.phantoms else replace(chosen, phantom_share=0.0), data)


def training_data(
    chosen: Recipe,
    data: list[str],
    splits: Path | None,
    phantom_count: int,
    phantom_slices: int,
    seed: int,
    annotations: Path | None = None,
) -> tuple[TrainingData, dict[str, str]]:
    """What to train on, and the split by patient that was made where none was given.

    Phantoms validate where there is no exam for that.

    Raises
    ------
    UsageError
        If no split is given and all exams are of one patient.
    """
    part_of: dict[str, str] = {}
    if splits is not None:
        training, validation = _as_told(chosen, data, read_splits(splits), annotations)
    else:
        pool = read_pool(data, chosen, lambda exam: True, annotations)
        part_of = _split(pool, seed)
        training = [exam for exam in pool if part_of[exam.patient] == "train"]
        validation = list(read_again(pool, [exam for exam in pool if part_of[exam.patient] == "validation"]))
    invented = _phantom_exams(chosen, phantom_count, phantom_slices)
    if not validation:
        validation = list(phantoms.read(range(EVALUATION_SEED, EVALUATION_SEED + 10), slices=phantom_slices))
    prepared = TrainingData(
        real=[exam.pictures for exam in training],
        phantoms=[pictures_of(e, chosen.preprocessing, chosen.slice_reach_mm) for e in invented],
        validation=validation,
        hashes=hashes_of_pool(training),
    )
    return prepared, part_of


def _as_told(
    chosen: Recipe, data: list[str], part_of: dict[str, str], annotations: Path | None
) -> tuple[list[PooledExam], list[Exam]]:
    """Training exams and validation exams by a split. Only the pictures of a training exam stay in memory."""
    training: list[PooledExam] = []
    validation: list[Exam] = []
    for source in data:
        for exam in with_centroids(stream_exams([source], annotations=annotations)):
            if select([exam], part_of, "train"):
                training.append(pooled(source, exam, chosen, annotations))
            if select([exam], part_of, "validation"):
                validation.append(exam)
    return training, validation


def _split(pool: list[PooledExam], seed: int) -> dict[str, str]:
    patients = {exam.patient for exam in pool}
    if len(patients) == 1:
        raise UsageError(
            f"all {len(pool)} exams are of one patient, who cannot both train and choose the best epoch: give more data"
        )
    return split_patients(patients, TRAINING_SHARE, seed) if patients else {}


def _said(part_of: dict[str, str], out: Path) -> str:
    count = sum(part == "train" for part in part_of.values())
    return (
        f"no --splits: of {len(part_of)} patients {count} train and {len(part_of) - count} choose the best epoch, as"
        f" {out / 'splits.json'} says"
    )


def _not_test(splits: Path | None) -> Any:
    """Whether an exam takes part in a cross-validation: all but those of the test part."""
    if splits is None:
        return lambda exam: True
    part_of = read_splits(splits)
    return lambda exam: not select([exam], part_of, "test")


def _phantom_exams(chosen: Recipe, count: int, slices: int) -> list[Exam]:
    return list(phantoms.read(range(count), slices=slices, config=PhantomConfig(lumbarised=chosen.lumbarised)))
