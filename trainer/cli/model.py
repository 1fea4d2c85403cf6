"""``spineone-train evaluate``, ``calibrate`` and ``package``: the commands for finished models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from spineone_core import strict_json
from spineone_core.anatomy import Structure
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.devices import choose_device, place_network
from spineone_core.detection.model_package import Manifest, ModelPackage, load_package, save_package
from spineone_core.detection.views import InferenceOptions, parse_scales
from spineone_core.network.exported import (
    ONNX,
    TORCH_EXPORT,
    ExportError,
    check_onnx,
    export,
    onnx_bytes,
    torch_export_bytes,
)
from spineone_core.network.spineone import SpineOne
from trainer.cli.arguments import (
    EVALUATION_SEED,
    AnnotationsOption,
    DataOption,
    DeviceOption,
    SplitsOption,
    UsageError,
    check_bootstrap,
    console,
    counted,
    exams_and_phantoms,
    stream_exams,
    with_centroids,
)
from trainer.datasets.exam import Exam
from trainer.datasets.splits import PARTS
from trainer.evaluation import metrics
from trainer.evaluation.calibration import METHODS, calibration_of
from trainer.evaluation.evaluation import Case, Evaluation
from trainer.evaluation.evaluation_page import rows_of
from trainer.evaluation.model_card import model_card
from trainer.evaluation.outcomes import outcome_of, outcomes_of
from trainer.training.overlap import Overlap
from trainer.volumes import ct_phantoms
from trainer.volumes.evaluation import evaluate_volumes, volume_figures
from trainer.volumes.package import is_volume_package, load_volume_package
from trainer.volumes.scans import read_scans


def evaluate(
    model: Annotated[str, typer.Option(help='model package folder, or "default"')] = "default",
    data: DataOption = [],  # noqa: B006
    annotations: AnnotationsOption = None,
    splits: SplitsOption = None,
    part: Annotated[str, typer.Option(help=", ".join(PARTS))] = "test",
    phantom_count: Annotated[int, typer.Option("--phantoms", help="procedural phantoms to evaluate on as well")] = 0,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of tables")] = False,
    report: Annotated[Path | None, typer.Option(help="folder for evaluation.html and evaluation.json")] = None,
    bootstrap: Annotated[int, typer.Option(help="samples for the report's intervals; 0 for none")] = 1000,
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    flips: Annotated[bool, typer.Option("--flips", help="analyse the mirrored picture as well, and average")] = False,
    scales: Annotated[str, typer.Option(help="sizes to analyse and average, such as 0.9,1,1.1")] = "1",
) -> None:
    """Measure a model package on exams it was not trained on; a package of the 3-D variant on the test part of CT data."""
    if is_volume_package(model):
        _evaluate_scans(model, data, phantom_count, device, as_json)
        return
    if not data and not phantom_count:
        raise UsageError("nothing to evaluate: give --data or --phantoms")
    check_bootstrap(bootstrap)
    try:
        options = InferenceOptions(precision=precision, flips=flips, scales=parse_scales(scales))
    except ValueError as error:
        raise UsageError(str(error)) from error
    package, where = load_package(model), choose_device(device)
    overlap = Overlap(package.manifest.training)
    exams = overlap.watch(exams_and_phantoms(data, splits, part, phantom_count, annotations))
    evaluation = evaluate_package(package, exams, where, part if splits else "all", options)
    for line in overlap.warnings():
        console.print(f"warning: {line}", highlight=False, soft_wrap=True, markup=False)
    if report is not None:
        evaluation.write(report, bootstrap, [f"Model digest {package.identity.digest}.", *overlap.warnings()])
        console.print(f"written: {report / 'evaluation.html'}", highlight=False, soft_wrap=True)
    if as_json:
        head = {"model": package.identity.to_json(), "part": part if splits else None, "overlap": overlap.to_json()}
        print(strict_json.dumps({**head, "figures": evaluation.figures()}))
        return
    _print_figures(evaluation)
    _print_failures(evaluation.cases)


def evaluate_package(
    package: ModelPackage,
    exams: Iterable[Exam],
    where: torch.device,
    part: str,
    options: InferenceOptions | None = None,
) -> Evaluation:
    """The outcomes of a package on exams; ``part`` is only for the title."""
    network = place_network(package.network, where)
    grading = {structure: ensemble.to(where) for structure, ensemble in package.grading.items()}
    evaluation = Evaluation(package.manifest, f"{package.identity.name} {package.identity.version}, part: {part}")
    for exam in counted(exams, "evaluated"):
        outcome = outcome_of(network, package.manifest, exam, where, package.domain, grading=grading, options=options)
        evaluation.add(exam, outcome)
    return evaluation


def _evaluate_scans(model: str, data: list[str], phantom_count: int, device: str, as_json: bool) -> None:
    """Print the detection rates of the 3-D variant (Table V)."""
    manifest, network = load_volume_package(model)
    where = choose_device(device)
    invented = ct_phantoms.read(range(EVALUATION_SEED, EVALUATION_SEED + phantom_count), part="test")
    outcomes = evaluate_volumes(network.to(where), manifest, chain(read_scans(data, "test"), invented), where)
    if not outcomes:
        raise UsageError("nothing to evaluate: give --data with CT scans of a test part, or --phantoms")
    figures = volume_figures(outcomes)
    if as_json:
        print(strict_json.dumps({"model": {"name": manifest.name}, "part": "test", "figures": figures}))
        return
    table = Table("figure", "test", title=manifest.name)
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


def _print_figures(evaluation: Evaluation) -> None:
    groups = evaluation.figures()
    table = Table("figure", *groups, title=evaluation.title)
    for row in rows_of(groups):
        table.add_row(*row)
    Console().print(table)


def _print_failures(cases: list[Case]) -> None:
    """Print every exam with a level that is refused or off, and by how much."""
    for case in cases:
        far = {level: e for level, e in metrics.errors_by_level(case.outcome).items() if e > metrics.HIT_MM}
        if far and case.centroids:
            bad = [f"{level} {error:.0f} mm" for level, error in far.items()]
            refused = case.outcome.predicted is None
            print(f"{case.outcome.exam_id}: {f'refused: {case.outcome.refusal}' if refused else ', '.join(bad)}")


def calibrate(
    model: Annotated[str, typer.Option(help="model package folder")],
    out: Annotated[Path, typer.Option(help="folder of the calibrated package")],
    data: DataOption,
    annotations: AnnotationsOption = None,
    splits: SplitsOption = None,
    part: Annotated[str, typer.Option(help=", ".join(PARTS))] = "calibration",
    method: Annotated[str, typer.Option(help=", ".join(METHODS))] = "temperature",
    error_rate: Annotated[
        float, typer.Option(help="share of a class that may be called the other; decides the undecided band")
    ] = 0.1,
    device: DeviceOption = "auto",
) -> None:
    """Scale the class probabilities and set the undecided band on exams kept for it; writes a new package."""
    if method not in METHODS or not 0 < error_rate < 0.5:
        raise UsageError(f"--method {method}, --error-rate {error_rate}: allowed are {', '.join(METHODS)}; 0 to 0.5")
    package, where = load_package(model), choose_device(device)
    # What the grading networks say beside the class keeps its calibration.
    kept = {k: c for k, c in package.manifest.calibration.items() if k not in [s.value for s in Structure]}
    raw = replace(package.manifest, calibration=kept)
    exams = list(with_centroids(stream_exams(data, splits, part, annotations)))
    grading = {structure: ensemble.to(where) for structure, ensemble in package.grading.items()}
    outcomes = outcomes_of(place_network(package.network, where), raw, exams, where, grading=grading)
    found: dict[str, Calibration] = {}
    for structure in Structure:
        found[structure.value] = calibration_of(outcomes, structure, method=method, error_rate=error_rate)
        print(_calibration_line(structure, found[structure.value], len(exams)))
    identity = save_package(
        out, package.network, replace(raw, calibration=kept | found), domain=package.domain, grading=package.grading
    )
    print(f"{out}: digest {identity.digest}")


def _calibration_line(structure: Structure, calibration: Calibration, exams: int) -> str:
    assert calibration.undecided is not None
    low, high = calibration.undecided
    return (
        f"{structure.value}: logit x {calibration.slope:g} + {calibration.intercept:g}; undecided from {low:g} to {high:g} "
        f"(error rate {calibration.error_rate:g}, {exams} exams)"
    )


def package(
    model: Annotated[str, typer.Option(help="package of a run (its best/ folder), or calibrated")],
    out: Annotated[Path, typer.Option(help="folder of the new package")],
    name: Annotated[str | None, typer.Option(help="new name")] = None,
    version: Annotated[str | None, typer.Option(help="new version")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="JSON file written by evaluate --json, kept in manifest and card")
    ] = None,
    training_data: Annotated[
        str | None, typer.Option(help="in words: what it was trained on, with the licences")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="licence of the weights")] = None,
    domain_of: Annotated[str | None, typer.Option(help="package whose domain check to take over")] = None,
    limits: Annotated[Path | None, typer.Option(help="Markdown for the card: what the model cannot do")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="also the network as network.onnx, for onnxruntime")] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="also the network as network.pt2, for torch.export.load")
    ] = False,
) -> None:
    """Give a model the form that the node takes: with a name, figures, licence and model card."""
    source = load_package(model)
    manifest = _released(source.manifest, name, version, training_data, licence, figures)
    text = _read_text(limits) if limits else ""
    exports = _exports(source.network, onnx, torch_export)
    identity = save_package(
        out,
        source.network,
        manifest,
        domain=source.domain if domain_of is None else load_package(domain_of).domain,
        grading=source.grading,
        write_card=lambda m, sha256: model_card(m, sha256, limits=text),
        exports=exports,
    )
    load_package(out, released=True)
    print(f"{out}: {identity.name} {identity.version}, digest {identity.digest}")


def _exports(network: SpineOne, onnx: bool, torch_export: bool) -> dict[str, bytes]:
    """The asked-for files of the network for other programs; the ONNX model has been run beside the network."""
    found: dict[str, bytes] = {}
    try:
        program = export(network) if onnx or torch_export else None
        if program is not None and torch_export:
            found[TORCH_EXPORT] = torch_export_bytes(program)
        if program is not None and onnx:
            found[ONNX] = onnx_bytes(program, network.config)
            console.print(
                f"{ONNX}: maps within {check_onnx(network, found[ONNX]):.1g} of the network's", highlight=False
            )
    except ExportError as error:
        raise UsageError(str(error)) from error
    return found


def _released(
    manifest: Manifest,
    name: str | None,
    version: str | None,
    training_data: str | None,
    licence: str | None,
    figures: Path | None,
) -> Manifest:
    """The manifest with what was given; raises UsageError that names everything still missing."""
    training = {**manifest.training, "data": training_data} if training_data else manifest.training
    complete = replace(
        manifest,
        name=name or manifest.name,
        version=version or manifest.version,
        training=training,
        licence=licence or manifest.licence,
        figures=_read_figures(figures) if figures else manifest.figures,
    )
    present = {
        "--training-data": complete.training.get("data"),
        "--licence": complete.licence,
        "--figures": complete.figures,
    }
    missing = [option for option, value in present.items() if not value]
    if missing:
        raise UsageError(f"a released model needs {', '.join(missing)}")
    return complete


def _read_figures(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not a JSON object like that of evaluate --json")
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
