"""How commands print lists, tables and the findings of an analysis."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dicom_node.cli.tables import shown, table_of
from dicom_node.health.wording import reason_beside, with_result

if TYPE_CHECKING:  # this module loads what only the worker needs
    from dicom_node.analysis.analyse import Analysis

# Wide enough for most tables if the output is no terminal; `COLUMNS` says another width, `--wide` needs none.
_WIDTH_OF_A_PIPE = 160
# No table is as wide.
_ANY_WIDTH = 100_000
# What a table of studies shows; `--json` has more.
_STUDY_COLUMNS = (
    "study_uid",
    # Only where the settings let them be shown.
    "patient_id",
    "accession",
    "state",
    "reason",
    "instances",
    "job",
    "sent",
    "proven",
    "to_send",
    "not_sent",
    "last_received_at",
)


def in_brief(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table of studies, out of all that `overview.study_list` says of them."""
    words = [
        {"state": with_result(s["state"], s["result"]), "reason": reason_beside(s["state"], s["reason"])}
        for s in studies
    ]
    kept = [{key: study[key] for key in _STUDY_COLUMNS if key in study} for study in studies]
    return [{**study, **said} for study, said in zip(kept, words, strict=True)]


def print_json(value: Any) -> None:
    """Print plain values as indented JSON."""
    print(json.dumps(value, indent=2))


def print_lines(*lines: str) -> None:
    """Print lines that the terminal may wrap, without markup: reasons and subjects may hold brackets."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(shown(line))


def print_list(title: str, rows: list[dict[str, Any]], as_json: bool, *, wide: bool = False) -> None:
    """Print rows as JSON or as a table; say so if there are none."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table(title, rows, wide=wide)
    else:
        print(f"no {title}")


def print_table(title: str, rows: list[dict[str, Any]], *, wide: bool = False) -> None:
    """Print rows with the same keys as a table that fits the terminal; print nothing if there are none.

    ``wide`` prints every column and every UID whole, however wide the terminal is.
    """
    if not rows:
        return
    console = Console(highlight=False, markup=False, width=_ANY_WIDTH if wide else _width())
    table, left_out = table_of(title, rows, console.width, wide=wide)
    console.print()
    console.print(table)
    if left_out:
        print_lines(f"no room for: {', '.join(left_out)} (--wide)")


def _width() -> int | None:
    """Columns of a table; None for those of the terminal."""
    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return None if is_known else _WIDTH_OF_A_PIPE


def print_analysis(analysis: Analysis, folder: Path) -> None:
    """Print the findings of one study, its warnings, and the files written into ``folder``."""
    detection = analysis.detection
    if detection.reason is not None:
        print(shown(f"{detection.study_uid}: not analysable: {detection.reason.value}: {detection.reason_detail}"))
    else:
        print(f"{detection.study_uid}: analysed")
    for finding in detection.findings:
        grade = finding.grade.value if finding.decided else f"undecided ({finding.grade.value})"
        print(f"  {finding.level:6} {finding.structure.value:9} {grade:24} {finding.probability:.2f}")
    for warning in detection.warnings:
        print(shown(f"  warning: {warning}"))
    # The second form of the report is made, but not written for a person.
    for path in (folder / product.name for product in analysis.products):
        if path.is_file():
            print(f"  {path}")
