"""``spineone-train reproduce``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import typer

from spineone_core.network.rows import distinct_rows
from trainer.cli.arguments import AnnotationsOption, DataOption, DeviceOption, UsageError
from trainer.recipes import PRESETS
from trainer.reproduce.budget import Budget
from trainer.reproduce.nightly import nightly
from trainer.reproduce.reproduction import ITEMS, read_exam_set, smoke_set
from trainer.reproduce.reproduction import reproduce as run_reproduction
from trainer.reproduce.trainings import backbone_of
from trainer.training.options import RunOptions


def reproduce(
    items: Annotated[
        list[str],
        typer.Argument(help=f"all, some of {', '.join(ITEMS)}, or nightly: each mechanism on phantoms, half an hour"),
    ],
    out: Annotated[Path, typer.Option(help="folder of the reports; the trainings lie in its runs/")] = Path(
        "reproduction"
    ),
    data: DataOption = [],  # noqa: B006
    annotations: AnnotationsOption = None,
    name: Annotated[str, typer.Option(help="what the titles call the data, before the names of its folders")] = "",
    ct_data: Annotated[list[str], typer.Option(help="folder in the CSI 2014 layout, for table5")] = [],  # noqa: B006
    splits: Annotated[
        Path | None, typer.Option(help="JSON: PatientIDs by part; without it 400 to 150 by --seed")
    ] = None,
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = "paper",
    epochs: Annotated[int, typer.Option(help="epochs of each training")] = 300,
    subset: Annotated[int | None, typer.Option(help="keep only this many exams of each part")] = None,
    width: Annotated[int, typer.Option(help="width of the networks' first stage; smaller is quicker")] = 64,
    spacing: Annotated[float, typer.Option(help="size of a pixel in mm; larger is quicker")] = 0.4375,
    batch: Annotated[int | None, typer.Option(help="instead of the preset's")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="instead of the preset's")] = None,
    rows: Annotated[str, typer.Option(help="only rows of the tables whose name holds this text")] = "",
    seed: int = 0,
    device: DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    micro_batches: Annotated[int, typer.Option(help="parts that a batch is computed in, to save memory")] = 1,
    workers: Annotated[int, typer.Option(help="processes that prepare samples")] = 0,
    backbone: Annotated[
        list[Path],
        typer.Option(
            help="torchvision's ImageNet weights, for every row whose trunk they fit; may be given several times"
        ),
    ] = [],  # noqa: B006
    smoke: Annotated[
        bool, typer.Option("--smoke", help="phantoms, tiny networks, two epochs: a check that everything runs")
    ] = False,
) -> None:
    """Tables and figures of the paper, with its numbers beside ours. Trains what is missing; if killed, run it again."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "reproduce is one process; give each GPU rows of its own (--rows, --device cuda:N), see docs/training.md"
        )
    if items == ["nightly"]:
        _nightly(out, device, threads, seed)
        return
    names = list(ITEMS) if items == ["all"] else items
    unknown = sorted(set(names) - set(ITEMS))
    if unknown:
        raise UsageError(f"unknown {', '.join(unknown)}; allowed: all, {', '.join(ITEMS)}")
    if threads:
        torch.set_num_threads(threads)
    try:
        options = RunOptions(device=device, precision=precision, micro_batches=micro_batches, workers=workers)
        budget = (
            Budget.smoke()
            if smoke
            else Budget(
                preset=preset,
                epochs=epochs,
                subset=subset,
                width=width,
                spacing_mm=spacing,
                batch=batch,
                learning_rate=learning_rate,
            )
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not smoke and not data and names != ["table5"]:
        raise UsageError("nothing to train on: give --data, or --smoke")
    exams = smoke_set() if smoke else read_exam_set(data, ct_data, splits, budget, seed, name, annotations)
    for path in backbone:
        recipes = (budget.recipe(row, len(exams.training)) for row in distinct_rows())
        if not any(backbone_of(recipe, [path]) for recipe in recipes):
            raise UsageError(f"--backbone {path}: fits the trunk of no detector at --width {budget.width}")
    run_reproduction(names, exams, budget, seed, out, options, rows, backbone)


def _nightly(out: Path, device: str, threads: int | None, seed: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    for path in nightly(out, RunOptions(device=device), seed):
        print(path)
