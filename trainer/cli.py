"""``spineone-train``: the commands, and how they end."""

from __future__ import annotations

import sys

import typer

from spineone_core.detection.model_package import ModelPackageError
from trainer import data_commands, model_commands, refusal_commands, results_command, training_commands
from trainer.arguments import UsageError, console
from trainer.calibrate import CalibrationError
from trainer.datasets.splits import SplitError
from trainer.datasets.tables import DatasetError
from trainer.datasets.volume_files import MissingLibraryError
from trainer.reproduce.command import reproduce
from trainer.run_folder import TrainingError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train and evaluate SpineOne; see docs/training.md.",
)
app.command()(training_commands.fit)
app.command()(reproduce)
app.command()(data_commands.inspect)
app.command("import")(data_commands.import_)
app.command()(data_commands.phantoms)
app.command()(model_commands.evaluate)
app.command()(model_commands.calibrate)
app.command()(model_commands.package)
app.command()(refusal_commands.domain)
app.command()(refusal_commands.refusals)
app.command()(results_command.results)


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


if __name__ == "__main__":
    main()
