"""`explain`: what every series of some files is taken for, which one the node would read, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.analysis.explanation import explanation_of
from dicom_node.cli.options import JsonOption, log_errors_only
from dicom_node.cli.printing import print_json, print_lines, print_table
from dicom_node.errors import NodeError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from spineone_core.imaging.files import files_by_study
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import select_series
from spineone_core.imaging.series import group_series


def explain(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", exists=True, help="DICOM files or folders")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="settings file; without: defaults")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what every series is taken for, which one would be read, and why. Nothing is analysed or written."""
    log_errors_only()
    settings = load_settings(config) if config is not None else NodeSettings()
    studies, unreadable = files_by_study(paths)
    explained = []
    for study_uid, files in sorted(studies.items()):
        headers, no_images = read_headers(files)
        unreadable += no_images
        selection = select_series(group_series(headers), min_slices=settings.study.min_slices)
        explained.append({"study_uid": study_uid, **explanation_of(selection)})
    if not any(study["series"] for study in explained):
        raise NodeError("there is no image among the files")
    if as_json:
        print_json({"studies": explained, "no_images": [str(item.path) for item in unreadable]})
        return
    for study in explained:
        _print_study(study)
    # Why a file is no image may quote it, so only its name is printed.
    print_lines(*(f"no image: {item.path}" for item in unreadable))


def _print_study(study: dict[str, Any]) -> None:
    print_lines(f"study {study['study_uid']}: {verdict_of(study)}")
    print_series(study)


def verdict_of(explained: dict[str, Any]) -> str:
    """Which series is read, or why none is, out of an explanation (`analysis.explanation`)."""
    return f"{explained['reason']}: {explained['detail']}" if explained["reason"] else str(explained["detail"])


def print_series(explained: dict[str, Any], title: str = "", *, wide: bool = True) -> None:
    """Print what each series was taken for, which one is read and why not the others."""
    rows = []
    for series in explained["series"]:
        row = {key: value for key, value in series.items() if key not in ("series_uid", "notes", "above_lowest_mm")}
        height = [f"{series['above_lowest_mm']} mm above the lowest"] if series["above_lowest_mm"] else []
        short = {"number": row.pop("number"), "uid": f"…{series['series_uid'][-12:]}"}
        rows.append({**short, **row, "notes": "; ".join([*height, *series["notes"]])})
    print_table(title, rows, wide=wide)
    print_lines(*(f"  warning: {warning}" for warning in explained["warnings"]))
