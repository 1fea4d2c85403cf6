"""``spineone-train compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.arguments import console
from trainer.training.comparison import Comparison, read_run


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders")],
    out: Annotated[Path | None, typer.Option(help="folder for comparison.html, with curves, and .json")] = None,
) -> None:
    """Show what each run reached and in which settings they differ."""
    comparison = Comparison(tuple(map(read_run, runs)))
    print(comparison.text())
    if out is not None:
        comparison.write(out)
        console.print(f"written: {out / 'comparison.html'}", highlight=False, soft_wrap=True)
