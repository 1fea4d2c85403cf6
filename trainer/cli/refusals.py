"""``spineone-train domain`` and ``refusals``: the check that refuses foreign pictures, and how well the detector refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from spineone_core.detection.detector import Detector
from spineone_core.detection.model_package import load_package, save_package
from trainer.cli.arguments import (
    EVALUATION_SEED,
    DataOption,
    DeviceOption,
    SplitsOption,
    UsageError,
    console,
    exams_and_phantoms,
    stream_exams,
    with_centroids,
)
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.datasets.negatives import Negative, series_in
from trainer.datasets.splits import PARTS, read_splits
from trainer.evaluation.refusals import Tally, count_refusals, trials
from trainer.training.domain_check import BATCH, domain_data, fit_domain, with_limit

# The limit is set on phantoms that are used neither for training nor for measuring.
LIMIT_SEED = 2 * EVALUATION_SEED

NegativesOption = Annotated[
    list[Path],
    typer.Option("--negatives", help="folder of DICOM series that must be refused; may be given several times"),
]


def read_negatives(folders: list[Path]) -> list[Negative]:
    """All series under the folders."""
    found = [negative for folder in folders for negative in series_in(folder)]
    if folders and not found:
        raise UsageError(f"no series that can be read in {', '.join(map(str, folders))}")
    return found


def of_part(negatives: list[Negative], splits: Path | None, part: str) -> list[Negative]:
    """The negatives of a part's patients; patients that are in no part count as ``test``."""
    part_of = {} if splits is None else read_splits(splits)
    return [n for n in negatives if splits is None or part_of.get(n.patient, "test") == part]


def domain(
    model: Annotated[str, typer.Option(help="model package folder")],
    out: Annotated[Path, typer.Option(help="folder of the package with a domain check")],
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    negatives: NegativesOption = [],  # noqa: B006
    phantom_count: Annotated[int, typer.Option("--phantoms", help="phantoms of each contrast to train on")] = 200,
    steps: Annotated[int, typer.Option(help="0 keeps the package's check and sets its limit anew")] = 1500,
    further: Annotated[
        bool, typer.Option("--further", help="begin with the package's check, and keep it beside the new one")
    ] = False,
    seed: int = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
) -> None:
    """Train the domain check, which refuses what is not a sagittal T2 lumbar MRI, and write a new package."""
    if phantom_count < 1:
        raise UsageError(f"--phantoms {phantom_count}: at least 1")
    if threads:
        torch.set_num_threads(threads)
    package = load_package(model)
    preprocessing, training = package.manifest.preprocessing, dict(package.manifest.training)
    network, foreign = package.domain, read_negatives(negatives)
    begin = network if further else None
    if further and not begin:
        raise UsageError(f"{model} has no domain check to begin with")
    if steps:
        exams = list(with_centroids(stream_exams(data, splits, "train")))
        series = of_part(foreign, splits, "train")
        prepared, started = domain_data(package, exams, series, phantom_count), time.monotonic()
        training["domain"] = {
            "steps": steps,
            "batch": BATCH,
            "seed": seed,
            "real_exams": len(exams),
            "series": len(series),
            "phantoms": phantom_count,
            "data_sha256": prepared.fingerprint(),
            "begun_with": package.identity.digest if begin else None,
        }
        network = fit_domain(prepared, preprocessing.spacing_mm, begin=begin, steps=steps, seed=seed, log=console.print)
        training["domain"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    if network is None:
        raise UsageError(f"{model} has no domain check to keep; give --steps")
    real = stream_exams(data, splits, "validation") if splits else []
    unseen = chain(real, _phantoms(LIMIT_SEED, 20))
    network = with_limit(network, unseen, of_part(foreign, splits, "validation"), preprocessing)
    manifest = replace(package.manifest, training=training)
    identity = save_package(out, package.network, manifest, domain=network, grading=package.grading)
    print(f"{out}: limit {network.config.limit}; digest {identity.digest}")


def _phantoms(seed: int, count: int) -> Iterator[Exam]:
    return phantoms.read(range(seed, seed + count))


def refusals(
    model: Annotated[str, typer.Option(help='model package folder, or "default"')] = "default",
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    part: Annotated[str, typer.Option(help=", ".join(PARTS))] = "test",
    negatives: NegativesOption = [],  # noqa: B006
    phantom_count: Annotated[
        int, typer.Option("--phantoms", help="phantoms, whole and spoiled, and test objects")
    ] = 20,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of a table")] = False,
) -> None:
    """Count what the detector refuses past series selection: good exams, spoiled ones, test objects, other series."""
    if not data and not phantom_count:
        raise UsageError("nothing to measure: give --data or --phantoms")
    package = load_package(model)
    tallies = tally_refusals(Detector(package, device=device), data, splits, part, negatives, phantom_count)
    shown_part = part if splits else "all"
    if as_json:
        result = {kind: {"reasons": dict(t.reasons), "analysed": t.analysed} for kind, t in tallies.items()}
        print(json.dumps({"model": package.identity.to_json(), "part": shown_part, "refusals": result}))
        return
    _print(tallies, f"{package.identity.name} {package.identity.version}, part: {shown_part}")


def tally_refusals(
    detector: Detector, data: list[str], splits: Path | None, part: str, negatives: list[Path], phantom_count: int
) -> dict[str, Tally]:
    """What the detector refuses among a part's exams, phantoms, test objects and other series."""
    good = exams_and_phantoms(data, splits, part, phantom_count)
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + phantom_count)
    return count_refusals(detector, trials(good, of_part(read_negatives(negatives), splits, part), seeds))


def _print(tallies: dict[str, Tally], title: str) -> None:
    table = Table("input", "number", "refused", "analysed", "reasons", title=title)
    for kind, tally in tallies.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in tally.reasons.most_common())
        table.add_row(kind, str(tally.count), str(tally.reasons.total()), str(len(tally.analysed)), reasons)
    Console().print(table)
