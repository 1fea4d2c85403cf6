"""`process` and `demo`: analysing files without a node, and taking an exam through a whole node on this machine."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.analysis.detector import load_detector
from dicom_node.analysis.patient import TwoPatientsError
from dicom_node.cli.options import log_errors_only
from dicom_node.cli.printing import print_analysis
from dicom_node.errors import NodeError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings


def process(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="DICOM files or folders")],
    out: Annotated[Path, typer.Option("--out", help="folder for the results", file_okay=False)],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="settings file; without: defaults")] = None,
) -> None:
    """Analyse DICOM files without network or database: SR, overlay, picture and findings.json for each study."""
    # This loads highdicom and SciPy.
    from dicom_node.analysis.offline import audit_offline, find_studies, process_study

    log_errors_only()
    settings = load_settings(config) if config is not None else NodeSettings()
    found = find_studies(paths)
    for path, why in found.skipped:
        print(f"skipped: {path}: {why}", file=sys.stderr)
    if not found.studies:
        raise NodeError("there is no DICOM study among the files")
    detector = load_detector(settings)
    put_aside = 0
    for study_uid, inputs in sorted(found.studies.items()):
        try:
            analysis = process_study(detector, study_uid, inputs, settings, out, datetime.now(UTC))
        except TwoPatientsError as error:
            print(f"put aside: {study_uid}: {error}", file=sys.stderr)
            put_aside += 1
            continue
        print_analysis(analysis, out / study_uid)
        if config is not None:
            audit_offline(settings, study_uid, inputs, analysis, out)
    if put_aside:
        raise typer.Exit(1)


def demo(
    study: Annotated[
        Path | None, typer.Option("--study", exists=True, help="exam to send instead of the phantom")
    ] = None,
    pacs: Annotated[
        str | None, typer.Option("--pacs", help="AET@host:port of a PACS to use instead of the built-in one")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for the received results")] = None,
) -> None:
    """Show the whole way of an exam: start a node, send it an exam by C-STORE, and receive report and overlay."""
    # This loads SciPy, which the phantom needs.
    from dicom_node.demo import run_demo

    raise typer.Exit(run_demo(study=study, pacs=pacs, out=out))
