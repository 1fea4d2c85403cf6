"""``spineone-train fit``."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

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
    stream_exams,
    with_centroids,
)
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.datasets.splits import read_splits, select
from trainer.recipes import RECIPES, find_recipe
from trainer.samples.augmentation import Picture
from trainer.samples.pictures import pictures_of
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.recipe import Recipe
from trainer.training.run import Run, RunOptions
from trainer.training.task import Task
from trainer.volumes import ct_phantoms
from trainer.volumes.recipe import VolumeRecipe
from trainer.volumes.scans import read_scans
from trainer.volumes.task import VolumeTask


def fit(
    out: Annotated[Path, typer.Option(help="run folder")],
    data: DataOption = [],  # noqa: B006
    annotations: AnnotationsOption = None,
    splits: SplitsOption = None,
    recipe: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}, paper/ROW or stable/ROW")] = "shipped",
    phantom_count: Annotated[int, typer.Option("--phantoms", help="procedural phantoms to train on")] = 0,
    phantom_slices: Annotated[int, typer.Option(help="slices to render for each phantom")] = 3,
    epochs: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="instead of the recipe's")] = None,
    seed: int = 0,
    device: DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    micro_batches: Annotated[int, typer.Option(help="parts that a batch is computed in, to save memory")] = 1,
    workers: Annotated[int, typer.Option(help="processes that prepare samples")] = 0,
    backbone: Annotated[Path | None, typer.Option(help="torchvision's ImageNet weights: a local file")] = None,
    validate_every: Annotated[int, typer.Option(help="epochs between validations")] = 10,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in --out")] = False,
    init: Annotated[str | None, typer.Option(help='model package (or "default") whose weights to begin with')] = None,
) -> None:
    """Train a detector. It may be killed at any moment and continued with --resume. Under torchrun all processes share it."""
    try:
        chosen = find_recipe(recipe)
        options = RunOptions(
            device=device, precision=precision, micro_batches=micro_batches, workers=workers, backbone=backbone
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if threads:
        torch.set_num_threads(threads)
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    if learning_rate is not None:
        chosen = replace(chosen, learning_rate=learning_rate)
    task: Task
    if isinstance(chosen, VolumeRecipe):
        task = volume_task(chosen, data, phantom_count)
    else:
        task = keypoint_task(chosen, data, splits, phantom_count, phantom_slices, annotations)
    run = Run(task, out, seed=seed, options=options)
    if init is not None:
        run.begin_with(load_package(init).network)
    run.fit(validate_every=validate_every, resume=resume)


def volume_task(recipe: VolumeRecipe, data: list[str], phantom_count: int) -> VolumeTask:
    """The training scans of CT data sets, and CT phantoms."""
    task = VolumeTask(recipe, chain(read_scans(data, "train"), ct_phantoms.read(range(phantom_count))))
    if not task.volumes:
        raise UsageError("nothing to train on: give --data with CT scans, or --phantoms")
    return task


def keypoint_task(
    chosen: Recipe,
    data: list[str],
    splits: Path | None,
    phantom_count: int,
    phantom_slices: int,
    annotations: Path | None = None,
) -> KeypointTask:
    """The training exams of MRI data sets, and phantoms. Phantoms also validate if there is no exam for that."""
    part_of, reach = read_splits(splits) if splits else None, chosen.slice_reach_mm
    real: list[list[Picture]] = []
    validation: list[Exam] = []
    # Only the pictures of a training exam stay in memory. Without a split file, all exams both train and validate.
    for exam in with_centroids(stream_exams(data, annotations=annotations)):
        if part_of is None or select([exam], part_of, "train"):
            real.append(pictures_of(exam, chosen.preprocessing, reach))
        if part_of is None or select([exam], part_of, "validation"):
            validation.append(exam)
    patients = PhantomConfig(lumbarised=chosen.lumbarised)
    invented = list(phantoms.read(range(phantom_count), slices=phantom_slices, config=patients))
    if not real and not invented:
        raise UsageError("nothing to train on: give --data or --phantoms")
    if not invented:
        chosen = replace(chosen, phantom_share=0.0)
    if not validation:
        validation = list(phantoms.read(range(EVALUATION_SEED, EVALUATION_SEED + 10), slices=phantom_slices))
    prepared = TrainingData(
        real=real,
        phantoms=[pictures_of(e, chosen.preprocessing, reach) for e in invented],
        validation=validation,
    )
    return KeypointTask(chosen, prepared)
