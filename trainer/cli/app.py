"""``spineone-train``: the commands, and how they end."""

from __future__ import annotations

import sys

import typer

from spineone_core.detection.model_package import ModelPackageError
from spineone_core.version import add_version_option
from trainer.cli import compare, data, fit, grades, model, refusals, results
from trainer.cli.arguments import UsageError, console
from trainer.cli.reproduce import reproduce
from trainer.datasets.splits import SplitError
from trainer.datasets.tables import DatasetError
from trainer.datasets.volume_files import MissingLibraryError
from trainer.evaluation.calibration import CalibrationError
from trainer.training.run_folder import TrainingError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train and evaluate SpineOne; see docs/training.md.",
)
add_version_option(app, "spineone-train")
app.command()(fit.fit)
app.command()(compare.compare)
app.command()(reproduce)
app.command()(data.inspect)
app.command("import")(data.import_)
app.command()(data.phantoms)
app.command()(data.split)
app.command()(model.evaluate)
app.command()(model.calibrate)
app.command()(model.package)
app.command()(refusals.domain)
app.command()(refusals.refusals)
app.command()(results.results)
app.command()(grades.grades)


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 bad usage."""
    try:
        app(standalone_mode=True)
    except (UsageError, SplitError, DatasetError, MissingLibraryError, FileNotFoundError, ModelPackageError) as error:
        console.print(f"spineone-train: {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except (TrainingError, CalibrationError) as error:
        console.print(f"spineone-train: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
