"""``spineone-train results``: all figures of a model card in one run."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import torch
import typer

from spineone_core.detection.detector import Detector
from spineone_core.detection.model_package import load_package, locate
from trainer.cli.arguments import (
    DataOption,
    DeviceOption,
    SplitsOption,
    UsageError,
    check_bootstrap,
    console,
    exams_and_phantoms,
    with_centroids,
)
from trainer.cli.model import evaluate_package
from trainer.cli.refusals import NegativesOption, tally_refusals
from trainer.datasets.splits import PARTS
from trainer.evaluation.latency import measure_latency
from trainer.evaluation.results_document import render_results
from trainer.evaluation.targets import Measured


def results(
    out: Annotated[Path, typer.Option(help="Markdown file to write")],
    model: Annotated[str, typer.Option(help='model package folder, or "default"')] = "default",
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    part: Annotated[str, typer.Option(help=", ".join(PARTS))] = "test",
    negatives: NegativesOption = [],  # noqa: B006
    phantom_count: Annotated[int, typer.Option("--phantoms", help="phantoms to evaluate on as well")] = 40,
    refusal_phantoms: Annotated[int, typer.Option(help="phantoms, whole and spoiled, and test objects to refuse")] = 20,
    bootstrap: Annotated[int, typer.Option(help="samples for intervals; 0 for none")] = 1000,
    device: DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
) -> None:
    """Measure a package in every way the model card reports, targets beside results, and write it as Markdown."""
    if not data and not phantom_count:
        raise UsageError("nothing to evaluate: give --data or --phantoms")
    check_bootstrap(bootstrap)
    if threads:
        torch.set_num_threads(threads)
    package, shown_part = load_package(model), part if splits else "all"
    detector = Detector(package, device=device)
    console.print("time an exam takes", highlight=False)
    latency = measure_latency(detector)
    exams = with_centroids(exams_and_phantoms(data, splits, part, phantom_count))
    evaluation = evaluate_package(package, exams, detector.device, shown_part)
    console.print("what is refused", highlight=False)
    found = Measured(
        package=package,
        part=shown_part,
        content=evaluation.to_json(bootstrap),
        tallies=tally_refusals(detector, data, splits, part, negatives, refusal_phantoms),
        latency=latency,
        device=f"{_processor(detector.device)}, torch {torch.__version__}",
        size=sum(path.stat().st_size for path in locate(model).iterdir() if path.is_file()),
    )
    out.write_text(render_results(found), encoding="utf-8")
    console.print(f"written: {out}", highlight=False, soft_wrap=True)


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads of a CPU ({platform.machine()})"
