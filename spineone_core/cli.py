"""``spineone``: the detector alone, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from spineone_core.detection.detector import Detector, StudyReading
from spineone_core.detection.devices import DeviceError
from spineone_core.detection.model_package import ModelPackageError, load_onnx_package
from spineone_core.detection.views import InferenceOptions, parse_scales
from spineone_core.drawing.overlay import render_overlay
from spineone_core.drawing.slices import png_bytes
from spineone_core.findings import Detection
from spineone_core.imaging.files import files_by_study
from spineone_core.network.build import build_network, count_parameters
from spineone_core.network.config import NetworkConfig
from spineone_core.network.published import PUBLISHED, as_published
from spineone_core.network.rows import BUILDERS
from spineone_core.network.two_stage import TwoStage
from spineone_core.version import add_version_option

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="SpineOne detector, offline. Research use only.",
)
add_version_option(app, "spineone")
messages = Console(stderr=True, highlight=False)
# A wide table may wrap on a narrow terminal, but it must not be cut off.
TABLE_WIDTH = 100


@app.command()
def detect(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders; several studies at once are fine")],
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object per study, each on a line, as in findings.json")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="folder for a picture of each study")] = None,
    model: Annotated[str, typer.Option(help='model package folder, or "default"')] = "default",
    device: Annotated[str, typer.Option(help="auto, cuda, cuda:N or cpu")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16")] = "fp32",
    flips: Annotated[bool, typer.Option("--flips", help="analyse the mirrored picture as well, and average")] = False,
    scales: Annotated[str, typer.Option(help="sizes to analyse and average, such as 0.9,1,1.1")] = "1",
    onnx: Annotated[bool, typer.Option("--onnx", help="run the package's network.onnx with onnxruntime")] = False,
) -> None:
    """Analyse studies. A study that is not analysable is a result too and exits 0."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise typer.BadParameter(f"no such file or folder: {', '.join(map(str, missing))}")
    try:
        options = InferenceOptions(precision=precision, flips=flips, scales=parse_scales(scales))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    detector = (
        Detector(load_onnx_package(model), device="cpu", options=options)
        if onnx
        else Detector.load(model, device=device, options=options)
    )
    studies, unreadable = files_by_study(paths)
    for item in unreadable:
        messages.print(f"left out: {item.path}: {item.why}", markup=False)
    if not studies:
        raise typer.BadParameter("no DICOM file among the paths")
    failed = False
    for study_uid, files in studies.items():
        try:
            reading = detector.read_study(files)
        except Exception as error:  # one study must not end the others
            messages.print(f"failed: study {study_uid}: {type(error).__name__}: {error}", markup=False)
            failed = True
            continue
        print(reading.detection.dumps()) if as_json else _print_reading(reading)
        if png and reading.volume is not None:
            _write_png(png, reading)
    if failed:
        raise typer.Exit(1)


def _write_png(folder: Path, reading: StudyReading) -> None:
    assert reading.volume is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{reading.detection.study_uid}.png"
    path.write_bytes(png_bytes(render_overlay(reading.volume, reading.detection).image))
    messages.print(f"picture: {path}", markup=False)


def _print_reading(reading: StudyReading) -> None:
    detection = reading.detection
    print(f"study {detection.study_uid}: {detection.status}")
    for line in reading.selection.explanations:
        print(f"  {line}")
    if not detection.analysed:
        print(f"  reason: {detection.reason}: {detection.reason_detail}")
    else:
        console = Console()
        console.width = max(console.width, TABLE_WIDTH)
        console.print(findings_table(detection))
    for warning in detection.warnings:
        print(f"  warning: {warning}")


def findings_table(detection: Detection) -> Table:
    """The ten findings for a terminal."""
    table = Table("level", "structure", "class", "grade", "P(degenerative)", "column", "row", "confidence")
    for f in detection.findings:
        grade = f.grade.value if f.decided else f"{f.grade.value} (undecided)"
        point = (f"{f.x:.1f}", f"{f.y:.1f}")
        pfirrmann = "" if f.pfirrmann is None else str(f.pfirrmann.grade)
        said = (grade, pfirrmann, f"{f.probability:.2f}")
        table.add_row(f.level, f.structure.value, *said, *point, f"{f.localisation_confidence:.2f}")
    return table


@app.command()
def models() -> None:
    """The sixteen detectors of Table I with parameters, work at 640 x 640 and size of the weights in fp32.

    Below, each trunk as published (three colours, 1000 classes where it classifies) beside the published count.
    """
    print(f"{'name':<36}{'parameters':>12}{'GFLOP at 640':>14}{'weights':>12}")
    for name, config in BUILDERS.items():
        parameters, gflop = measure(config)
        print(f"{name:<36}{parameters / 1e6:>10.1f} M{gflop:>14.0f}{parameters * 4 / 2**20:>8.0f} MiB")
    print(f"\n{'trunk':<36}{'parameters':>12}{'published':>12}  where")
    for name, published in PUBLISHED.items():
        counted = as_published(name)
        print(f"{name:<36}{counted / 1e6:>10.2f} M{published.parameters / 1e6:>10.2f} M  {published.where}")


def measure(config: NetworkConfig) -> tuple[int, float]:
    """Parameters, and 10^9 floating-point operations of one 640 x 640 exam; a multiply-add counts as two. Nothing is computed.

    Both networks of a two-stage detector count, the classifier with its ten crops at 0.4375 mm.
    """
    with torch.device("meta"):
        network = build_network(config).eval()
        counter = FlopCounterMode(display=False)
        images = torch.empty(1, config.slices, 640, 640)
        with counter, torch.no_grad():
            network(images)
            if isinstance(network, TwoStage):
                network.classify(images, torch.empty(1, 10, 2), 0.4375)
    return count_parameters(network), counter.get_total_flops() / 1e9


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 bad usage or model."""
    try:
        app()
    except (ModelPackageError, DeviceError) as error:
        messages.print(f"spineone: {error}", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
