"""``spineone-train``: fit, evaluate, calibrate, package."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from spineone_core import metrics
from spineone_core.anatomy import Structure
from spineone_core.inference import choose_device
from spineone_core.model_package import ModelPackageError, load_package, save_package
from trainer import data_commands
from trainer.calibrate import expected_calibration_error, fit_platt, labelled_probabilities
from trainer.datasets import formats, phantoms
from trainer.datasets.exam import Exam
from trainer.datasets.splits import PARTS, SplitError, read_splits, select
from trainer.datasets.tables import DatasetError
from trainer.datasets.volume_files import MissingLibraryError
from trainer.evaluate import evaluate_network
from trainer.fit import Run, RunOptions
from trainer.keypoint_task import KeypointTask, TrainingData
from trainer.pictures import pictures_of
from trainer.recipes import RECIPES, find_recipe
from trainer.run_folder import TrainingError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train and evaluate SpineOne; see docs/training.md.",
)
app.command()(data_commands.inspect)
app.command("import")(data_commands.import_)
app.command()(data_commands.phantoms)
console = Console(stderr=True)

# Phantoms for validation and tests come from seeds that training never sees.
EVALUATION_SEED = 1_000_000

DataOption = Annotated[
    list[str],
    typer.Option(
        "--data", help=f"folder, or FORMAT:FOLDER ({', '.join(formats.TWO_DIMENSIONAL)}); may be given several times"
    ),
]
SplitsOption = Annotated[
    Path | None, typer.Option(help="JSON: lists of PatientID by part; without it all exams are used")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cuda, cuda:N or cpu")]


class UsageError(Exception):
    """Wrong arguments: exit code 2."""


def read_exams(sources: list[str]) -> list[Exam]:
    """All exams of all data sets; what cannot be used is printed with its reason."""
    exams: list[Exam] = []
    for source in sources:
        found, skipped = formats.split_skipped(formats.read(source))
        exams += found
        for item in skipped:
            console.print(f"left out: {item.exam_id}: {item.why}", highlight=False, soft_wrap=True)
    if sources and not exams:
        raise UsageError(f"no annotated exam in {', '.join(sources)}")
    odd = sum(bool(exam.notes) for exam in exams)
    if odd:
        console.print(f"{odd} of {len(exams)} exams have odd annotations or files: see spineone-train inspect")
    return exams


def with_centroids(exams: list[Exam]) -> list[Exam]:
    """Exams to train and calibrate on; how many only say which level is which is printed."""
    kept = [exam for exam in exams if exam.centroids]
    if len(kept) < len(exams):
        console.print(f"left out: {len(exams) - len(kept)} exams whose points mark levels but are no centroids")
    return kept


def choose_part(exams: list[Exam], splits: Path | None, part: str) -> list[Exam]:
    return exams if splits is None else list(select(exams, read_splits(splits), part))


def choose_filled_part(exams: list[Exam], splits: Path | None, part: str) -> list[Exam]:
    """The same where an empty part leaves nothing to do."""
    chosen = choose_part(exams, splits, part)
    if exams and not chosen:
        raise UsageError(f"{splits}: none of the {len(exams)} exams belongs to the part {part}")
    return chosen


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="run folder")],
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    recipe: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}, paper/ROW or stable/ROW")] = "shipped",
    phantom_count: Annotated[int, typer.Option("--phantoms", help="procedural phantoms to train on")] = 0,
    phantom_slices: Annotated[int, typer.Option(help="slices to render of each phantom")] = 3,
    epochs: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    seed: int = 0,
    device: DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    micro_batches: Annotated[int, typer.Option(help="parts of a batch, one after the other: saves memory")] = 1,
    workers: Annotated[int, typer.Option(help="processes that prepare samples")] = 0,
    backbone: Annotated[Path | None, typer.Option(help="torchvision's ImageNet weights: a local file")] = None,
    validate_every: Annotated[int, typer.Option(help="epochs between validations")] = 10,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    init: Annotated[str | None, typer.Option(help='model package (or "default") whose weights to begin with')] = None,
) -> None:
    """Train a detector; kill it at any moment and go on with --resume. Under torchrun on all its processes together."""
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
    exams = with_centroids(read_exams(data))
    training = choose_part(exams, splits, "train")
    validation = choose_part(exams, splits, "validation") if splits else training
    invented = list(phantoms.read(range(phantom_count), slices=phantom_slices))
    if not training and not invented:
        raise UsageError("nothing to train on: give --data or --phantoms")
    if not invented:
        chosen = replace(chosen, phantom_share=0.0)
    if not validation:
        validation = list(phantoms.read(range(EVALUATION_SEED, EVALUATION_SEED + 10), slices=phantom_slices))
    reach = chosen.slice_reach_mm
    prepared = TrainingData(
        real=[pictures_of(e, chosen.preprocessing, reach) for e in training],
        phantoms=[pictures_of(e, chosen.preprocessing, reach) for e in invented],
        validation=validation,
    )
    run = Run(KeypointTask(chosen, prepared), out, seed=seed, options=options)
    if init is not None:
        run.begin_with(load_package(init).network)
    run.fit(validate_every=validate_every, resume=resume)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help='model package folder, or "default"')] = "default",
    data: DataOption = [],  # noqa: B006
    splits: SplitsOption = None,
    part: Annotated[str, typer.Option(help=", ".join(PARTS))] = "test",
    phantom_count: Annotated[int, typer.Option("--phantoms", help="procedural phantoms to evaluate on as well")] = 0,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of tables")] = False,
) -> None:
    """Measure a model package on exams it was not trained on."""
    package = load_package(model)
    network, where = package.network, choose_device(device)
    network.to(where)
    exams = choose_filled_part(read_exams(data), splits, part)
    subsets: dict[str, list[Exam]] = {}
    for exam in exams:
        subsets.setdefault(exam.subset, []).append(exam)
    if phantom_count:
        subsets["phantom"] = list(phantoms.read(range(EVALUATION_SEED, EVALUATION_SEED + phantom_count)))
    if not subsets:
        raise UsageError("nothing to evaluate: give --data or --phantoms")
    outcomes = {name: evaluate_network(network, package.manifest, group, where) for name, group in subsets.items()}
    real = [o for name, group in outcomes.items() if name != "phantom" for o in group]
    if len(subsets) - ("phantom" in subsets) > 1:
        outcomes["all real"] = real
    results = {name: _figures(group) for name, group in outcomes.items()}
    if as_json:
        print(json.dumps({"model": package.identity.to_json(), "part": part if splits else None, "figures": results}))
        return
    _print_figures(results, f"{package.identity.name} {package.identity.version}, part: {part if splits else 'all'}")
    _print_failures(outcomes)


def _figures(outcomes: list[metrics.Outcome]) -> dict[str, float | int]:
    figures = metrics.summary(outcomes)
    for structure in Structure:
        figures[f"{structure}_ece"] = expected_calibration_error(*labelled_probabilities(outcomes, structure))
    return figures


def _print_figures(results: dict[str, dict[str, float | int]], title: str) -> None:
    table = Table("figure", *results, title=title)
    for name in next(iter(results.values())):
        cells = [f"{r[name]:.3f}" if isinstance(r[name], float) else str(r[name]) for r in results.values()]
        table.add_row(name, *cells)
    Console().print(table)


def _print_failures(outcomes: dict[str, list[metrics.Outcome]]) -> None:
    """Every exam that is not all right, with its worst levels."""
    seen = set()
    for group in outcomes.values():
        for outcome in group:
            far = {level: e for level, e in metrics.errors_by_level(outcome).items() if e > metrics.HIT_MM}
            if outcome.exam_id in seen or not far:
                continue
            seen.add(outcome.exam_id)
            bad = [f"{level} {error:.0f} mm" for level, error in far.items()]
            print(f"{outcome.exam_id}: {'refused' if outcome.predicted is None else ', '.join(bad)}")


@app.command()
def calibrate(
    model: Annotated[str, typer.Option(help="model package folder")],
    out: Annotated[Path, typer.Option(help="folder of the calibrated package")],
    data: DataOption,
    splits: SplitsOption = None,
    part: Annotated[str, typer.Option(help=", ".join(PARTS))] = "calibration",
    device: DeviceOption = "auto",
) -> None:
    """Fit Platt scaling on exams kept for it and write a new package."""
    package = load_package(model)
    raw = replace(package.manifest, calibration={})
    where = choose_device(device)
    exams = choose_filled_part(with_centroids(read_exams(data)), splits, part)
    outcomes = evaluate_network(package.network.to(where), raw, exams, where)
    scaled = {s.value: fit_platt(*labelled_probabilities(outcomes, s)) for s in Structure}
    identity = save_package(out, package.network, replace(raw, calibration=scaled))
    print(f"{out}: {scaled}; digest {identity.digest}")


@app.command()
def package(
    model: Annotated[str, typer.Option(help="package of a run (its best/ folder)")],
    out: Annotated[Path, typer.Option(help="folder of the new package")],
    name: Annotated[str | None, typer.Option(help="new name")] = None,
    version: Annotated[str | None, typer.Option(help="new version")] = None,
    figures: Annotated[Path | None, typer.Option(help="JSON of evaluate --json, kept in the manifest")] = None,
) -> None:
    """Name and version a package and put its figures into the manifest."""
    source = load_package(model)
    manifest = source.manifest
    manifest = replace(manifest, name=name or manifest.name, version=version or manifest.version)
    if figures:
        manifest = replace(manifest, figures=json.loads(figures.read_text(encoding="utf-8")))
    identity = save_package(out, source.network, manifest)
    print(f"{out}: {identity.name} {identity.version}, digest {identity.digest}")


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 bad usage."""
    try:
        app(standalone_mode=True)
    except (UsageError, SplitError, DatasetError, MissingLibraryError, FileNotFoundError, ModelPackageError) as error:
        console.print(f"spineone-train: {error}", highlight=False)
        sys.exit(2)
    except TrainingError as error:
        console.print(f"spineone-train: {error}", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
