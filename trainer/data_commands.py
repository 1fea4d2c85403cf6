"""``spineone-train inspect``, ``import`` and ``phantoms``: commands on data sets alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trainer.datasets import formats
from trainer.datasets.splits import read_splits
from trainer.inspection import Inspection
from trainer.pages import as_text

console = Console(stderr=True)


def inspect(
    data: Annotated[list[str], typer.Argument(help="folders, or FORMAT:FOLDER")],
    out: Annotated[Path | None, typer.Option(help="folder for inspection.json, .txt, .html and picture sheets")] = None,
    splits: Annotated[Path | None, typer.Option(help="count by part, and name exams in none")] = None,
) -> None:
    """Show what data sets hold and everything in them that looks wrong; changes nothing."""
    part_of = read_splits(splits) if splits else {}
    inspection = Inspection(f"Inspection of {', '.join(formats.name_of(source) for source in data)}", part_of)
    for source in data:
        inspection.look_at(formats.read(source))
    print(as_text(inspection.title, inspection.sections()))
    if out is not None:
        inspection.write(out)
        console.print(f"written: {out / 'inspection.html'}", highlight=False, soft_wrap=True)
