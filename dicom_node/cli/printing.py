"""How commands print lists, tables and the findings of an analysis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dicom_node.system.log import printable

if TYPE_CHECKING:  # this module loads what only the worker needs
    from dicom_node.analysis.analyse import Analysis

# Wide enough for a UID beside a reason, even if the output is a pipe.
_TABLE_WIDTH = 160
_LONGEST = 10_000
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


def _shown(value: object) -> str:
    """A value as one line without control characters: what a peer or a file says must not steer the terminal."""
    return printable(value, _LONGEST)


def in_brief(studies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table of studies, out of all that `overview.study_list` says of them."""
    return [{key: study[key] for key in _STUDY_COLUMNS if key in study} for study in studies]


def print_json(value: Any) -> None:
    """Print plain values as indented JSON."""
    print(json.dumps(value, indent=2))


def print_lines(*lines: str) -> None:
    """Print lines that the terminal may wrap, without markup: reasons and subjects may hold brackets."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(_shown(line))


def print_list(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as JSON or as a table; say so if there are none."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table(title, rows)
    else:
        print(f"no {title}")


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows with the same keys as a table; print nothing if there are none."""
    if not rows:
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _shown(value) for value in row.values()))
    Console(highlight=False, markup=False, width=max(_TABLE_WIDTH, Console().width)).print(table)


def print_analysis(analysis: Analysis, folder: Path) -> None:
    """Print the findings of one study, its warnings, and the files written into ``folder``."""
    detection = analysis.detection
    if detection.reason is not None:
        print(_shown(f"{detection.study_uid}: not analysable: {detection.reason.value}: {detection.reason_detail}"))
    else:
        print(f"{detection.study_uid}: analysed")
    for finding in detection.findings:
        grade = finding.grade.value if finding.decided else f"undecided ({finding.grade.value})"
        print(f"  {finding.level:6} {finding.structure.value:9} {grade:24} {finding.probability:.2f}")
    for warning in detection.warnings:
        print(_shown(f"  warning: {warning}"))
    # The second form of the report is made, but not written for a person.
    for path in (folder / product.name for product in analysis.products):
        if path.is_file():
            print(f"  {path}")
