"""Exams per second: only preparing samples, by number of workers, and whole training steps.

    python benchmarks/training_throughput.py [--recipe paper/ROW] [--workers 0 2 4] [--device cpu|cuda] [--precision fp32|bf16]
                                             [--batch N] [--steps N] [--exams N]

The exams are phantoms with the recipe's slices, prepared once and kept in memory as in training. A GPU is busy all the time if
samples are prepared faster than the steps use them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from trainer.datasets import phantoms
from trainer.recipes import find_recipe
from trainer.samples.pictures import pictures_of
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.options import RunOptions
from trainer.training.recipe import Recipe
from trainer.training.run import Run


def task_of(recipe: Recipe, exams: int) -> KeypointTask:
    read = phantoms.read(range(exams), slices=recipe.network.slices)
    pictures = [pictures_of(exam, recipe.preprocessing, 0.0) for exam in read]
    return KeypointTask(replace(recipe, phantom_share=0.0), TrainingData(pictures, [], []))


def samples_a_second(run: Run, workers: int, steps: int) -> float:
    """Exams per second through the loader, without a network; the first batch starts the workers and does not count."""
    loader = DataLoader(run.task.samples(0), batch_sampler=run.micro_batches(), num_workers=workers)
    batches = iter(loader)
    next(batches)
    began = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * run.schedule.batch / (time.perf_counter() - began)


def steps_a_second(run: Run, steps: int) -> float:
    """Exams per second in whole steps; the first two do not count."""
    batches = run.batches()
    for _ in range(2):
        run.train_step(batches)
    began = time.perf_counter()
    for _ in range(steps):
        run.train_step(batches)
    return steps * run.schedule.batch / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--exams", type=int, default=8)
    arguments = parser.parse_args()
    recipe = find_recipe(arguments.recipe)
    if not isinstance(recipe, Recipe):
        parser.error("the recipe must be one for MRI")
    recipe = replace(recipe, batch=arguments.batch or recipe.batch, epochs=10_000)
    task = task_of(recipe, arguments.exams)
    with tempfile.TemporaryDirectory() as folder:
        size = " x ".join(map(str, recipe.augmentation.size))
        print(f"{recipe.name}, crops {size}, {recipe.network.slices} slices, batch {recipe.batch}")
        for workers in arguments.workers:
            options = RunOptions(device=arguments.device, precision=arguments.precision, workers=workers)
            run = Run(task, Path(folder), seed=0, options=options)
            prepared = samples_a_second(run, workers, arguments.steps)
            trained = steps_a_second(run, arguments.steps)
            print(
                f"{workers} workers: {prepared:7.2f} exams/s prepared, {trained:7.3f} exams/s trained on {run.device}"
            )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
