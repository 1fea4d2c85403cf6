"""``spineone-train inspect``, ``import``, ``split`` and ``phantoms``: the commands for data sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from spineone_core.phantom.config import DEFAULT_CONFIG, DEMO_CONFIG
from trainer.cli.arguments import AnnotationsOption, console, counted, stream_exams
from trainer.curation.html import as_text
from trainer.curation.importing import Imported, import_exams, write_phantoms
from trainer.curation.inspection import Inspection
from trainer.datasets import formats
from trainer.datasets.splits import PARTS, own_parts, read_splits
from trainer.datasets.splitting import split_patients, write_splits
from trainer.datasets.tables import DatasetError
from trainer.volumes import csi2014
from trainer.volumes.inspection import VolumeInspection


def inspect(
    data: Annotated[list[str], typer.Argument(help="folders, or FORMAT:FOLDER")],
    annotations: AnnotationsOption = None,
    out: Annotated[Path | None, typer.Option(help="folder for inspection.json, .txt, .html and picture sheets")] = None,
    splits: Annotated[
        Path | None,
        typer.Option(help="JSON: lists of PatientID by part; counts exams by part and names those in no part"),
    ] = None,
) -> None:
    """Show what data sets hold and everything in them that looks wrong; changes nothing."""
    title = f"Inspection of {', '.join(formats.name_of(source, annotations) for source in data)}"
    if annotations is None and _are_volumes(data):
        inspection: VolumeInspection | Inspection = _inspect_volumes(data, title)
    else:
        inspection = _inspect(data, title, splits, annotations)
    print(as_text(inspection.title, inspection.sections()))
    if out is not None:
        inspection.write(out)
        console.print(f"written: {out / 'inspection.html'}", highlight=False, soft_wrap=True)


def _are_volumes(data: list[str]) -> bool:
    found = {formats.parse(source)[0] == "csi2014" for source in data}
    if len(found) > 1:
        raise DatasetError("CT volumes and lumbar MRI cannot be inspected together")
    return found == {True}


def _inspect(data: list[str], title: str, splits: Path | None, annotations: Path | None) -> Inspection:
    inspection = Inspection(title, read_splits(splits) if splits else {})
    for source in data:
        name = formats.name_of(source, annotations)
        inspection.look_at(counted(formats.read(source, annotations=annotations), f"exams of {name} seen"))
    return inspection


def _inspect_volumes(data: list[str], title: str) -> VolumeInspection:
    inspection = VolumeInspection(title)
    for source in data:
        inspection.look_at(counted(csi2014.read(formats.parse(source)[1]), "scans seen"))
    return inspection


def import_(
    data: Annotated[list[str], typer.Argument(help="folders, or FORMAT:FOLDER")],
    out: Annotated[Path, typer.Option(help="folder in the SDID-TC layout; created, or continued")],
    annotations: AnnotationsOption = None,
) -> None:
    """Convert data sets into the SDID-TC layout: DICOM studies and one annotation.json. If killed, run it again to continue."""

    def tell(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    for source in data:
        formats.parse(source, annotations)
    for source in data:
        _say(import_exams(partial(formats.read, source, annotations=annotations), out, tell), out)


def split(
    data: Annotated[list[str], typer.Argument(help="folders, or FORMAT:FOLDER")],
    out: Annotated[Path, typer.Option(help="split file to write; it must not be there yet")],
    own: Annotated[
        bool, typer.Option("--own", help="the parts that the data sets bring along (SPIDER's column subset)")
    ] = False,
    train: Annotated[float, typer.Option(min=0, help="share of the patients")] = 0.7,
    validation: Annotated[float, typer.Option(min=0, help="share that chooses the best epoch")] = 0.1,
    calibration: Annotated[float, typer.Option(min=0, help="share for calibrate")] = 0.1,
    test: Annotated[float, typer.Option(min=0, help="share for the figures that are reported")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="another seed, another split")] = 0,
) -> None:
    """Divide the patients of data sets into parts, by default at random, and write the file for --splits.

    A part with 0 stays empty.
    """
    exams = counted(stream_exams(data), "exams seen")
    if own:
        part_of = own_parts(exams)
    else:
        shares = dict(zip(PARTS, (train, validation, calibration, test), strict=True))
        part_of = split_patients({exam.patient for exam in exams}, shares, seed)
    write_splits(out, part_of)
    print(f"{out}: {', '.join(f'{list(part_of.values()).count(part)} {part}' for part in PARTS)} patients")


def phantoms(
    out: Annotated[Path, typer.Option(help="folder in the SDID-TC layout; created, or continued")],
    count: Annotated[int, typer.Option(min=1, help="how many phantoms")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="seed of the first phantom; the others follow")] = 0,
    tidy: Annotated[
        bool, typer.Option("--tidy", help="the demo's usual scanner in place of the whole variety")
    ] = False,
    companions: Annotated[bool, typer.Option("--companions", help="T1, localiser and axial series as well")] = False,
) -> None:
    """Write procedural phantoms as DICOM studies with their true keypoints and classes, in the SDID-TC layout."""
    config = DEMO_CONFIG if tidy else DEFAULT_CONFIG
    _say(write_phantoms(range(seed, seed + count), out, config=config, companions=companions), out)


def _say(done: Imported, out: Path) -> None:
    print(f"{out}: {done.written} exams written, {done.present} were there, {len(done.skipped)} left out")
