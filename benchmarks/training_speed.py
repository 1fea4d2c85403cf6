"""Training speed: samples a second of the loader alone for each core, steps a second, and both against another version.

    python benchmarks/training_speed.py [--recipe paper/ROW] [--against DIR] [--rounds 3] [--batch N] [--steps N]
                                        [--device cpu|cuda] [--precision fp32|bf16] [--workers N] [--small]

``--against`` names a checkout of another version (``git worktree add DIR COMMIT``). Both are measured in turn, each in a process
of its own, ``--rounds`` times; medians and the median of the paired ratios are printed. The exams are phantoms, prepared once and
kept in memory as in training. The loader is measured in one process with one thread, by processor time, so that other work on
the machine does not count: a figure for one core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def measure(options: argparse.Namespace) -> dict[str, float]:
    """The figures of the version that is imported."""
    import torch

    from trainer.datasets import phantoms
    from trainer.recipes import find_recipe
    from trainer.samples.pictures import pictures_of
    from trainer.training.keypoint_task import KeypointTask, TrainingData
    from trainer.training.options import RunOptions
    from trainer.training.run import Run

    recipe = find_recipe(options.recipe)
    recipe = replace(recipe, batch=options.batch or recipe.batch, epochs=10_000, phantom_share=0.0)
    if options.small:
        network = replace(recipe.network, backbone="resnet18", width=8, decoder_channels=16, feature_channels=16)
        recipe = replace(recipe, network=network)
    exams = phantoms.read(range(options.exams), slices=recipe.network.slices)
    pictures = [pictures_of(exam, recipe.preprocessing, 0.0) for exam in exams]
    task = KeypointTask(recipe, TrainingData(pictures * recipe.batch, [], []))
    torch.set_num_threads(1)
    samples = task.samples(0)
    samples[0]
    began = time.process_time()
    bytes_ = [sum(v.nbytes for v in samples[n].values()) for n in range(1, options.samples + 1)]
    loaded = options.samples / (time.process_time() - began)
    torch.set_num_threads(options.threads)
    found = {"loader, samples/s of one core": loaded, "MB a sample": statistics.mean(bytes_) / 1e6}
    if options.steps:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(
                task,
                Path(folder),
                seed=0,
                options=RunOptions(device=options.device, precision=options.precision, workers=options.workers),
            )
            batches = run.batches()
            run.train_step(batches)
            began = time.perf_counter()
            for _ in range(options.steps):
                terms = run.train_step(batches)
            float(next(iter(terms.values())))  # waits for a GPU
            found["steps/s"] = options.steps / (time.perf_counter() - began)
    return found


def in_child(tree: Path, arguments: list[str]) -> dict[str, float]:
    """The figures of the version in a folder."""
    command = [sys.executable, __file__, "--child", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> str:
    """Medians, and the median of the ratios of runs that followed each other."""
    lines = ["| figure | this version | other version | ratio |", "| --- | --- | --- | --- |"]
    for name in ours[0]:
        here = [round_[name] for round_ in ours]
        there = [round_[name] for round_ in theirs]
        ratio = statistics.median(a / b for a, b in zip(here, there, strict=True)) if there else None
        other = f"{statistics.median(there):.3g}" if there else "-"
        lines.append(
            f"| {name} | {statistics.median(here):.3g} | {other} | {'-' if ratio is None else f'{ratio:.2f}'} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--small", action="store_true", help="the recipe's pictures with a tiny network")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=4, help="0: the loader only")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--exams", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    if options.child:
        print(json.dumps(measure(options)))
        return
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(options.rounds):
        if options.against:
            theirs.append(in_child(options.against.resolve(), given))
        ours.append(in_child(ROOT, given))
    print(f"recipe {options.recipe}, {options.rounds} rounds in turn, {options.threads} threads, {options.device}")
    print(table(ours, theirs))


if __name__ == "__main__":
    main()
